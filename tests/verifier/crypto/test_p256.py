"""Signatures by keys on P-256: a TPM's, an attestor's, and what is none."""

import pytest

from evidence import tpm
from tests.shared_vectors import VECTORS, needs_vectors
from tests.simulated_keys import ecc_public, private_key, sign
from tests.simulated_node import SimulatedNode
from verifier.crypto import p256


@needs_vectors
@pytest.mark.parametrize("name", ["ecdsa-p256-sha256.one", "ecdsa-p256-sha256.multi"])
def test_a_real_signature(name: str) -> None:
    folder = VECTORS / "generated-swtpm"
    key = tpm.Public.decode((folder / "ecdsa-p256-sha256.ak.tpm2b_public").read_bytes()[2:])
    signature = tpm.Signature.decode((folder / f"{name}.sig").read_bytes())
    quote = (folder / f"{name}.quote").read_bytes()
    assert p256.is_ecdsa_p256_sha256(key.unique, signature.values, quote)
    assert not p256.is_ecdsa_p256_sha256(key.unique, signature.values, quote + b"\0")
    assert not p256.is_ecdsa_p256_sha256(key.unique, signature.values[::-1], quote)


def test_a_signature_counts_for_its_key_and_data_alone() -> None:
    key, other = private_key("a"), private_key("b")
    node = SimulatedNode()
    message = node.signed(b"data", key)
    signature, point = message.signature, message.key
    assert p256.is_signed_by_instance(point, signature, b"data")
    assert not p256.is_signed_by_instance(point, signature, b"datb")
    foreign = b"".join(sign(other, b"data"))
    assert not p256.is_signed_by_instance(point, foreign, b"data")


@pytest.mark.parametrize(
    "values",
    [(b"", b""), (bytes(32), bytes(32)), (b"\xff" * 32, b"\xff" * 32), (b"\1",), (b"\1",) * 3],
)
def test_values_that_are_no_signature(values: tuple[bytes, ...]) -> None:
    point = SimulatedNode().tpm.ak.unique
    assert not p256.is_ecdsa_p256_sha256(point, values, b"data")


def test_a_signature_may_have_shorter_values() -> None:
    """A TPM may leave out leading zeros; they change nothing."""
    key = private_key("a")
    for number in range(2000):
        data = b"%d" % number
        r, s = sign(key, data)
        if r[0] == 0:
            assert p256.is_ecdsa_p256_sha256(ecc_public(key).unique, (r.lstrip(b"\0"), s), data)
            return
    pytest.fail("no such signature among 2000")
