"""Chains as the library's own verifier judges them: the second opinion on ours."""

from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import Malformed
from evidence.certificate import Certificate, trim
from tests.evidence.test_certificate import certificates_in
from tests.makers import EK_USE, certify, found, key_usage, trusting, verify
from tests.shared_vectors import VECTORS, needs_vectors
from tests.simulated_keys import private_key
from tests.simulated_node import NOW
from verifier import Rejected
from verifier.certificates import read_folder
from verifier.endorsement import Trust, verify_endorsement


def is_trusted_by_library(leaf: bytes, roots: list[bytes], middle: list[bytes]) -> bool:
    """Judge as `cryptography.x509.verification` does, told what EK certificates look like."""

    def is_for_an_ek(_p: object, _l: object, usage: x509.ExtendedKeyUsage) -> None:
        if ObjectIdentifier(EK_USE) not in usage:
            raise ValueError

    def is_no_ca(_p: object, _l: object, constraints: x509.BasicConstraints | None) -> None:
        if constraints is not None and constraints.ca:
            raise ValueError

    ca = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
    )
    ee = (
        ExtensionPolicy.permit_all()
        .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, is_no_ca)
        .require_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, is_for_an_ek)
    )
    store = Store([x509.load_der_x509_certificate(one) for one in roots])
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(NOW)
        .extension_policies(ca_policy=ca, ee_policy=ee)
        .build_client_verifier()
    )
    try:
        verifier.verify(
            x509.load_der_x509_certificate(leaf),
            [x509.load_der_x509_certificate(one) for one in middle],
        )
    except VerificationError:
        return False
    return True


def is_trusted(leaf: bytes, trust: Trust) -> bool:
    try:
        verify(leaf, trust)
    except Rejected:
        return False
    return True


PAST, FUTURE = datetime(2021, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
CHANGES: dict[str, list[dict[str, Any]]] = {
    "any": [{}, {}, {}, {"end": PAST}, {"start": FUTURE}, {"signer": private_key("x")}],
    "ca": [
        {"constraints": None},
        {"constraints": (x509.BasicConstraints(ca=False, path_length=None), True)},
        *(
            {"constraints": (x509.BasicConstraints(ca=True, path_length=n), True)}
            for n in (0, 1, 2)
        ),
        {"usage": (key_usage("digital_signature"), True)},
    ],
    "ek": [
        {"extended": None},
        {"extended": (x509.ExtendedKeyUsage([ObjectIdentifier("2.23.133.8.3")]), False)},
        {"constraints": (x509.BasicConstraints(ca=True, path_length=None), True)},
        {"constraints": None},
    ],
}


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_library_judges_chains_alike(data: st.DataObject) -> None:
    """Roots and what is between them, each with at most one flaw, in any number.

    What the library is not told to judge, the use of a CA's key, ours may refuse alone.
    """

    def change(kind: str) -> dict[str, Any]:
        return data.draw(st.sampled_from([*CHANGES["any"], *CHANGES[kind]]))

    makers = [found("root", **change("ca"))]
    for number in range(data.draw(st.integers(0, 3))):
        makers.append(found(f"CA {number}", makers[-1], **change("ca")))
    root, *middle = makers
    leaf = certify(makers[-1], **change("ek"))
    given_middle = [one for one in middle if data.draw(st.integers(0, 9))]
    ours = is_trusted(leaf, trusting([root], given_middle))
    theirs = is_trusted_by_library(leaf, [root.der], [one.der for one in given_middle])
    if all(5 in (one.certificate.key_usage or {5}) for one in makers):
        assert ours == theirs
    assert theirs or not ours


@needs_vectors
@pytest.mark.parametrize("name", ["keylime/certs/st_ecdsa_sha256.der"])
def test_no_bit_of_a_real_certificate_can_change(name: str) -> None:
    """Neither an exception other than the two, nor an accept: signed bits and unsigned ones."""
    (der,) = certificates_in(VECTORS / name)
    der = trim(der)
    folder = read_folder(VECTORS / "keylime" / "tpm_cert_store")
    issuer = Certificate.decode(der).issuer.der
    trust = Trust(roots=tuple(one for one in folder.certificates if one.subject.der == issuer))
    assert verify_endorsement(Certificate.decode(der), trust=trust, at=NOW)
    for position in range(len(der)):
        for bit in range(8):
            changed = bytearray(der)
            changed[position] ^= 1 << bit
            with pytest.raises((Malformed, Rejected)):
                verify_endorsement(Certificate.decode(bytes(changed)), trust=trust, at=NOW)
