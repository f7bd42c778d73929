"""Which keys may sign evidence: checked at enrolment, and again at every use.

A key that is not restricted signs any structure that somebody builds for it, so a good
signature alone says nothing (DESIGN section 4, link 2).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from evidence import tpm
from verifier.crypto import flaw, tpm_keys
from verifier.reasons import Finding, Reason, Rejected

NEEDED = tpm.FIXED_TPM | tpm.FIXED_PARENT | tpm.SENSITIVE_DATA_ORIGIN | tpm.RESTRICTED | tpm.SIGN
FORBIDDEN = tpm.DECRYPT | tpm.ENCRYPTED_DUPLICATION | tpm.X509_SIGN
"""The other attributes say who may use the key and when, not what it signs."""

STRONG = (tpm.ALG_SHA256, tpm.ALG_SHA384, tpm.ALG_SHA512)
"""Hashes that a Name and a signature may have."""
ALGORITHMS = {tpm.ALG_RSA: (tpm.ALG_RSASSA, tpm.ALG_RSAPSS), tpm.ALG_ECC: (tpm.ALG_ECDSA,)}
"""Signature algorithms, by the type of the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationKey:
    """A restricted signing key with one scheme. Made by `verify_public` only."""

    public: tpm.Public
    key: tpm_keys.PublicKey
    name: bytes
    qualified_name: bytes
    """As a primary under endorsement, which a node's is."""

    @property
    def scheme(self) -> tpm.Scheme:
        """The one scheme that it signs with."""
        return self.public.scheme

    def is_of_scheme(self, signature: tpm.Signature) -> bool:
        """Say whether the signature has the key's scheme and hash: the message never chooses."""
        return self.scheme == scheme_of(signature)

    def has_signed(self, data: bytes, signature: tpm.Signature) -> bool:
        """Say whether the signature over `data` is the key's, by the key's one scheme."""
        return self.is_of_scheme(signature) and tpm_keys.is_signed(self.key, signature, data)


def scheme_of(signature: tpm.Signature) -> tpm.Scheme:
    """Return the scheme that a signature says it has."""
    return tpm.Scheme(algorithm=signature.scheme, parameters=(signature.hash,))


def scheme_label(scheme: tpm.Scheme) -> str:
    """Return what people call a scheme: `rsapss with sha256`."""
    names = {tpm.ALG_RSASSA: "rsassa", tpm.ALG_RSAPSS: "rsapss", tpm.ALG_ECDSA: "ecdsa"}
    algorithm = names.get(scheme.algorithm, f"{scheme.algorithm:#x}")
    hashes = [tpm.HASHES.get(one, f"{one:#x}") for one in scheme.parameters]
    return " with ".join([algorithm, *hashes])


def schemes_of(type_: int, hashes: tuple[int, ...] = STRONG) -> tuple[tpm.Scheme, ...]:
    """Return the schemes that a key of a type may have."""
    return tuple(
        tpm.Scheme(algorithm=algorithm, parameters=(hash_,))
        for algorithm in ALGORITHMS[type_]
        for hash_ in hashes
    )


def verify_ak(encoded: bytes, reason: Reason) -> AttestationKey:
    """Return the key in the TPMT_PUBLIC; raise Rejected, for this reason, on any other kind."""
    return verify_public(tpm.Public.decode(encoded), reason)


def verify_public(
    public: tpm.Public, reason: Reason, hashes: tuple[int, ...] = STRONG
) -> AttestationKey:
    """Return the key; raise Rejected unless it signs what its TPM made, by one of these hashes."""
    key = tpm_keys.public_key(public)
    findings = tuple(_misfits(public, reason, hashes))
    if key is None:
        expected = "RSA of 2048, 3072 or 4096 bits, ECC P-256, P-384 or P-521"
        found = f"type {public.type:#x}, size {public.size}"
        findings += (Finding(reason=reason, what="key", expected=expected, found=found),)
    elif flaw.is_flawed(key):
        findings += (_flaw(reason),)
    if key is None or findings:
        raise Rejected(findings)
    under_endorsement = public.qualified_name(tpm.hierarchy_name(tpm.RH_ENDORSEMENT))
    return AttestationKey(
        public=public, key=key, name=public.name(), qualified_name=under_endorsement
    )


def verify_sound(key: tpm_keys.PublicKey, reason: Reason) -> tpm_keys.PublicKey:
    """Return a key that has no attributes; raise Rejected where others can compute its secret."""
    if flaw.is_flawed(key):
        raise Rejected([_flaw(reason)])
    return key


def _flaw(reason: Reason) -> Finding:
    found = "one that can be factored (CVE-2017-15361)"
    return Finding(reason=reason, what="key", expected="a sound modulus", found=found)


def _misfits(public: tpm.Public, reason: Reason, hashes: tuple[int, ...]) -> Iterator[Finding]:
    def misfit(what: str, expected: str, found: str) -> Finding:
        return Finding(reason=reason, what=what, expected=expected, found=found)

    if public.attributes & (NEEDED | FORBIDDEN) != NEEDED:
        found = f"{public.attributes:#x}"
        yield misfit("attributes", f"all of {NEEDED:#x}, none of {FORBIDDEN:#x}", found)
    if public.scheme not in schemes_of(public.type, hashes):
        expected = "RSASSA, RSAPSS or ECDSA, with SHA-256, SHA-384 or SHA-512"
        yield misfit("scheme", expected, scheme_label(public.scheme))
    if public.name_hash not in STRONG or public.symmetric != tpm.NO_SCHEME:
        found = f"{tpm.HASHES[public.name_hash]}, symmetric {public.symmetric.algorithm:#x}"
        yield misfit("kind", "a Name by SHA-256 or longer, and no symmetric cipher", found)
