"""The manufacturer: certificates where verifiers look for them, and TPMs that quote."""

import hashlib
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tpm2_pytss import ESAPI
from tpm2_pytss.constants import ESYS_TR, TPM2_CAP
from tpm2_pytss.types import TPM2B_DATA, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TPMS_ATTEST
from tpm2_pytss.utils import NVReadEK, create_ek_template

from evidence.certificate import trim
from swtpm import Manufacturer, SoftwareTpm

pytestmark = pytest.mark.swtpm

TEMPLATES = [
    pytest.param("EK-RSA2048", 0x01C00002, rsa.RSAPublicKey, id="RSA 2048"),
    pytest.param("EK-ECC256", 0x01C0000A, ec.EllipticCurvePublicKey, id="ECC P-256"),
]


def read(tpm: SoftwareTpm, index: int) -> bytes:
    with ESAPI(tpm.tcti) as context:
        return bytes(NVReadEK(context)(index))


def certificate(tpm: SoftwareTpm, index: int) -> x509.Certificate:
    return x509.load_der_x509_certificate(trim(read(tpm, index)))


@pytest.mark.parametrize(("template", "index", "kind"), TEMPLATES)
def test_the_certificate_is_the_endorsement_keys(
    software_tpm: SoftwareTpm, template: str, index: int, kind: type
) -> None:
    with ESAPI(software_tpm.tcti) as context:
        _, public = create_ek_template(template, NVReadEK(context))
        handle, public, *_ = context.create_primary(
            TPM2B_SENSITIVE_CREATE(), public, ESYS_TR.ENDORSEMENT
        )
        context.flush_context(handle)
    key = certificate(software_tpm, index).public_key()
    assert isinstance(key, kind)
    assert (
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        == public.to_pem()
    )


@pytest.mark.parametrize(("template", "index", "kind"), TEMPLATES)
def test_the_certificate_is_as_the_profile_says(
    software_tpm: SoftwareTpm, template: str, index: int, kind: type
) -> None:
    del template
    found = certificate(software_tpm, index)
    extensions = found.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName)
    [name] = names.value.get_values_for_type(x509.DirectoryName)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert not list(found.subject)
    assert names.critical
    assert [one.oid.dotted_string for one in name] == [
        "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3",
    ]  # fmt: skip
    assert next(iter(name)).value == "id:49424D00"
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert usage.key_encipherment == (kind is rsa.RSAPublicKey)
    assert usage.key_agreement == (kind is not rsa.RSAPublicKey)
    uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use.dotted_string for use in uses] == ["2.23.133.8.1"]


def test_the_chain_ends_at_the_root(software_tpm: SoftwareTpm, manufacturer: Manufacturer) -> None:
    root = x509.load_pem_x509_certificate(manufacturer.root_file.read_bytes())
    issuer = x509.load_pem_x509_certificate(manufacturer.intermediate_file.read_bytes())
    certificate(software_tpm, 0x01C0000A).verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)


def test_the_index_is_padded_as_vendors_do(software_tpm: SoftwareTpm) -> None:
    """A reader that takes the whole index for a certificate is wrong."""
    content = read(software_tpm, 0x01C0000A)
    assert content.endswith(b"\xff\xff")
    with pytest.raises(ValueError, match="ExtraData"):
        x509.load_der_x509_certificate(content)


def test_a_manufacturer_stays_the_same(manufacturer: Manufacturer) -> None:
    again = Manufacturer.at(manufacturer.root_file.parent)
    assert again.root_file.read_bytes() == manufacturer.root_file.read_bytes()


def test_only_the_wanted_banks_are_there(software_tpm: SoftwareTpm) -> None:
    with ESAPI(software_tpm.tcti) as context:
        _, answer = context.get_capability(TPM2_CAP.PCRS, 0, 1)
    with_registers = {int(bank.hash) for bank in answer.data.assignedPCR if any(bank.pcrSelect)}
    assert with_registers == {0x000B}


def test_it_quotes(software_tpm: SoftwareTpm) -> None:
    nonce = hashlib.sha256(b"nonce").digest()
    with ESAPI(software_tpm.tcti) as context:
        handle, public, *_ = context.create_primary(
            TPM2B_SENSITIVE_CREATE(),
            TPM2B_PUBLIC.parse(
                "ecc256:ecdsa-sha256:null",
                objectAttributes="fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign",
            ),
            ESYS_TR.ENDORSEMENT,
        )
        quoted, signature = context.quote(handle, "sha256:0,10", TPM2B_DATA(nonce))
        context.flush_context(handle)
    signature.verify_signature(public, bytes(quoted))
    attested, _ = TPMS_ATTEST.unmarshal(bytes(quoted))
    assert bytes(attested.extraData) == nonce


def test_an_orderly_end_keeps_the_clock_safe(make_tpm: Callable[[], SoftwareTpm]) -> None:
    tpm = make_tpm()
    seen = []
    for _ in range(2):
        with tpm as tcti, ESAPI(tcti) as context:
            seen.append(context.read_clock().clockInfo)
    assert [bool(one.safe) for one in seen] == [True, True]
    assert seen[1].resetCount == seen[0].resetCount + 1


def test_two_tpms_have_two_keys(
    software_tpm: SoftwareTpm, make_tpm: Callable[[], SoftwareTpm]
) -> None:
    other = make_tpm()
    with other:
        assert read(other, 0x01C0000A) != read(software_tpm, 0x01C0000A)
