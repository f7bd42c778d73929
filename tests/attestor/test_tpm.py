"""The TPM's part, against swtpm: what it certifies, and that nothing stays behind in it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2B_MAX_NV_BUFFER,
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPMA_NV,
    TPMS_NV_PUBLIC,
    TPMT_PUBLIC,
)
from tpm2_pytss.utils import make_credential

from attestor.templates import AK, EK, EK_CERTIFICATE_INDEX
from attestor.tpm import Tpm, TpmFailed
from credential import crypto
from evidence import process_key
from evidence import tpm as structures
from evidence.certificate import Certificate
from evidence.messages import QUOTED_REGISTERS

pytestmark = pytest.mark.swtpm


def wrap(ek_public: bytes, name: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Return MakeCredential's two parts, as the verifier makes them."""
    public = TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(ek_public)[0])
    id_object, encrypted = make_credential(public, secret, name)
    return bytes(id_object.credential), bytes(encrypted.secret)


def test_keys_are_the_same_at_every_start(tcti: str) -> None:
    with Tpm(tcti) as first:
        keys = first.ek_public(), first.ak_public()
    with Tpm(tcti) as second:
        assert (second.ek_public(), second.ak_public()) == keys


@pytest.mark.parametrize("kind", ["rsa2048", "ecc256"])
def test_endorsement_key_is_of_its_template(tcti: str, kind: str) -> None:
    with Tpm(tcti, ek=kind) as tpm:  # type: ignore[arg-type]
        public = structures.Public.decode(tpm.ek_public())
        assert tpm.esys.count_handles() == 0
    template = EK[kind]  # type: ignore[index]
    assert public.attributes == template.attributes
    assert public.policy == template.policy


def test_endorsement_certificate_is_trimmed_der(tpm: Tpm) -> None:
    certificate = tpm.ek_certificate()
    assert certificate[0] == 0x30
    assert len(certificate) == 4 + int.from_bytes(certificate[2:4], "big")
    modulus = structures.Public.decode(tpm.ek_public()).unique[0]
    assert modulus in certificate
    assert tpm.esys.count_handles() == 0


def test_no_certificate_is_no_bytes(tpm: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EK_CERTIFICATE_INDEX, "rsa2048", 0x01C0001A)
    assert tpm.ek_certificate() == b""
    assert tpm.esys.count_handles() == 0


def test_the_certificate_of_the_ca_between_is_in_the_tpm(tpm: Tpm) -> None:
    (between,) = (Certificate.decode(one) for one in tpm.ek_intermediates())
    assert between.is_ca
    assert between.subject == Certificate.decode(tpm.ek_certificate()).issuer
    assert tpm.esys.count_handles() == 0


