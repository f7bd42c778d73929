"""The doors, over real sockets: TLS outside, a UNIX socket inside."""

import json
import os
import ssl
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from credential import Keys
from evidence import cbor
from evidence.messages import Challenge
from evidence.shapes import Message
from tests.open_doors import Door, Refused, open_doors, trusting
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import NOW, TRUST_DOMAIN, SimulatedNode
from tests.simulated_process import IDENTITY
from verifier import Reason, case, client
from verifier.config import Misconfigured
from verifier.doors.operators import operators_socket
from verifier.doors.protection import Protection
from verifier.doors.routes import ROUTES
from verifier.hints import NEXT
from verifier.init import issue_certificate
from verifier.keys import make_authority, make_private

CBOR = {"Content_Type": "application/cbor"}


@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[RunningVerifier]:
    running = RunningVerifier(tmp_path, most_message_bytes=4096, most_evidence_bytes=100_000)
    yield running
    running.close()


@pytest.fixture
def door(verifier: RunningVerifier) -> Iterator[Door]:
    with open_doors(verifier.service) as door:
        yield door


def refusal(door: Door, method: str, path: str, body: bytes = b"", **headers: str) -> Refused:
    status, answer = door.request(method, path, body, **headers)
    return Refused(status, json.loads(answer))


def test_a_node_enrols_and_attests_over_tls(tmp_path: Path, verifier: RunningVerifier) -> None:
    ca_key = make_private(tmp_path / "ca.key")
    now = datetime.now(UTC)  # TLS libraries know no other
    (tmp_path / "ca.pem").write_bytes(make_authority(ca_key, trust_domain=TRUST_DOMAIN, now=now))
    issue_certificate("localhost", ["localhost"], directory=tmp_path, target=tmp_path, now=now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "localhost.pem", tmp_path / "localhost.key")
    node = SimulatedNode()
    verifier.trust(node)
    client_side = trusting(tmp_path / "ca.pem")
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    with open_doors(verifier.service, server=context, client=client_side) as door:
        player = Player(node, verifier.service, door)
        player.enrol()
        player.attest()
        process = node.new_process()
        assert door.wanted(node.wanted(process)).core == process.core.digest()
        player.attest([process])
        assert player.claims(process).id == IDENTITY
        assert door.gone(node.gone(process)).key_names == (process.key_name,)
        with pytest.raises(ssl.SSLCertVerificationError):
            Door(door.port, ssl.create_default_context()).request("GET", "/v1/keys")


def test_keys_and_trust_domain_are_public(door: Door, verifier: RunningVerifier) -> None:
    status, body = door.request("GET", "/v1/keys")
    assert status == 200
    keys = Keys.read(body, trust_domain=TRUST_DOMAIN)
    assert dict(keys.points) == {verifier.service.keys.wit.kid: verifier.service.keys.wit.point}
    told = json.loads(door.request("GET", "/v1/trust-domain")[1])
    assert told["trust_domain"] == TRUST_DOMAIN
    assert told["issuer"] == verifier.config.issuer
    grants = Keys.read(json.dumps(told["grant_keys"]), trust_domain=TRUST_DOMAIN)
    assert list(grants.points) == [verifier.service.keys.grant.kid]


def test_a_refusal_says_why_and_what_next(door: Door) -> None:
    with pytest.raises(Refused) as refused:
        door.challenge(SimulatedNode().challenge_request())
    assert refused.value.status == 403
    (finding,) = refused.value.verdict["findings"]
    assert refused.value.verdict["verdict"] == "refused"
    assert finding["reason"] == Reason.NODE_UNKNOWN
    assert finding["next"] == "attestor enrol"
    assert set(finding) == {"reason", "what", "expected", "found", "next"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_what_is_malformed_is_400_everywhere(door: Door, route: object) -> None:
    path: str = route.path  # type: ignore[attr-defined]
    bombs = [b"\x9a\x00\x01\xff\xff" + b"\x80" * 4000, b"\x81" * 4000]
    for body in (b"", b"junk", b"\x80", cbor.encode(["procseal enrol 2"]), *bombs):
        refused = refusal(door, "POST", path, body, **CBOR)
        assert refused.status == 400
        assert refused.reasons == {"malformed.message"}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no content type"),
        pytest.param({"Content_Type": "application/json"}, id="another content type"),
        pytest.param({**CBOR, "Content_Encoding": "gzip"}, id="compressed"),
        pytest.param({**CBOR, "Content_Encoding": "identity"}, id="any content encoding"),
    ],
)
def test_a_body_has_one_form(door: Door, headers: dict[str, str]) -> None:
    body = SimulatedNode().enrol_message().encode()
    assert refusal(door, "POST", "/v1/enrol", body, **headers).status == 400


def test_a_body_has_a_length(door: Door) -> None:
    chunked = {**CBOR, "Transfer_Encoding": "chunked"}
    assert refusal(door, "POST", "/v1/enrol", b"0\r\n\r\n", **chunked).status == 400


