"""That the key of a quote in files is a TPM's, and has signed it: the first two steps."""

from dataclasses import dataclass

from evidence import Malformed, tpm
from evidence.malformed import naming
from verifier.attestation_key import (
    STRONG,
    scheme_label,
    scheme_of,
    schemes_of,
    verify_public,
    verify_sound,
)
from verifier.crypto import tpm_keys
from verifier.inquiry import Inquiry
from verifier.reasons import Finding, Reason, reject

_PEM = b"-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A sound key, restricted where its attributes are there. Made by `verify_key` only."""

    key: tpm_keys.PublicKey
    schemes: tuple[tpm.Scheme, ...]
    """A signature has one of these; a key from a TPM has one scheme."""
    public: tpm.Public | None
    """None of a key without attributes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMessage:
    """The key has signed the message of the files. Made by `verify_signature` only."""

    key: SigningKey
    message: bytes
    hash: str
    """Of the signature's scheme, `sha256`; it is the quote's too."""


def verify_key(inquiry: Inquiry) -> SigningKey:
    """Return the key of the files; raise Rejected unless it signs only what its TPM has made."""
    encoded = inquiry.files.ak
    hashes = (tpm.ALG_SHA1, *STRONG)
    if encoded.lstrip()[: len(_PEM)] != _PEM:
        with naming("key"):
            public = tpm.Public.decode_sized(encoded)
        ak = verify_public(public, Reason.QUOTE_AK, hashes)
        return SigningKey(key=ak.key, schemes=(ak.scheme,), public=ak.public)
    key = tpm_keys.pem_key(encoded)
    if key is None:
        raise Malformed("key: expected the PEM of an RSA or ECC public key that a TPM may have")
    found = f"PEM, {tpm_keys.label_of(key)}"
    expected = "a public area, whose attributes say what the key signs"
    inquiry.settle(Finding(reason=Reason.QUOTE_AK_UNCHECKED, expected=expected, found=found))
    verify_sound(key, Reason.QUOTE_AK)
    return SigningKey(key=key, schemes=schemes_of(tpm_keys.type_of(key), hashes), public=None)


def verify_signature(inquiry: Inquiry, key: SigningKey) -> SignedMessage:
    """Return the message; raise Rejected unless the key has signed it, by its own scheme."""
    files = inquiry.files
    with naming("signature"):
        signature = tpm.Signature.decode(files.signature)
    if files.message[:4] != tpm.GENERATED.to_bytes(4, "big"):
        found = files.message[:4].hex() or "nothing"
        raise Malformed(f"message: expected a TPMS_ATTEST, which begins ff544347, got {found}")
    if scheme_of(signature) not in key.schemes:
        expected = ", ".join(scheme_label(one) for one in key.schemes)
        found = scheme_label(scheme_of(signature))
        raise reject(Reason.QUOTE_SCHEME, expected=expected, found=found)
    if signature.hash not in STRONG:
        inquiry.settle(weak_sha1("signature"))
    if not tpm_keys.is_signed(key.key, signature, files.message):
        raise reject(Reason.QUOTE_SIGNATURE, expected="the signature of this key over this message")
    inquiry.quote["scheme"] = scheme_label(scheme_of(signature))
    return SignedMessage(key=key, message=files.message, hash=tpm.HASHES[signature.hash])


def weak_sha1(what: str) -> Finding:
    """Return the finding that this of a quote is of SHA-1."""
    return Finding(reason=Reason.QUOTE_SHA1, what=what, expected="SHA-256 or longer", found="SHA-1")