def test_an_index_with_something_else_is_sent_as_it_is(
    tcti: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verifier says what is wrong with it; "no certificate" would be another thing."""
    monkeypatch.setitem(EK_CERTIFICATE_INDEX, "rsa2048", 0x01800101)
    with an_index(tcti, 0x01800101, b"no certificate"), Tpm(tcti) as tpm:
        assert tpm.ek_certificate() == b"no certificate"


def test_a_chain_over_several_indices(tcti: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = bytes.fromhex("30030201013003020102")
    monkeypatch.setattr("attestor.tpm.EK_CHAIN_INDICES", range(0x01800101, 0x01800110))
    with (
        an_index(tcti, 0x01800101, chain[:7]),
        an_index(tcti, 0x01800102, chain[7:] + b"\xff" * 9),
        an_index(tcti, 0x01800104, chain[:5]),
        Tpm(tcti) as tpm,
    ):
        assert tpm.ek_intermediates() == (chain[:5], chain[5:])
        assert tpm.esys.count_handles() == 0


@contextmanager
def an_index(tcti: str, number: int, content: bytes) -> Iterator[None]:
    """Let the TPM have an NV index with this content."""
    attributes = TPMA_NV.OWNERWRITE | TPMA_NV.OWNERREAD | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA
    area = TPMS_NV_PUBLIC(
        nvIndex=number, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=len(content)
    )
    with ESAPI(tcti) as esys:
        index = esys.nv_define_space(b"", TPM2B_NV_PUBLIC(nvPublic=area))
        esys.nv_write(index, TPM2B_MAX_NV_BUFFER(content), auth_handle=ESYS_TR.OWNER)
    yield
    with ESAPI(tcti) as esys:
        esys.nv_undefine_space(esys.tr_from_tpmpublic(number))


def test_no_chain_is_no_certificates(tpm: Tpm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attestor.tpm.EK_CHAIN_INDICES", range(0x01C00180, 0x01C00182))
    assert tpm.ek_intermediates() == ()
    assert tpm.esys.count_handles() == 0


def test_attestation_key_is_restricted_and_of_the_endorsement_hierarchy(tpm: Tpm) -> None:
    public = structures.Public.decode(tpm.ak_public())
    assert public.attributes == AK.attributes
    assert public.attributes & structures.RESTRICTED
    assert not public.attributes & structures.DECRYPT
    quote = structures.Attest.decode(tpm.quote(b"x" * 32).attest)
    endorsement = structures.hierarchy_name(structures.RH_ENDORSEMENT)
    assert quote.qualified_signer == public.qualified_name(endorsement)


@pytest.mark.parametrize("kind", ["rsa2048", "ecc256"])
def test_activation_opens_what_was_wrapped_for_this_ak(tcti: str, kind: str) -> None:
    with Tpm(tcti, ek=kind) as tpm:  # type: ignore[arg-type]
        name = structures.Public.decode(tpm.ak_public()).name()
        assert tpm.activate(*wrap(tpm.ek_public(), name, b"s" * 32)) == b"s" * 32
        assert tpm.esys.count_handles() == 0


def test_activation_for_another_key_fails_and_leaves_nothing(tpm: Tpm) -> None:
    id_object, encrypted = wrap(tpm.ek_public(), b"\0\x0b" + bytes(32), b"s" * 32)
    with pytest.raises(TpmFailed):
        tpm.activate(id_object, encrypted)
    assert tpm.esys.count_handles() == 0


@pytest.mark.parametrize(
    ("id_object", "encrypted"),
    [
        pytest.param(b"", b"", id="empty"),
        pytest.param(b"x", b"y", id="one byte"),
        pytest.param(bytes(200), bytes(256), id="zeros"),
        pytest.param(bytes(70000), bytes(70000), id="too large for any TPM"),
    ],
)
def test_malformed_activation_fails_and_leaves_nothing(
    tpm: Tpm, id_object: bytes, encrypted: bytes
) -> None:
    with pytest.raises(TpmFailed):
        tpm.activate(id_object, encrypted)
    key = tpm.create_process_key(bytes(32))
    with pytest.raises(TpmFailed):
        tpm.activate_process_key(key, id_object, encrypted)
    assert tpm.esys.count_handles() == 0


def test_process_key_is_certified_for_its_record(tpm: Tpm) -> None:
    record = hashlib.sha256(b"core record").digest()
    key = tpm.create_process_key(record)
    assert tpm.esys.count_handles() == 0

    public = structures.Public.decode(key.public)
    assert public.attributes == process_key.ATTRIBUTES
    assert public.policy == process_key.policy_digest(may_sign=False)
    assert public.scheme == structures.ECDSA_SHA256
    creation = structures.CreationData.decode(key.creation_data)
    assert creation.outside_info == record
    (selection,) = creation.selections
    assert selection.registers == process_key.CREATION_REGISTERS
    null_hierarchy = structures.hierarchy_name(structures.RH_NULL)
    assert creation.parent_qualified_name == structures.qualify(
        creation.parent_name, null_hierarchy
    )
    attest = structures.Attest.decode(key.certification)
    assert isinstance(attest.attested, structures.Creation)
    assert attest.attested.name == public.name() == key.name
    assert attest.attested.creation_hash == hashlib.sha256(key.creation_data).digest()
    structures.Signature.decode(key.signature)


def test_process_keys_differ(tpm: Tpm) -> None:
    assert tpm.create_process_key(bytes(32)).name != tpm.create_process_key(bytes(32)).name


def test_a_sealed_key_opens_for_its_process_key_only(tpm: Tpm) -> None:
    mine, other = tpm.create_process_key(b"a" * 32), tpm.create_process_key(b"b" * 32)
    sealed = wrap(tpm.ek_public(), mine.name, b"k" * 32)
    assert tpm.activate_process_key(mine, *sealed) == b"k" * 32
    with pytest.raises(TpmFailed):
        tpm.activate_process_key(other, *sealed)
    assert tpm.esys.count_handles() == 0


def test_a_process_key_without_its_auth_value_opens_nothing(tpm: Tpm) -> None:
    key = tpm.create_process_key(bytes(32))
    sealed = wrap(tpm.ek_public(), key.name, b"k" * 32)
    with pytest.raises(TpmFailed):
        tpm.activate_process_key(replace(key, auth_value=bytes(32)), *sealed)
    assert tpm.esys.count_handles() == 0
    assert tpm.activate_process_key(key, *sealed) == b"k" * 32


@pytest.mark.attack(
    number=132, attacker="whoever copied the sealed credential", asset="the credential"
)
def test_a_process_key_of_one_tpm_opens_nothing_in_another(tpm: Tpm, other_tpm: Tpm) -> None:
    key = tpm.create_process_key(bytes(32))
    sealed = wrap(tpm.ek_public(), key.name, b"k" * 32)
    with pytest.raises(TpmFailed):
        other_tpm.activate_process_key(key, *sealed)


def test_a_process_key_that_may_signs_and_opens(tpm: Tpm) -> None:
    key = tpm.create_process_key(bytes(32), may_sign=True)
    public = structures.Public.decode(key.public)
    assert public.policy == process_key.policy_digest(may_sign=True)
    digest = hashlib.sha256(b"what is signed").digest()
    signature = tpm.sign(key, digest)
    assert crypto.is_signed(key.point, b"what is signed", signature)
    assert tpm.activate_process_key(key, *wrap(tpm.ek_public(), key.name, b"k" * 32)) == b"k" * 32
    assert tpm.esys.operations["sign"] == 1
    assert tpm.esys.count_handles() == 0


@pytest.mark.attack(number=84, attacker="whoever can open the TPM", asset="the use key")
def test_a_process_key_signs_for_nobody_else(tpm: Tpm) -> None:
    """Without its auth value; one that may not; under the name of another's policy."""
    may = tpm.create_process_key(bytes(32), may_sign=True)
    may_not = tpm.create_process_key(bytes(32))
    for key in (
        replace(may, auth_value=bytes(32)),
        may_not,
        replace(may_not, may_sign=True),
        replace(may, may_sign=False),
    ):
        with pytest.raises(TpmFailed):
            tpm.sign(key, bytes(32))
        assert tpm.esys.count_handles() == 0
    assert crypto.is_signed(may.point, b"", tpm.sign(may, hashlib.sha256(b"").digest()))


def test_quote_covers_the_sixteen_registers_and_the_bytes_given(tpm: Tpm) -> None:
    signed = tpm.quote(b"binding".ljust(32, b"."))
    attest = structures.Attest.decode(signed.attest)
    assert attest.extra_data == b"binding".ljust(32, b".")
    assert isinstance(attest.attested, structures.Quote)
    (selection,) = attest.attested.selections
    assert (selection.bank, selection.registers) == (structures.ALG_SHA256, QUOTED_REGISTERS)
    assert attest.attested.digest == hashlib.sha256(b"".join(tpm.read_registers())).digest()
    assert tpm.esys.count_handles() == 0


def test_extending_a_register(tpm: Tpm) -> None:
    before = tpm.read_registers()
    assert before[15] == bytes(32)
    tpm.extend(15, b"d" * 32)
    after = tpm.read_registers()
    assert after[15] == hashlib.sha256(bytes(32) + b"d" * 32).digest()
    assert after[:15] == before[:15]


def test_operations_are_counted(tpm: Tpm) -> None:
    tpm.quote(b"x")
    tpm.quote(b"x")
    assert tpm.esys.operations["quote"] == 2


def test_no_tpm_at_all() -> None:
    with pytest.raises(TpmFailed):
        Tpm("swtpm:host=127.0.0.1,port=1")


def test_many_keys_fit_into_three_slots(tpm: Tpm) -> None:
    keys = [tpm.create_process_key(bytes([n]) * 32) for n in range(8)]
    for n, key in enumerate(keys):
        secret = bytes([n]) * 32
        assert tpm.activate_process_key(key, *wrap(tpm.ek_public(), key.name, secret)) == secret
    assert tpm.esys.count_handles() == 0
