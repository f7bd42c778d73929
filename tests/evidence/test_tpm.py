"""Every TPM structure: read back as it was written, byte for byte, and nothing else is read."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import Malformed, tpm
from tests.evidence.shapes import STRUCTURES, flips
from tests.shared_vectors import VECTORS, needs_vectors, or_absent
from tests.simulated_node import SimulatedNode, make_challenge

few = settings(max_examples=60, deadline=None)


def samples() -> dict[str, bytes]:
    """Return one of each structure as a node sends it."""
    node = SimulatedNode()
    evidence = node.unsigned_evidence(make_challenge(node.name))
    new = node.new_process().new
    rsa = SimulatedNode(ek="rsa")
    return {
        "TPMS_ATTEST": evidence.quote,
        "TPMS_ATTEST ": new.certification,
        "TPMT_SIGNATURE": evidence.signature,
        "TPMT_PUBLIC": new.public,
        "TPMT_PUBLIC ": rsa.tpm.ek.encode(),
        "TPMS_CREATION_DATA": new.creation_data,
    }


SAMPLES = samples()


@pytest.mark.parametrize("name", STRUCTURES)
@few
@given(data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    decode, values = STRUCTURES[name]
    value = data.draw(values)
    assert decode(value.encode()) == value


@pytest.mark.parametrize("name", STRUCTURES)
@few
@given(data=st.data())
def test_every_truncation_and_every_byte_more_is_malformed(name: str, data: st.DataObject) -> None:
    decode, values = STRUCTURES[name]
    encoded = data.draw(values).encode()
    for size in range(len(encoded)):
        with pytest.raises(Malformed):
            decode(encoded[:size])
    with pytest.raises(Malformed):
        decode(encoded + b"\0")


@pytest.mark.parametrize("name", STRUCTURES)
@few
@given(data=st.data(), junk=st.binary(max_size=120))
def test_junk_is_malformed_or_read_whole(name: str, data: st.DataObject, junk: bytes) -> None:
    decode, values = STRUCTURES[name]
    start = data.draw(values).encode()[: data.draw(st.integers(0, 40))]
    for encoded in (junk, start + junk):
        try:
            assert decode(encoded).encode() == encoded
        except Malformed:
            continue


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_bit_is_malformed_or_another_value(name: str) -> None:
    decode, _ = STRUCTURES[name.strip()]
    original = decode(SAMPLES[name])
    for flipped in flips(SAMPLES[name]):
        try:
            read = decode(flipped)
        except Malformed:
            continue
        assert read != original
        assert read.encode() == flipped


def test_counts_are_bounded() -> None:
    """2^32 selections are refused before one is read."""
    quote = tpm.Attest.decode(SAMPLES["TPMS_ATTEST"])
    assert isinstance(quote.attested, tpm.Quote)
    place = SAMPLES["TPMS_ATTEST"].rindex(quote.attested.encode())
    huge = SAMPLES["TPMS_ATTEST"][:place] + b"\xff" * 4 + SAMPLES["TPMS_ATTEST"][place + 4 :]
    with pytest.raises(Malformed, match="at most 16"):
        tpm.Attest.decode(huge)


def test_a_name_of_an_unknown_algorithm_qualifies_nothing() -> None:
    for name in (b"", b"\0\x10", tpm.hierarchy_name(tpm.RH_NULL)):
        with pytest.raises(Malformed):
            tpm.qualify(name, b"")


# Quotes that a software TPM has made (shared/vectors, where that is present)


def generated() -> list[str]:
    index = VECTORS / "generated-swtpm" / "index.json"
    if not index.exists():
        return []
    return sorted(name for name in json.loads(index.read_text())["vectors"] if "." in name)


@pytest.mark.parametrize("name", or_absent(generated()))
def test_a_real_quote(name: str) -> None:
    folder = VECTORS / "generated-swtpm"
    expected = json.loads((folder / "index.json").read_text())["vectors"][name]
    attest = tpm.Attest.decode((folder / f"{name}.quote").read_bytes())
    assert attest.encode() == (folder / f"{name}.quote").read_bytes()
    assert attest.extra_data.hex() == expected["nonce"]
    assert attest.qualified_signer.hex() == expected["qualified_name"]
    signature = (folder / f"{name}.sig").read_bytes()
    assert tpm.Signature.decode(signature).encode() == signature
    public = (folder / f"{name.rpartition('.')[0]}.ak.tpm2b_public").read_bytes()[2:]
    key = tpm.Public.decode(public)
    assert key.encode() == public
    endorsement = tpm.hierarchy_name(tpm.RH_ENDORSEMENT)
    assert key.qualified_name(endorsement).hex() == expected["qualified_name"]


@needs_vectors
@pytest.mark.parametrize("name", ["reject-bad-magic-forgery", "reject-trailing-byte"])
def test_a_forged_quote(name: str) -> None:
    with pytest.raises(Malformed):
        tpm.Attest.decode((VECTORS / "generated-swtpm" / f"{name}.quote").read_bytes())


@needs_vectors
def test_a_real_attestation_of_time() -> None:
    encoded = (VECTORS / "generated-swtpm" / "reject-gettime-as-quote.quote").read_bytes()
    attest = tpm.Attest.decode(encoded)
    assert isinstance(attest.attested, tpm.Time)
    assert attest.attested.clock_info.reset_count == attest.clock_info.reset_count
    assert attest.encode() == encoded


@needs_vectors
def test_a_key_in_a_file_has_its_size_before_it_or_not() -> None:
    sized = (VECTORS / "generated-swtpm" / "owner-ak.ak.tpm2b_public").read_bytes()
    key = tpm.Public.decode_sized(sized)
    assert key == tpm.Public.decode_sized(sized[2:]) == tpm.Public.decode(sized[2:])
    for bad in (b"", sized[:1], sized[:-1], sized + b"\0", sized[2:] + b"\0", sized[2:-1]):
        with pytest.raises(Malformed):
            tpm.Public.decode_sized(bad)


@needs_vectors
def test_a_real_certification() -> None:
    folder = VECTORS / "generated-swtpm"
    encoded = (folder / "certify-creation.attest").read_bytes()
    attest = tpm.Attest.decode(encoded)
    assert isinstance(attest.attested, tpm.Creation)
    assert attest.encode() == encoded
    creation = (folder / "certify-creation.creation_data").read_bytes()[2:]
    assert tpm.CreationData.decode(creation).encode() == creation
    assert attest.attested.creation_hash == hashlib.sha256(creation).digest()