def test_a_body_has_a_bound(door: Door) -> None:
    assert refusal(door, "POST", "/v1/enrol", bytes(4097), **CBOR).status == 413
    assert refusal(door, "POST", "/v1/evidence", bytes(4097), **CBOR).status == 400
    refused = refusal(door, "POST", "/v1/evidence", bytes(100_001), **CBOR)
    assert refused.status == 413
    assert refused.reasons == {"malformed.too-large"}


def test_other_paths_and_methods_are_refused(door: Door) -> None:
    assert refusal(door, "GET", "/v1/none").status == 404
    assert refusal(door, "GET", "/v1/enrol").status == 405
    assert refusal(door, "POST", "/node_list", b"{}").status == 404


def test_a_failure_decides_nothing_and_says_nothing(
    door: Door, verifier: RunningVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    verifier.config.allow_list.write_text("a line that is none: secret-of-the-operator\n")
    with pytest.raises(Refused) as refused:
        door.enrol(SimulatedNode().enrol_message())
    assert refused.value.status == 503
    assert refused.value.verdict == {"verdict": "unknown", "findings": []}
    assert "secret-of-the-operator" not in str(refused.value.verdict)
    assert "nothing decided" in caplog.text
    assert not verifier.ledger()


def test_an_inner_message_of_another_type_is_malformed(
    door: Door, verifier: RunningVerifier
) -> None:
    node = SimulatedNode()
    verifier.trust(node)
    Player(node, verifier.service).enrol()
    request = node.challenge_request()
    for call in (door.evidence, door.gone, door.wanted):
        with pytest.raises(Refused) as refused:
            call(request)
        assert refused.value.status == 400
    forged = replace(request, signature=bytes(64))
    with pytest.raises(Refused) as refused:
        door.challenge(forged)
    assert refused.value.reasons == {Reason.MESSAGE_SIGNATURE}


def test_every_route_states_its_protection() -> None:
    assert {route.path for route in ROUTES if route.protection is Protection.NOTHING} == set()
    assert all(issubclass(route.request, Message) for route in ROUTES)


def test_every_hint_is_of_a_reason() -> None:
    first_words = {str(reason).partition(".")[0] for reason in Reason}
    odd = {key for key in NEXT if not isinstance(key, Reason)} - first_words
    assert not odd


# The operators' door


def test_operators_ask_over_a_socket_of_their_own(door: Door, verifier: RunningVerifier) -> None:
    assert door.port
    path = verifier.config.socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == os.getuid()
    node = SimulatedNode()
    answer = client.call(path, "put", kind=case.REFERENCE, text=node.reference_toml()[0])
    assert answer == {"kind": "reference", "name": "debian-12", "version": 2, "revoked": 0}
    assert client.call(path, "status")["policy_version"] == 2
    with pytest.raises(client.Refused) as refused:
        client.call(path, "node_approve", node="build-7")
    assert not refused.value.is_malformed
    assert refused.value.verdict["findings"][0]["reason"] == Reason.NODE_UNKNOWN


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("no_such_verb", {}),
        ("__init__", {}),
        ("_change", {}),
        ("node_approve", {}),
        ("node_approve", {"node": 1}),
        ("node_approve", {"node": "a", "more": "b"}),
        ("node_approve", {"self": "a", "node": "b"}),
        ("node_approve_instance", {"node": "a", "instance": "b"}),
        ("ledger", {"most": True}),
        ("ledger", {"most": 0}),
        ("put", {"kind": "poem", "text": "roses"}),
        ("put", {"kind": "kernel-policy", "text": "measure # \udccf"}),
        ("node_approve", {"node": "\udccf"}),
    ],
)
def test_operators_call_verbs_with_their_arguments(
    door: Door, verifier: RunningVerifier, verb: str, arguments: dict[str, object]
) -> None:
    assert door.port
    with pytest.raises(client.Refused) as refused:
        client.call(verifier.config.socket, verb, **arguments)
    assert refused.value.is_malformed


def test_nobody_there_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(client.Unreachable):
        client.call(tmp_path / "none.sock", "status")


def test_the_socket_of_a_killed_verifier_is_taken_over_and_that_of_a_living_one_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run" / "verifier.sock"
    operators_socket(path).close()
    assert path.is_socket()
    listening = operators_socket(path)
    listening.listen()
    with pytest.raises(Misconfigured, match="another verifier"):
        operators_socket(path)
    listening.close()
    path.unlink()
    path.touch()
    with pytest.raises(Misconfigured, match="no socket"):
        operators_socket(path)


def test_a_challenge_over_the_door_is_one_of_the_service(
    door: Door, verifier: RunningVerifier
) -> None:
    node = SimulatedNode()
    verifier.trust(node)
    player = Player(node, verifier.service, door)
    player.enrol()
    challenge = player.challenge()
    assert isinstance(challenge, Challenge)
    assert challenge.expires == int(NOW.timestamp()) + 60
    assert (challenge.first_record, challenge.wants_boot_log) == (0, True)
