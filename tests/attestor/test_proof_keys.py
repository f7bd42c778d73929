"""Who signs a process's proofs: its attestor, the TPM, or the process; with real ones of each."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from credential import (
    Claims,
    DPoP,
    Keys,
    Malformed,
    Nonces,
    Refused,
    Seen,
    base64url,
    check,
    crypto,
    local,
    presentation,
)
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.puppets import Puppet, reasons
from tests.attestor.world import ATTACHED_ID, AUDIENCE, TRUST_DOMAIN, World, open_world, workload
from tests.open_doors import Door, trusting

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]

IDS = {"attestor": ATTACHED_ID} | {
    kind: f"spiffe://{TRUST_DOMAIN}/{kind}" for kind in ("tpm", "process")
}
URL = f"{AUDIENCE}/post"
NONCES = Nonces(b"n" * 32)


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    with open_world(manufacturer, make_tpm(), user_requests_per_minute=6000) as one:
        for kind in ("tpm", "process"):
            text = f'proof_key = "{kind}"\n{workload(IDS[kind])}'
            one.operator("put", kind="workload", text=text)
        yield one


@pytest.fixture(scope="module")
def keys(world: World) -> Keys:
    tls = trusting(world.directory / "ca.pem")
    tls.check_hostname = False  # the certificate is for 127.0.0.1
    _, body = Door(world.port, tls).request("GET", "/v1/keys")
    return Keys.read(body, trust_domain=TRUST_DOMAIN)


@pytest.fixture
def puppet(world: World) -> Iterator[Puppet]:
    with world.start_puppet() as one:
        yield one


def obtain(world: World, puppet: Puppet, kind: str, **members: Any) -> local.Message | None:  # noqa: ANN401
    wanted = {} if kind == "attestor" else {"proof_key": kind}
    return puppet.obtain(world.socket, IDS[kind], **(wanted | members))


def token_of(answer: local.Message | None) -> str:
    assert isinstance(answer, local.Credential), answer
    return answer.token


def judge(keys: Keys, token: str, proof: str | DPoP) -> Claims:
    return check(
        token, proof, keys=keys, method="POST", url=URL, now=datetime.now(UTC), seen=Seen(),
        audience=AUDIENCE, minimum="lab", allow_lab=True,
        status="unchecked",
    )  # fmt: skip


def proof_of(answer: local.Message | None) -> str:
    assert isinstance(answer, local.Proof), answer
    return answer.proof


def proofs(puppet: Puppet) -> list[str | DPoP]:
    """A WPT and a DPoP proof, which a relying party takes now."""
    nonce = NONCES.at(datetime.now(UTC))
    dpop = proof_of(puppet.prove(AUDIENCE, URL, kind="dpop", nonce=nonce))
    return [proof_of(puppet.prove(AUDIENCE, URL)), DPoP(proof=dpop, nonces=NONCES)]


@pytest.mark.parametrize("kind", ["attestor", "tpm"])
def test_proofs_that_are_asked_for(world: World, puppet: Puppet, keys: Keys, kind: str) -> None:
    token = token_of(obtain(world, puppet, kind))
    for proof in proofs(puppet):
        claims = judge(keys, token, proof)
        assert (claims.id, claims.procseal.proof_key) == (IDS[kind], kind)


def test_each_proof_of_the_tpms_is_one_operation(world: World, puppet: Puppet) -> None:
    token_of(obtain(world, puppet, "tpm"))
    before = world.status()["tpm_operations"]
    for _ in range(3):
        proofs(puppet)
    after = world.status()["tpm_operations"]
    assert after["sign"] - before.get("sign", 0) == 6
    for name in ("create", "load", "certify_creation", "activate_credential"):
        assert after[name] == before[name]


def test_the_tpms_key_stays_over_a_renewal(world: World, puppet: Puppet, keys: Keys) -> None:
    """The verifier no longer has its public area then, and knows the key by the record."""
    token = token_of(obtain(world, puppet, "tpm"))
    first = judge(keys, token, proofs(puppet)[0])
    text = f'proof_key = "tpm"\n{workload(IDS["tpm"])}'.replace('["post"]', '["post", "get"]')
    world.operator("put", kind="workload", text=text)

    def renewed() -> str:
        answer = puppet.prove(AUDIENCE, URL)
        return answer.token if isinstance(answer, local.Proof) else token

    world.wait_until(lambda: renewed() != token, "a renewal")
    later = judge(keys, renewed(), proofs(puppet)[0])
    assert later.procseal.scopes == ("post", "get")
    assert (later.use_key, later.jti != first.jti) == (first.use_key, True)


def own_proof(key: crypto.PrivateKey, token: str, kind: presentation.Kind) -> str:
    return presentation.compose(
        kind, token=token, use_key=crypto.point_of(key), audience=AUDIENCE, method="POST", url=URL,
        nonce=NONCES.at(datetime.now(UTC)) if kind == "dpop" else "", now=datetime.now(UTC),
        jti=os.urandom(16),
    ).sign(key)  # fmt: skip


def test_a_process_that_signs_itself(world: World, puppet: Puppet, keys: Keys) -> None:
    key = crypto.generate()
    token = token_of(puppet.obtain_with_key(world.socket, IDS["process"], key))
    claims = judge(keys, token, own_proof(key, token, "wpt"))
    assert (claims.use_key, claims.procseal.proof_key) == (crypto.point_of(key), "process")
    judge(keys, token, DPoP(proof=own_proof(key, token, "dpop"), nonces=NONCES))
    # Its attestor has no key, and goes on to give it tokens.
    assert reasons(puppet.prove(AUDIENCE, URL)) == ["local.use-key-not-ours"]
    puppet.do("send procseal/1 token|")
    assert token_of(puppet.receive()) == token


@pytest.mark.attack(number=84, attacker="a sibling process", asset="the use key")
def test_a_use_key_that_the_process_does_not_hold(world: World) -> None:
    """Somebody else's; signed for another connection; as something else; not at all."""
    key, other = crypto.generate(), crypto.generate()
    point = base64url.encode(crypto.point_of(other))
    statements = (local.use_key_statement("0f" * 32), b"", b"0f" * 32)
    signatures = [base64url.encode(crypto.sign(key, one)) for one in statements]
    for wrong in (
        {"use_key": point},
        {"use_key": "A" * 87},
        {"use_key": ""},
        {"signature": ""},
        {"proof_key": ""},
        {"proof_key": "tpm"},
        *({"signature": one} for one in signatures),
    ):
        with world.start_puppet() as puppet:
            found = puppet.obtain_with_key(world.socket, IDS["process"], key, **wrong)
            assert reasons(found) == ["local.use-key-not-proven"], wrong


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("asked", IDS)
def test_another_proof_key_than_its_workloads(world: World, kind: str, asked: str) -> None:
    if kind == asked:
        return
    with world.start_puppet() as puppet:
        if asked == "process":
            found = puppet.obtain_with_key(world.socket, IDS[kind], crypto.generate())
        else:
            found = puppet.obtain(
                world.socket, IDS[kind], proof_key="" if asked == "attestor" else asked
            )
        assert reasons(found) == ["process.proof-key-not-the-workloads"]


