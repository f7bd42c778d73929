"""The verifier's answer for one process: a signed lease, and perhaps a sealed token.

A JWS (`typ` `procseal-grant+jws`) over deterministic CBOR, so that nothing takes it for a token.
Step 0 is sealed under the chain key k0, which only the TPM of the node can open, for the process
key alone; step i+1 under `crypto.next_key` of step i's. See docs/protocol.md, "The grant".
"""

from dataclasses import dataclass, fields, replace

import cbor2

from credential import crypto, jws
from credential.keys import Keys
from credential.reasons import Finding, Malformed, Reason, Refused
from credential.wit import MOST_BYTES as MOST_TOKEN_BYTES

TYPE = "procseal-grant+jws"
PAYLOAD_TYPE = "procseal grant 1"
SEALED_TYPE = "procseal sealed 1"
MOST_BYTES = 32 * 1024
"""A sealed token of 16 KiB, in base64url, and some."""
MOST_LEASE_SECONDS = 24 * 60 * 60
MOST_STEP = 1 << 20
HASH_BYTES = 32

_MOST_NODE = 63
_MOST_KEY_NAME_BYTES = 66
"""TPM2B_NAME: a hash algorithm (2 bytes) and a digest, at most SHA-512's."""
_MOST_SEAL_BYTES = 1024
"""More than a TPM2B_ID_OBJECT or a TPM2B_ENCRYPTED_SECRET ever is."""
_MOST_CIPHERTEXT_BYTES = crypto.NONCE_BYTES + MOST_TOKEN_BYTES + crypto.TAG_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The fields of the payload, in order."""

    node: str
    key_name: bytes
    """Name of the process key (TPM2B_NAME without its size)."""
    core: bytes
    """SHA-256 of the core record that the key was made for, 32 bytes."""
    challenge: bytes
    """SHA-256 of the challenge whose evidence was accepted, 32 bytes."""
    lease_seconds: int
    """How long proofs may be signed, from the moment the quote was taken."""
    step: int
    """Which key of the chain the ciphertext is under."""
    id_object: bytes = b""
    """TPM2B_ID_OBJECT without its size, of step 0; else empty, as is `encrypted_secret`."""
    encrypted_secret: bytes = b""
    """TPM2B_ENCRYPTED_SECRET without its size."""
    ciphertext: bytes = b""
    """12-byte nonce, AES-256-GCM ciphertext and tag of the token; empty: the lease alone is new."""


def seal_token(grant: Grant, token: str, *, key: bytes, nonce: bytes) -> Grant:
    """Return `grant` with `token` sealed under `key`, the chain key of its step (32 bytes).

    `nonce` is 12 random bytes, never used before with this key.
    """
    ciphertext = crypto.seal(
        key, nonce=nonce, plaintext=token.encode("ascii"), associated=_associated(grant)
    )
    return replace(grant, ciphertext=ciphertext)


def open_token(grant: Grant, *, key: bytes) -> str:
    """Return the token that `grant` seals under `key`; raise Refused if it does not open."""
    plaintext = crypto.unseal(key, grant.ciphertext, associated=_associated(grant))
    if plaintext is None:
        raise Refused.because(Reason.GRANT_SEAL, "ciphertext", found=f"step {grant.step}")
    if not plaintext.isascii():
        raise Malformed(Reason.GRANT_MALFORMED, "expected a token in ASCII")
    return plaintext.decode("ascii")


def sign(grant: Grant, *, key: crypto.PrivateKey, kid: str) -> str:
    """Return `grant` signed; raise Malformed if it could not be read."""
    payload = _encode([PAYLOAD_TYPE, *(getattr(grant, field.name) for field in fields(grant))])
    _read_grant(payload)
    signed = jws.sign(payload, key, {"typ": TYPE, "kid": kid})
    _read_form(signed)
    return signed


def read(  # noqa: PLR0913  (what the attestor knows of its own question)
    text: str,
    keys: Keys,
    *,
    node: str,
    key_name: bytes,
    core: bytes,
    challenge: bytes,
    next_step: int,
) -> Grant:
    """Return the grant in `text` if it is the answer to this question; before any TPM operation.

    `next_step` is 0 for a process that has no token yet, else one more than the step of the
    last token opened. Steps may be skipped (an answer can get lost) and never go back.
    """
    unverified = _read_form(text)
    if unverified.kid not in keys.points:
        raise Refused.because(Reason.GRANT_KEY_UNKNOWN, "kid", found=unverified.kid)
    if not unverified.is_signed_by(keys.points[unverified.kid]):
        raise Refused.because(Reason.GRANT_SIGNATURE, f"key {unverified.kid}")
    grant = _read_grant(unverified.payload)
    pairs = (
        (Reason.GRANT_NODE, "node", node, grant.node),
        (Reason.GRANT_KEY, "key name", key_name.hex(), grant.key_name.hex()),
        (Reason.GRANT_RECORD, "core record", core.hex(), grant.core.hex()),
        (Reason.GRANT_CHALLENGE, "challenge", challenge.hex(), grant.challenge.hex()),
    )
    findings = [
        Finding(reason=reason, what=what, expected=wanted, found=got)
        for reason, what, wanted, got in pairs
        if wanted != got
    ]
    if not _is_step_allowed(grant, next_step):
        expected, found = f"{next_step} or later", str(grant.step)
        findings.append(
            Finding(reason=Reason.GRANT_STEP, what="step", expected=expected, found=found)
        )
    if findings:
        raise Refused(findings)
    return grant


def chain_key(key: bytes, *, held_step: int, step: int) -> bytes:
    """Return the key of `step`, given that of `held_step`, which is not later."""
    for _ in range(step - held_step):
        key = crypto.next_key(key)
    return key


def _is_step_allowed(grant: Grant, next_step: int) -> bool:
    """Say whether an attestor that waits for `next_step` can use the grant.

    Whoever has no token yet needs step 0 sealed to its TPM; a lease alone gives it nothing.
    """
    if next_step == 0:
        return grant.step == 0 and bool(grant.ciphertext)
    return grant.step >= (next_step if grant.ciphertext else next_step - 1)


def _read_form(text: str) -> jws.Unverified:
    return jws.read(
        text, typ=TYPE, has_kid=True, most_bytes=MOST_BYTES, reason=Reason.GRANT_MALFORMED
    )


def _associated(grant: Grant) -> bytes:
    bound = [grant.node, grant.key_name, grant.core, grant.challenge, grant.step]
    return _encode([SEALED_TYPE, *bound])


def _encode(value: list[object]) -> bytes:
    return cbor2.dumps(value, canonical=True)


def _read_grant(payload: bytes) -> Grant:
    match _decode(payload):
        case [
            str(kind), str(node), bytes(key_name), bytes(core), bytes(challenge), int(lease),
            int(step), bytes(id_object), bytes(encrypted_secret), bytes(ciphertext),
        ] if kind == PAYLOAD_TYPE:  # fmt: skip
            grant = Grant(
                node=node,
                key_name=key_name,
                core=core,
                challenge=challenge,
                lease_seconds=lease,
                step=step,
                id_object=id_object,
                encrypted_secret=encrypted_secret,
                ciphertext=ciphertext,
            )
        case _:
            raise Malformed(Reason.GRANT_MALFORMED, f"expected the array of {PAYLOAD_TYPE}")
    if not (_is_bounded(grant) and _is_coherent(grant)):
        raise Malformed(Reason.GRANT_MALFORMED, "a member is not what it has to be")
    return grant


def _decode(payload: bytes) -> object:
    """Return the value of deterministic CBOR (RFC 8949, section 4.2.1), found by encoding again."""
    try:
        value: object = cbor2.loads(payload)
        again = cbor2.dumps(value, canonical=True)
    except Exception as error:  # decoders of tags raise anything; none of it is a grant
        raise Malformed(Reason.GRANT_MALFORMED, f"not CBOR: {type(error).__name__}") from error
    if again != payload:
        raise Malformed(Reason.GRANT_MALFORMED, "not deterministic CBOR")
    return value


def _is_bounded(grant: Grant) -> bool:
    return (
        0 < len(grant.node) <= _MOST_NODE
        and 0 < len(grant.key_name) <= _MOST_KEY_NAME_BYTES
        and len(grant.core) == len(grant.challenge) == HASH_BYTES
        and bool not in (type(grant.lease_seconds), type(grant.step))
        and 0 <= grant.lease_seconds <= MOST_LEASE_SECONDS
        and 0 <= grant.step <= MOST_STEP
        and max(len(grant.id_object), len(grant.encrypted_secret)) <= _MOST_SEAL_BYTES
        and len(grant.ciphertext) <= _MOST_CIPHERTEXT_BYTES
    )


def _is_coherent(grant: Grant) -> bool:
    """Say whether it is a first token with its seal, a renewal, or a lease alone."""
    seal = (bool(grant.id_object), bool(grant.encrypted_secret))
    if grant.ciphertext and grant.step == 0:
        return seal == (True, True)
    return seal == (False, False)
