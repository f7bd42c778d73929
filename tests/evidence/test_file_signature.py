"""security.ima as the kernel copies it into the list: read as it is, or not at all."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import Malformed
from evidence.file_signature import (
    OVER_DIGEST,
    OVER_FILE_ID,
    PLAIN,
    VERITY,
    FileSignature,
)
from tests.evidence.shapes import flips

ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sm3")

signatures = st.builds(
    lambda form, algorithm, key_id, signature: FileSignature(
        is_verity=form[0],
        version=form[1],
        algorithm=algorithm,
        key_id=key_id,
        signature=signature,
    ),
    st.sampled_from([(False, OVER_DIGEST), (False, OVER_FILE_ID), (True, OVER_FILE_ID)]),
    st.sampled_from(ALGORITHMS),
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=1, max_size=600),
)


@given(signatures)
def test_round_trip(signature: FileSignature) -> None:
    assert FileSignature.decode(signature.encode()) == signature


@given(signatures)
def test_every_truncation_is_malformed(signature: FileSignature) -> None:
    whole = signature.encode()
    for size in range(len(whole)):
        with pytest.raises(Malformed):
            FileSignature.decode(whole[:size])
    with pytest.raises(Malformed):
        FileSignature.decode(whole + b"\0")


def test_every_flipped_bit_is_malformed_or_another_signature() -> None:
    genuine = FileSignature.decode(bytes.fromhex("030204deadbeef0008") + b"8 bytes!")
    for flipped in flips(genuine.encode()):
        try:
            assert FileSignature.decode(flipped) != genuine
        except Malformed:
            continue


@given(st.binary(max_size=80))
def test_junk_is_malformed_or_has_one_encoding(junk: bytes) -> None:
    try:
        assert FileSignature.decode(junk).encode() == junk
    except Malformed:
        return


def test_a_signature_as_a_kernel_listed_it() -> None:
    """Linux 6.1: eight bytes that an owner of the file wrote, and no signature of anything."""
    signature = FileSignature.decode(bytes.fromhex("030204deadbeef0008") + b"12345678")
    assert (signature.is_verity, signature.version) == (False, 2)
    assert (signature.algorithm, signature.key_id.hex()) == ("sha256", "deadbeef")


@pytest.mark.parametrize(
    ("kind", "version", "number"),
    [
        pytest.param(5, 2, 4, id="EVM portable"),
        pytest.param(5, 3, 4, id="EVM portable, version 3"),
        pytest.param(4, 4, 4, id="a hash"),
        pytest.param(1, 2, 4, id="an old hash"),
        pytest.param(PLAIN, 1, 4, id="version 1"),
        pytest.param(PLAIN, 4, 4, id="version 4"),
        pytest.param(VERITY, 2, 4, id="fs-verity, version 2"),
        pytest.param(PLAIN, 2, 0, id="MD4"),
        pytest.param(PLAIN, 2, 3, id="RIPEMD"),
        pytest.param(PLAIN, 2, 255, id="no algorithm"),
    ],
)
def test_what_is_no_file_signature(kind: int, version: int, number: int) -> None:
    with pytest.raises(Malformed):
        FileSignature.decode(bytes((kind, version, number)) + b"key!" + b"\0\1s")


def test_an_empty_signature_is_none() -> None:
    with pytest.raises(Malformed):
        FileSignature.decode(bytes((PLAIN, 2, 4)) + b"key!" + b"\0\0")


def test_what_the_key_signs() -> None:
    """Version 2: the digest. Version 3: type, algorithm and digest, hashed once more."""
    digest = hashlib.sha256(b"file").digest()

    def signed(*, is_verity: bool, version: int) -> bytes:
        return FileSignature(
            is_verity=is_verity, version=version, algorithm="sha256", key_id=b"key!", signature=b"s"
        ).signed_hash(digest)

    assert signed(is_verity=False, version=OVER_DIGEST) == digest
    plain = hashlib.sha256(b"\x03\x04" + digest).digest()
    assert signed(is_verity=False, version=OVER_FILE_ID) == plain
    verity = hashlib.sha256(b"\x06\x04" + digest).digest()
    assert signed(is_verity=True, version=OVER_FILE_ID) == verity
