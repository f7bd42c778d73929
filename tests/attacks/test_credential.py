"""A token, a proof or a grant in the wrong hands, at the wrong time or for the wrong thing."""
# ruff: noqa: ANN401 - `changes` are of any type

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from credential import (
    Claims,
    Keys,
    Malformed,
    Refused,
    Seen,
    base64url,
    check,
    crypto,
    grant,
    keys,
)
from credential.check import SKEW
from credential.grant import Grant
from tests.credential.world import (
    CLAIMS,
    KEYS,
    KID,
    LISTS,
    NOW,
    OTHER_KEY,
    TOKEN,
    URL,
    USE_KEY,
    VERIFIER_KEY,
    accept,
    make_proof,
    make_token,
    parts_of,
    reasons,
    sign_payload,
)


def refusal_of(token: str, proof: str | None, **changes: Any) -> list[str]:
    with pytest.raises((Malformed, Refused)) as refusal:
        accept(token, proof, **changes)
    return reasons(refusal.value)


def with_use_key(token: str, key: crypto.PrivateKey) -> dict[str, Any]:
    """The token's claims, naming another use key."""
    return {**parts_of(token)[1], "cnf": {"jwk": keys.to_jwk(crypto.point_of(key))}}


@pytest.mark.attack(number=84, attacker="whoever carries the token", asset="the credential")
@pytest.mark.parametrize("signer", ["nobody", "the thief", "the use key"])
def test_use_key_substituted(signer: str) -> None:
    """A token whose `cnf` is the thief's, under the old signature or under one of his own."""
    payload = with_use_key(TOKEN, OTHER_KEY)
    key = {"the thief": OTHER_KEY, "the use key": USE_KEY}.get(signer, VERIFIER_KEY)
    token = sign_payload(payload, key, typ="wit+jwt", kid=KID)
    if signer == "nobody":
        token = ".".join([*token.split(".")[:2], TOKEN.split(".")[2]])
    assert refusal_of(token, make_proof(token, key=OTHER_KEY)) == ["token.signature-invalid"]


@pytest.mark.attack(number=84, attacker="whoever carries the token", asset="the credential")
def test_use_key_with_its_private_half_or_of_another_kind() -> None:
    jwk = keys.to_jwk(crypto.point_of(USE_KEY))
    for wrong in ({**jwk, "d": "AAAA"}, {**jwk, "kid": "a"}, {**jwk, "alg": "none"}, {"kid": "a"}):
        payload = {**parts_of(TOKEN)[1], "cnf": {"jwk": wrong}}
        token = sign_payload(payload, VERIFIER_KEY, typ="wit+jwt", kid=KID)
        assert refusal_of(token, make_proof(token)) == ["token.malformed"]


@pytest.mark.attack(number=85, attacker="whoever copied the token", asset="the credential")
def test_token_copied_to_another_host() -> None:
    assert refusal_of(TOKEN, None) == ["proof.missing"]
    assert refusal_of(TOKEN, "") == ["proof.missing"]
    assert refusal_of(TOKEN, make_proof(key=OTHER_KEY)) == ["proof.signature-invalid"]
    assert refusal_of(TOKEN, TOKEN) == ["proof.malformed"]


@pytest.mark.attack(number=85, attacker="a sibling process", asset="the credential")
def test_token_copied_with_the_proof_of_ones_own_token() -> None:
    """The thief has a credential of his own, and shows its proof with somebody else's token."""
    own = make_token(use_key=crypto.point_of(OTHER_KEY), id="spiffe://example.org/sibling")
    assert refusal_of(TOKEN, make_proof(own, key=OTHER_KEY)) == ["proof.signature-invalid"]


@pytest.mark.attack(number=85, attacker="the process itself", asset="the credential")
def test_token_after_its_time() -> None:
    after = CLAIMS.expires + SKEW
    assert refusal_of(TOKEN, make_proof(now=after), now=after) == ["token.expired"]


@pytest.mark.attack(number=85, attacker="the process itself", asset="the credential")
def test_proof_made_for_the_token_before_its_renewal() -> None:
    renewed = make_token(jti="cmVuZXdlZC1yZW5ld2Vk")
    assert refusal_of(renewed, make_proof(TOKEN)) == ["proof.of-another-token"]


@pytest.mark.attack(number=85, attacker="another verifier", asset="the credential")
def test_token_of_another_verifier_or_trust_domain() -> None:
    other = make_token(key=OTHER_KEY)
    assert refusal_of(other, make_proof(other)) == ["token.signature-invalid"]
    other = make_token(key=OTHER_KEY, kid="another")
    assert refusal_of(other, make_proof(other)) == ["token.key-unknown"]
    elsewhere = Keys.of("example.com", [(KID, KEYS.points[KID])])
    assert refusal_of(TOKEN, make_proof(), keys=elsewhere) == ["token.of-another-trust-domain"]


