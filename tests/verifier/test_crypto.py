"""The drawer of cryptography, against answers that others have computed."""

import json

import pytest

from evidence import tpm
from evidence.certificate import Certificate, trim
from tests.shared_vectors import VECTORS
from tests.simulated_node import SimulatedNode, ecc_public, private_key, sign
from verifier import crypto
from verifier.crypto import ENTROPY_BYTES, make_credential

needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="shared/vectors is not beside the checkout"
)


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


# Quotes and endorsement keys that others have made


@needs_vectors
@pytest.mark.parametrize("name", ["ecdsa-p256-sha256.one", "ecdsa-p256-sha256.multi"])
def test_a_real_signature(name: str) -> None:
    folder = VECTORS / "generated-swtpm"
    key = tpm.Public.decode((folder / "ecdsa-p256-sha256.ak.tpm2b_public").read_bytes()[2:])
    signature = tpm.Signature.decode((folder / f"{name}.sig").read_bytes())
    quote = (folder / f"{name}.quote").read_bytes()
    assert crypto.is_ecdsa_p256_sha256(key.unique, signature.values, quote)
    assert not crypto.is_ecdsa_p256_sha256(key.unique, signature.values, quote + b"\0")
    assert not crypto.is_ecdsa_p256_sha256(key.unique, signature.values[::-1], quote)


@needs_vectors
def test_a_real_endorsement_key_and_its_certificate() -> None:
    folder = VECTORS / "generated-swtpm"
    public = tpm.Public.decode((folder / "ek_rsa2048.tpm2b_public").read_bytes()[2:])
    der = trim((folder / "ek_rsa2048.cert.nv.der").read_bytes())
    assert crypto.spki(public) == crypto.certified_spki(Certificate.decode(der).spki)


# Signatures


def test_a_signature_counts_for_its_key_and_data_alone() -> None:
    key, other = private_key("a"), private_key("b")
    node = SimulatedNode()
    message = node.signed(b"data", key)
    signature, point = message.signature, message.key
    assert crypto.is_signed_by_instance(point, signature, b"data")
    assert not crypto.is_signed_by_instance(point, signature, b"datb")
    foreign = b"".join(sign(other, b"data"))
    assert not crypto.is_signed_by_instance(point, foreign, b"data")


@pytest.mark.parametrize(
    "values",
    [(b"", b""), (bytes(32), bytes(32)), (b"\xff" * 32, b"\xff" * 32), (b"\1",), (b"\1",) * 3],
)
def test_values_that_are_no_signature(values: tuple[bytes, ...]) -> None:
    point = SimulatedNode().tpm.ak.unique
    assert not crypto.is_ecdsa_p256_sha256(point, values, b"data")


def test_a_signature_may_have_shorter_values() -> None:
    """A TPM may leave out leading zeros; they change nothing."""
    key = private_key("a")
    for number in range(2000):
        data = b"%d" % number
        r, s = sign(key, data)
        if r[0] == 0:
            assert crypto.is_ecdsa_p256_sha256(ecc_public(key).unique, (r.lstrip(b"\0"), s), data)
            return
    pytest.fail("no such signature among 2000")
