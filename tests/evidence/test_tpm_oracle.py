"""tpm2-pytss reads and writes every structure as `evidence.tpm` does, over generated values.

libtss2's unmarshalling is laxer (it takes a wrong magic and trailing bytes), so it is an oracle
for what is right, not for what is wrong.
"""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evidence import tpm
from tests.evidence.shapes import HASH_IDS, attests, creation_data, publics, signatures

pytss = pytest.importorskip("tpm2_pytss")

many = settings(max_examples=150, deadline=None)


def again(kind: Any, encoded: bytes) -> bytes:  # noqa: ANN401 - pytss has no types
    """Return what libtss2 writes after it has read the bytes."""
    value, consumed = kind.unmarshal(encoded)
    assert consumed == len(encoded)
    return bytes(value.marshal())


def fits(selections: tuple[tpm.PcrSelection, ...]) -> bool:
    """Say whether libtss2 knows all banks: it refuses others."""
    return all(one.bank in tpm.HASHES for one in selections)


@many
@given(attests)
def test_attest(attest: tpm.Attest) -> None:
    if isinstance(attest.attested, tpm.Quote):
        assume(fits(attest.attested.selections))
    encoded = attest.encode()
    assert again(pytss.TPMS_ATTEST, encoded) == encoded
    read, _ = pytss.TPMS_ATTEST.unmarshal(encoded)
    assert bytes(read.extraData) == attest.extra_data
    assert bytes(read.qualifiedSigner) == attest.qualified_signer
    assert int(read.firmwareVersion) == attest.firmware_version
    assert int(read.clockInfo.clock) == attest.clock_info.clock
    assert int(read.clockInfo.resetCount) == attest.clock_info.reset_count
    assert int(read.clockInfo.restartCount) == attest.clock_info.restart_count
    if isinstance(attest.attested, tpm.Quote):
        assert bytes(read.attested.quote.pcrDigest) == attest.attested.digest
        assert len(read.attested.quote.pcrSelect) == len(attest.attested.selections)
    elif isinstance(attest.attested, tpm.Certification):
        assert bytes(read.attested.certify.name) == attest.attested.name
        assert bytes(read.attested.certify.qualifiedName) == attest.attested.qualified_name
    elif isinstance(attest.attested, tpm.Time):
        assert int(read.attested.time.time.time) == attest.attested.time
        assert int(read.attested.time.firmwareVersion) == attest.attested.firmware_version
    else:
        assert bytes(read.attested.creation.objectName) == attest.attested.name
        assert bytes(read.attested.creation.creationHash) == attest.attested.creation_hash


@many
@given(creation_data)
def test_creation_data(creation: tpm.CreationData) -> None:
    assume(fits(creation.selections))
    encoded = creation.encode()
    assert again(pytss.TPMS_CREATION_DATA, encoded) == encoded
    read, _ = pytss.TPMS_CREATION_DATA.unmarshal(encoded)
    assert bytes(read.outsideInfo) == creation.outside_info
    assert bytes(read.parentName) == creation.parent_name
    assert bytes(read.parentQualifiedName) == creation.parent_qualified_name


@many
@given(signatures(HASH_IDS, most_bytes=48))
def test_signature(signature: tpm.Signature) -> None:
    encoded = signature.encode()
    assert again(pytss.TPMT_SIGNATURE, encoded) == encoded


@many
@given(publics())
def test_public(public: tpm.Public) -> None:
    encoded = public.encode()
    assert again(pytss.TPMT_PUBLIC, encoded) == encoded
    read, _ = pytss.TPMT_PUBLIC.unmarshal(encoded)
    assert bytes(read.get_name()) == public.name()
    assert int(read.objectAttributes) == public.attributes
    assert bytes(read.authPolicy) == public.policy


@many
@given(st.sampled_from(sorted(tpm.HASHES)), st.sets(st.integers(0, 23)))
def test_what_libtss2_writes_is_read(bank: int, registers: set[int]) -> None:
    """The other direction: structures that pytss builds by itself."""
    bitmap = sum(1 << one for one in registers).to_bytes(3, "little")
    selection = pytss.TPML_PCR_SELECTION(
        [pytss.TPMS_PCR_SELECTION(hash=bank, sizeofSelect=3, pcrSelect=bitmap)]
    )
    attest = pytss.TPMS_ATTEST(
        magic=tpm.GENERATED,
        type=tpm.ST_ATTEST_QUOTE,
        qualifiedSigner=pytss.TPM2B_NAME(b"\0\x0b" + bytes(32)),
        extraData=pytss.TPM2B_DATA(b"extra"),
        attested=pytss.TPMU_ATTEST(
            quote=pytss.TPMS_QUOTE_INFO(
                pcrSelect=selection, pcrDigest=pytss.TPM2B_DIGEST(bytes(32))
            )
        ),
    )
    encoded = bytes(attest.marshal())
    read = tpm.Attest.decode(encoded)
    assert read.encode() == encoded
    assert isinstance(read.attested, tpm.Quote)
    assert read.attested.selections == (
        tpm.PcrSelection(bank=bank, registers=tuple(sorted(registers))),
    )


@pytest.mark.parametrize(
    ("template", "algorithm"),
    [("rsa2048", tpm.ALG_RSA), ("ecc256", tpm.ALG_ECC), ("rsa2048:rsapss-sha256", tpm.ALG_RSA),
     ("ecc256:ecdsa-sha256", tpm.ALG_ECC), ("ecc256:aes128cfb", tpm.ALG_ECC)],
)  # fmt: skip
def test_templates_of_libtss2_are_read(template: str, algorithm: int) -> None:
    use = pytss.TPMA_OBJECT.SIGN_ENCRYPT if "-" in template else pytss.TPMA_OBJECT.DECRYPT
    public = pytss.TPM2B_PUBLIC.parse(template, objectAttributes=use).publicArea
    encoded = bytes(public.marshal())
    read = tpm.Public.decode(encoded)
    assert read.encode() == encoded
    assert read.type == algorithm
    assert read.name() == bytes(public.get_name())
