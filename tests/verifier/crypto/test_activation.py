"""TPM2_MakeCredential, against answers that others have computed."""

import json

import pytest

from evidence import tpm
from tests.shared_vectors import VECTORS, needs_vectors
from tests.simulated_node import SimulatedNode
from verifier.crypto.activation import ENTROPY_BYTES, make_credential


def known_answer(kind: str) -> dict[str, str]:
    answers = json.loads((VECTORS / "keylime" / "makecredential_kat.json").read_text())
    answer: dict[str, str] = answers[kind]
    return answer


def in_tools_format(id_object: bytes, encrypted_secret: bytes) -> str:
    """Return what tpm2_makecredential writes: magic, version, both parts with their sizes."""
    parts = (id_object, encrypted_secret)
    sized = b"".join(len(one).to_bytes(2, "big") + one for one in parts)
    return (b"\xba\xdc\xc0\xde\0\0\0\1" + sized).hex()


@needs_vectors
def test_make_credential_for_an_rsa_key() -> None:
    answer = known_answer("rsa")
    ek = tpm.Public.decode(bytes.fromhex(answer["ek_tpm2b_public"])[2:])
    made = make_credential(
        ek,
        name=bytes.fromhex(answer["aik_name"]),
        secret=bytes.fromhex(answer["challenge"]),
        entropy=bytes.fromhex(answer["seed"]) + bytes(48),
    )
    assert in_tools_format(*made)[:160] == answer["expected_prefix80"][0]


@needs_vectors
def test_make_credential_for_an_ecc_key() -> None:
    answer = known_answer("ecc")
    ephemeral: dict[str, str] = answer["ephemeral"]  # type: ignore[assignment]
    ek = tpm.Public.decode(bytes.fromhex(answer["ek_tpm2b_public"])[2:])
    made = make_credential(
        ek,
        name=bytes.fromhex(answer["aik_name"]),
        secret=bytes.fromhex(answer["challenge"]),
        entropy=(int(ephemeral["d"]) - 1).to_bytes(48, "big") + bytes(32),
    )
    assert in_tools_format(*made) == answer["expected"][0]


@pytest.mark.parametrize("kind", ["ecc", "rsa"])
@pytest.mark.parametrize("secret", [b"x", b"s" * 32])
def test_make_credential_is_opened_by_its_tpm_alone(kind: str, secret: bytes) -> None:
    node, name = SimulatedNode(ek=kind), b"\0\x0b" + bytes(32)
    entropy = bytes(range(ENTROPY_BYTES))
    made = make_credential(node.tpm.ek, name=name, secret=secret, entropy=entropy)
    assert node.tpm.activate(name, *made) == secret
    assert made == make_credential(node.tpm.ek, name=name, secret=secret, entropy=entropy)
    other = make_credential(node.tpm.ek, name=name, secret=secret, entropy=bytes(ENTROPY_BYTES))
    assert other != made
    with pytest.raises(ValueError, match="INTEGRITY"):
        node.tpm.activate(b"\0\x0b" + bytes(31) + b"\1", *made)


@pytest.mark.parametrize(
    ("secret", "entropy"),
    [(b"", bytes(80)), (bytes(33), bytes(80)), (b"x", bytes(79)), (b"x", b"")],
)
def test_make_credential_takes_no_other_lengths(secret: bytes, entropy: bytes) -> None:
    with pytest.raises(ValueError, match="length"):
        make_credential(SimulatedNode().tpm.ek, name=b"", secret=secret, entropy=entropy)