@pytest.mark.attack(number=103, attacker="whoever hears a request", asset="the credential")
def test_proof_replayed() -> None:
    seen, proof = Seen(), make_proof()
    assert accept(TOKEN, proof, seen=seen) == CLAIMS
    for seconds in (0, 59, 89):
        now = NOW + timedelta(seconds=seconds)
        assert refusal_of(TOKEN, proof, seen=seen, now=now) == ["proof.replayed"]
    now = NOW + timedelta(seconds=90)
    assert refusal_of(TOKEN, proof, seen=seen, now=now) == ["proof.late"]


@pytest.mark.attack(number=103, attacker="whoever hears a request", asset="the credential")
def test_proof_replayed_with_a_signature_that_is_as_good() -> None:
    """Of an ECDSA signature (r, s), (r, n - s) is one too; the proof is still the same."""
    seen, proof = Seen(), make_proof()
    accept(TOKEN, proof, seen=seen)
    head, _, signature = proof.rpartition(".")
    r, s = base64url.decode(signature)[:32], base64url.decode(signature)[32:]
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = r + (order - int.from_bytes(s, "big")).to_bytes(32, "big")
    forged = f"{head}.{base64url.encode(other)}"
    assert accept(TOKEN, forged) == CLAIMS
    assert refusal_of(TOKEN, forged, seen=seen) == ["proof.replayed"]


@pytest.mark.attack(number=103, attacker="whoever hears a request", asset="the credential")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"url": URL + "/x"}, "proof.of-another-url", id="another path"),
        pytest.param({"url": URL.upper()}, "proof.of-another-url", id="a path in capitals"),
        pytest.param({"url": URL + "/"}, "proof.of-another-url", id="a slash more"),
        pytest.param({"url": "http://ledger.example.org/post"}, "proof.of-another-url", id="http"),
        pytest.param(
            {"url": "https://ledger.example.org:8443/post"}, "proof.of-another-url", id="port"
        ),
        pytest.param(
            {"url": "https://ledger.example.org.evil.example/post"},
            "proof.of-another-url",
            id="another host",
        ),
        pytest.param({"method": "DELETE"}, "proof.of-another-method", id="another method"),
        pytest.param({"method": "post"}, "proof.of-another-method", id="small letters"),
    ],
)
def test_proof_for_another_request(changes: dict[str, str], reason: str) -> None:
    assert refusal_of(TOKEN, make_proof(), **changes) == [reason]


@pytest.mark.attack(number=103, attacker="another relying party", asset="the credential")
def test_proof_passed_on_to_another_relying_party() -> None:
    """Both are among the token's audiences; one shows the other what it has received."""
    both = ("https://ledger.example.org", "https://audit.example.org")
    token = make_token(audiences=both)
    proof = make_proof(token)
    assert refusal_of(token, proof, audience=both[1]) == ["proof.of-another-audience"]


@pytest.mark.attack(number=103, attacker="the process itself", asset="the credential")
def test_audience_that_the_credential_is_not_for() -> None:
    other = "https://audit.example.org"
    proof = make_proof(audience=other)
    assert refusal_of(TOKEN, proof, audience=other) == ["token.audience-not-allowed"]


@pytest.mark.attack(number=103, attacker="a host with a wrong clock", asset="the credential")
@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(-31, "proof.late"), (-30, None), (30, None), (31, "proof.early")],
)
def test_proof_by_a_clock_that_is_apart(seconds: int, reason: str | None) -> None:
    """A late proof is made 59 seconds before; within the skew, late and early ones are let in."""
    now = NOW + timedelta(minutes=5)
    age = timedelta(seconds=59 if seconds < 0 else 0)
    proof = make_proof(now=now + timedelta(seconds=seconds) - age)
    if reason is None:
        assert accept(TOKEN, proof, now=now) == CLAIMS
    else:
        assert refusal_of(TOKEN, proof, now=now) == [reason]


@pytest.mark.attack(number=103, attacker="the process itself", asset="the credential")
def test_proof_that_would_live_for_an_hour() -> None:
    payload = {**parts_of(make_proof())[1]}
    payload["exp"] = payload["iat"] + 3600
    proof = sign_payload(payload, USE_KEY, typ="wpt+jwt")
    assert refusal_of(TOKEN, proof) == ["proof.lives-too-long"]


