"""Who has signed a file: the other way, besides its digest, for a record to be known.

The kernel lists what the attribute security.ima holds, unverified: whoever may write the
attribute may write anything. A signature that holds says who made these bytes. It does not say
that they are the newest that he made (`Signer.revoked`), nor where they lie: the path is a label
of the first accessor's mount namespace, so it narrows what is accepted and stops no attacker.
"""

from collections.abc import Iterable
from functools import lru_cache

from evidence import Malformed
from evidence.file_signature import FileSignature
from verifier.crypto import file_keys
from verifier.node import Measured
from verifier.policy import Signer
from verifier.reasons import Reason, label, reject

VERITY = "verity:"
"""Before the algorithm of a digest of fs-verity's tree."""

MOST_SIGNATURE_BYTES = 1024
"""Of the longest key that a signer may have, RSA of 8192 bits; answers are kept with it."""

_NO_NAMES = frozenset((b"", b".", b".."))
"""The kernel writes no path with one of these in it."""


def text_of(one: Measured) -> str:
    """Return the record's digest as `Signer.revoked` names it."""
    return f"{one.algorithm}:{one.digest.hex()}"


def verify_file_signature(
    one: Measured, *, what: str, signers: Iterable[Signer]
) -> tuple[Signer, ...]:
    """Return those that have signed the record's digest; raise Rejected if none has.

    (1) The attribute is a signature (2) over a digest of this very kind and algorithm, (3) by a
    key that some signer has, (4) which has signed this digest, (5) of a file that may lie where
    it is recorded.
    """
    signature = _read(one, what)
    _demand_same_digest(one, signature, what)
    keys = [
        (signer, key.spki)
        for signer in signers
        for key in signer.keys
        if key.key_id == signature.key_id
    ]
    if not keys:
        expected, found = "a key of a signer", f"key {signature.key_id.hex()}"
        raise reject(Reason.LIST_SIGNATURE_KEY, what, expected=expected, found=found)
    signed = tuple(signer for signer, spki in keys if _holds(spki, signature, one.digest))
    if not signed:
        expected = f"a signature over {text_of(one)}"
        found = f"none by {', '.join(signer.name for signer, _ in keys)}"
        raise reject(Reason.LIST_SIGNATURE, what, expected=expected, found=found)
    allowed = tuple(signer for signer in signed if _may_lie(one.path, signer))
    if not allowed:
        expected = ", ".join(path for signer in signed for path in signer.paths[:4])
        raise reject(Reason.LIST_SIGNATURE_PATH, what, expected=expected, found=label(one.path))
    return allowed


def _read(one: Measured, what: str) -> FileSignature:
    try:
        signature = FileSignature.decode(one.signature)
    except Malformed as malformed:
        expected, found = "a file signature", str(malformed)
        raise reject(
            Reason.LIST_SIGNATURE_FORM, what, expected=expected, found=found
        ) from malformed
    if len(signature.signature) > MOST_SIGNATURE_BYTES:
        expected, found = f"at most {MOST_SIGNATURE_BYTES} bytes", f"{len(signature.signature)}"
        raise reject(Reason.LIST_SIGNATURE, what, expected=expected, found=found)
    return signature


def _demand_same_digest(one: Measured, signature: FileSignature, what: str) -> None:
    """Raise Rejected unless the signature is over what the record holds, and not weak."""
    found = (VERITY if signature.is_verity else "") + signature.algorithm
    if one.algorithm != found or signature.algorithm not in file_keys.FILE_HASHES:
        expected = f"{label(one.algorithm)}, and one of {', '.join(file_keys.FILE_HASHES)}"
        raise reject(Reason.LIST_SIGNATURE_ALGORITHM, what, expected=expected, found=found)


@lru_cache(maxsize=4096)
def _holds(spki: bytes, signature: FileSignature, digest: bytes) -> bool:
    """Say whether the key has signed the digest; asked again for each process that maps a file."""
    return file_keys.is_signed_file(
        spki,
        signature.signature,
        algorithm=signature.algorithm,
        signed_hash=signature.signed_hash(digest),
    )


def _may_lie(path: bytes, signer: Signer) -> bool:
    """Say whether the signer may have files at this place. The kernel writes `_` for a space."""
    root, *names = path.split(b"/")
    if root or _NO_NAMES & frozenset(names):
        return False
    relative = path.removeprefix(b"/")
    allowed = [one.replace(" ", "_").encode() for one in signer.paths]
    return any(
        relative.startswith(one) if one.endswith(b"/") else relative == one for one in allowed
    )
