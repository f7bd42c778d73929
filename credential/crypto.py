"""The one importer of `cryptography`: P-256, ECDSA with SHA-256, AES-256-GCM, HKDF.

Nothing here chooses an algorithm by what a message says; there is one of each. Each function
imports what it needs, since all that a process maps is measured and judged, and one that obtains
a credential, or has a program launched, checks nothing.
"""
# ruff: noqa: PLC0415

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    PrivateKey = ec.EllipticCurvePrivateKey
    PublicKey = ec.EllipticCurvePublicKey
else:
    PrivateKey = PublicKey = Any  # names in annotations; isinstance refuses it

COORDINATE_BYTES = 32
POINT_BYTES = 1 + 2 * COORDINATE_BYTES
"""An uncompressed P-256 point: 0x04, x, y (SEC 1, section 2.3.3)."""
SIGNATURE_BYTES = 64
"""r and s, 32 bytes each, big endian (RFC 7518, section 3.4)."""
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
RENEWAL = b"procseal renewal 1"
"""HKDF's info for the next key of a chain."""


def load() -> None:
    """Import now all that is ever needed: in a year the files may be another release's."""
    import cryptography.hazmat.primitives.asymmetric.utils
    import cryptography.hazmat.primitives.ciphers.aead
    import cryptography.hazmat.primitives.kdf.hkdf
    import cryptography.hazmat.primitives.serialization  # noqa: F401


def generate() -> PrivateKey:
    """Return a new P-256 key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def point_of(key: PrivateKey | PublicKey) -> bytes:
    """Return the public half of `key`, an uncompressed point of 65 bytes."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    if not isinstance(public.curve, ec.SECP256R1):
        raise ValueError("expected a key on P-256")  # noqa: TRY004  (of the right type)
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def public_key(point: bytes) -> PublicKey:
    """Return the key whose uncompressed point is `point`; raise ValueError if there is none."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(point) != POINT_BYTES or point[0] != 0x04:  # noqa: PLR2004  (SEC 1: uncompressed)
        raise ValueError("expected an uncompressed point of 65 bytes")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Return the signature of `data` by `key`: r and s, 64 bytes."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")


def is_signed(point: bytes, data: bytes, signature: bytes) -> bool:
    """Say whether `signature`, r and s in 64 bytes, is of `data` by the key with `point`.

    A `point` that is no P-256 point has signed nothing.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if len(signature) != SIGNATURE_BYTES:
        return False
    r, s = signature[:COORDINATE_BYTES], signature[COORDINATE_BYTES:]
    encoded = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        public_key(point).verify(encoded, data, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True


def seal(key: bytes, *, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Return `nonce` (12 bytes) and the AES-256-GCM ciphertext of `plaintext` with its tag."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError("expected a key of 32 bytes and a nonce of 12")
    return nonce + AESGCM(key).encrypt(nonce, plaintext, associated)


def unseal(key: bytes, sealed: bytes, *, associated: bytes) -> bytes | None:
    """Return what `seal` sealed under `key`, or None if it is anything else."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(key) != KEY_BYTES or len(sealed) < NONCE_BYTES + TAG_BYTES:
        return None
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
    except InvalidTag:
        return None


def next_key(key: bytes) -> bytes:
    """Return k(i+1), given k(i): HKDF-SHA256 (RFC 5869) without salt, 32 bytes.

    It cannot be run backwards: who learns k(i+1) does not learn k(i).
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if len(key) != KEY_BYTES:
        raise ValueError("expected a key of 32 bytes")
    return HKDF(hashes.SHA256(), length=KEY_BYTES, salt=None, info=RENEWAL).derive(key)