SEALED = grant.seal_token(
    Grant(
        node="build-7",
        key_name=b"\x00\x0b" + b"k" * 32,
        core=b"c" * 32,
        challenge=b"q" * 32,
        lease_seconds=300,
        step=0,
        id_object=b"id",
        encrypted_secret=b"secret",
    ),
    TOKEN,
    key=b"0" * 32,
    nonce=b"n" * 12,
)


def refused_grant(text: str) -> list[str]:
    with pytest.raises((Malformed, Refused)) as refusal:
        grant.read(
            text, KEYS, node=SEALED.node, key_name=SEALED.key_name, core=SEALED.core,
            challenge=SEALED.challenge, next_step=0,
        )  # fmt: skip
    return reasons(refusal.value)


@pytest.mark.attack(number=132, attacker="another verifier", asset="the process key")
def test_grant_of_another_verifier() -> None:
    other = grant.sign(SEALED, key=OTHER_KEY, kid=KID)
    assert refused_grant(other) == ["grant.signature-invalid"]
    other = grant.sign(SEALED, key=OTHER_KEY, kid="another")
    assert refused_grant(other) == ["grant.key-unknown"]


@pytest.mark.attack(number=132, attacker="whoever copied the grant", asset="the process key")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"node": "build-8"}, "grant.of-another-node", id="another node"),
        pytest.param({"key_name": b"\x00\x0b" + b"x" * 32}, "grant.of-another-key", id="key"),
        pytest.param({"core": b"x" * 32}, "grant.of-another-record", id="another process"),
        pytest.param({"challenge": b"x" * 32}, "grant.of-another-challenge", id="replayed"),
        pytest.param(
            {"step": 1, "id_object": b"", "encrypted_secret": b""},
            "grant.of-another-step",
            id="a renewal for a new process",
        ),
    ],
)
def test_grant_for_something_else(changes: dict[str, Any], reason: str) -> None:
    text = grant.sign(replace(SEALED, **changes), key=VERIFIER_KEY, kid=KID)
    assert refused_grant(text) == [reason]


@pytest.mark.attack(number=132, attacker="whoever copied the grant", asset="the process key")
def test_grant_of_another_version() -> None:
    payload = base64url.decode(grant.sign(SEALED, key=VERIFIER_KEY, kid=KID).split(".")[1])
    earlier = payload.replace(b"procseal grant 1", b"procseal grant 0")
    text = sign_payload(earlier, VERIFIER_KEY, typ="procseal-grant+jws", kid=KID)
    assert refused_grant(text) == ["grant.malformed"]


@pytest.mark.attack(number=132, attacker="whoever copied the grant", asset="the credential")
def test_ciphertext_moved_into_a_grant_of_ones_own() -> None:
    moved = replace(SEALED, node="build-8", core=b"x" * 32)
    with pytest.raises(Refused) as refusal:
        grant.open_token(moved, key=b"0" * 32)
    assert reasons(refusal.value) == ["grant.does-not-open"]


@pytest.mark.attack(number=134, attacker="a machine whose boot is not proven", asset="the access")
@pytest.mark.parametrize("minimum", ["lab", "L1", "L2", "L3", "L4"])
def test_level_lab_at_a_relying_party_that_did_not_allow_it(minimum: str) -> None:
    token = make_token(level="lab")
    assert refusal_of(token, make_proof(token), minimum=minimum) == ["token.level-lab"]


@pytest.mark.attack(number=134, attacker="a machine whose boot is not proven", asset="the access")
def test_relying_party_that_names_no_minimum() -> None:
    """It is not asked what it meant: without a minimum there is no answer."""
    request: dict[str, Any] = {
        "keys": KEYS, "method": "POST", "url": URL, "now": NOW, "seen": Seen(), "status": LISTS,
    }  # fmt: skip
    named: dict[str, Any] = {"audience": "https://ledger.example.org"}
    with pytest.raises(TypeError, match="minimum"):
        check(TOKEN, make_proof(), **request, **named)
    wrong: tuple[Any, ...] = (None, "", "L0", "any")
    for minimum in wrong:
        with pytest.raises(ValueError, match="minimum"):
            check(TOKEN, make_proof(), **request, **named, minimum=minimum)
    assert isinstance(check(TOKEN, make_proof(), **request, **named, minimum="L2"), Claims)


@pytest.mark.attack(number=134, attacker="a machine whose boot is not proven", asset="the access")
def test_level_below_the_minimum() -> None:
    token = make_token(level="L1")
    assert refusal_of(token, make_proof(token)) == ["token.level-below-minimum"]