@pytest.mark.attack(number=104, attacker="a sibling process", asset="the credential")
@pytest.mark.parametrize("kind", IDS)
def test_two_processes_of_one_executable(world: World, keys: Keys, kind: str) -> None:
    """Each has a key and a credential of its own, and neither can use the other's."""
    own = [crypto.generate(), crypto.generate()]
    with world.start_puppet() as first, world.start_puppet() as second:
        pair = (first, second)
        if kind == "process":
            tokens = [
                token_of(one.obtain_with_key(world.socket, IDS[kind], key))
                for one, key in zip(pair, own, strict=True)
            ]
            made = [own_proof(key, token, "wpt") for key, token in zip(own, tokens, strict=True)]
        else:
            tokens = [token_of(obtain(world, one, kind)) for one in pair]
            made = [proof_of(one.prove(AUDIENCE, URL)) for one in pair]
        claims = [judge(keys, *both) for both in zip(tokens, made, strict=True)]
        assert len({one.use_key for one in claims}) == 2
        assert len({one.jti for one in claims}) == 2
        for token, proof in zip(tokens, reversed(made), strict=True):
            with pytest.raises((Malformed, Refused)) as refusal:
                judge(keys, token, proof)
            assert [one.reason for one in refusal.value.findings] == ["proof.signature-invalid"]
