"""Keys on the curve P-256 and their ECDSA signatures with SHA-256: those of attestors."""

from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

POINT_BYTES = 65
"""An uncompressed point of P-256 (SEC 1, 2.3.3): 04, x, y."""
FIELD_BYTES = 32
"""A coordinate of P-256, and r and s of a signature."""


def is_ecdsa_p256_sha256(point: Sequence[bytes], values: Sequence[bytes], data: bytes) -> bool:
    """Say whether (r, s) is the signature over `data` by the key with the point (x, y)."""
    key = _p256(point)
    if key is None or len(values) != len(("r", "s")):
        return False
    r, s = (int.from_bytes(value) for value in values)
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def is_signed_by_instance(key: bytes, signature: bytes, data: bytes) -> bool:
    """Say the same of an uncompressed point and of r and s of 32 bytes each."""
    if not is_uncompressed_p256(key) or len(signature) != 2 * FIELD_BYTES:
        return False
    values = (signature[:FIELD_BYTES], signature[FIELD_BYTES:])
    return is_ecdsa_p256_sha256(_split(key), values, data)


def is_uncompressed_p256(key: bytes) -> bool:
    """Say whether the bytes are a point of P-256, uncompressed."""
    return len(key) == POINT_BYTES and key[:1] == b"\x04" and is_point_p256(_split(key))


def is_point_p256(point: Sequence[bytes]) -> bool:
    """Say whether (x, y) is a point of P-256."""
    return _p256(point) is not None


def _split(key: bytes) -> tuple[bytes, bytes]:
    return key[1 : 1 + FIELD_BYTES], key[1 + FIELD_BYTES :]


def _p256(point: Sequence[bytes]) -> ec.EllipticCurvePublicKey | None:
    x, y = (int.from_bytes(value) for value in point)
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        return None
