"""Which keys may sign evidence: checked at enrolment, and again at every use.

A key that is not restricted signs any structure that somebody builds for it, so a good
signature alone says nothing (DESIGN section 4, link 2).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from evidence import tpm
from verifier import crypto
from verifier.reasons import Finding, Reason, Rejected

NEEDED = tpm.FIXED_TPM | tpm.FIXED_PARENT | tpm.SENSITIVE_DATA_ORIGIN | tpm.RESTRICTED | tpm.SIGN
FORBIDDEN = tpm.DECRYPT | tpm.ENCRYPTED_DUPLICATION | tpm.X509_SIGN
"""The other attributes say who may use the key and when, not what it signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationKey:
    """A restricted ECC P-256 signing key, primary under endorsement. Made by `verify_ak` only."""

    public: tpm.Public
    name: bytes
    qualified_name: bytes

    def has_signed(self, data: bytes, signature: tpm.Signature) -> bool:
        """Say whether the signature over `data` is the key's, by the key's one scheme."""
        return _is_of_scheme(signature) and crypto.is_ecdsa_p256_sha256(
            self.public.unique, signature.values, data
        )


def _is_of_scheme(signature: tpm.Signature) -> bool:
    return (signature.scheme, signature.hash) == (tpm.ALG_ECDSA, tpm.ALG_SHA256)


def verify_ak(encoded: bytes, reason: Reason) -> AttestationKey:
    """Return the key in the TPMT_PUBLIC; raise Rejected, for this reason, on any other kind."""
    public = tpm.Public.decode(encoded)
    findings = tuple(_misfits(public, reason))
    if findings:
        raise Rejected(findings)
    under_endorsement = public.qualified_name(tpm.hierarchy_name(tpm.RH_ENDORSEMENT))
    return AttestationKey(public=public, name=public.name(), qualified_name=under_endorsement)


def _misfits(public: tpm.Public, reason: Reason) -> Iterator[Finding]:
    def misfit(what: str, expected: str, found: str) -> Finding:
        return Finding(reason=reason, what=what, expected=expected, found=found)

    if public.attributes & (NEEDED | FORBIDDEN) != NEEDED:
        found = f"{public.attributes:#x}"
        yield misfit("attributes", f"all of {NEEDED:#x}, none of {FORBIDDEN:#x}", found)
    kind = (public.type, public.size, public.name_hash, public.scheme, public.symmetric)
    if kind != (
        tpm.ALG_ECC,
        tpm.CURVE_P256,
        tpm.ALG_SHA256,
        tpm.ECDSA_SHA256,
        tpm.NO_SCHEME,
    ):
        yield misfit("kind", "ECC P-256, ECDSA with SHA-256, Name by SHA-256", "another")
    elif not crypto.is_point_p256(public.unique):
        yield misfit("point", "a point of P-256", "none")
