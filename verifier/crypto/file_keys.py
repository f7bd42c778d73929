"""Keys that vouch for files, and signatures of files (`evidence.file_signature`)."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from verifier.crypto.tpm_keys import RSA_EXPONENT

FILE_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
"""What a file's digest and its signature may be made by, by the kernel's names."""
FILE_KEY_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
FILE_KEY_RSA_BITS = (2048, 8192)
"""Shortest and longest."""


def file_key(pem: str) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a key that may vouch for files.

    ValueError says what is wrong with it: no public key in PEM, another kind of key, a weak one.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except Exception as error:
        raise ValueError("no public key that can be read") from error
    if flaw := _file_key_flaw(key):
        raise ValueError(flaw)
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def file_key_id(spki: bytes) -> bytes:
    """Return what file signatures call the key: the end of its identifier (RFC 5280, 4.2.1.2)."""
    key = serialization.load_der_public_key(spki)
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return x509.SubjectKeyIdentifier.from_public_key(key).digest[-4:]


def is_signed_file(spki: bytes, signature: bytes, *, algorithm: str, signed_hash: bytes) -> bool:
    """Say whether the key has signed the hash: RSA by PKCS #1 v1.5, ECDSA in DER.

    The key decides which of the two. `algorithm` is one of FILE_HASHES, `signed_hash` as long.
    """
    prehashed = Prehashed(FILE_HASHES[algorithm])
    key = serialization.load_der_public_key(spki)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed_hash, padding.PKCS1v15(), prehashed)
        else:
            assert isinstance(key, ec.EllipticCurvePublicKey)
            key.verify(signature, signed_hash, ec.ECDSA(prehashed))
    except InvalidSignature:
        return False
    return True


def _file_key_flaw(key: object) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        is_known = isinstance(key.curve, FILE_KEY_CURVES)
        return "" if is_known else f"a key on the curve {key.curve.name}"
    if not isinstance(key, rsa.RSAPublicKey):
        return "a key that is neither RSA nor ECC"
    shortest, longest = FILE_KEY_RSA_BITS
    if not shortest <= key.key_size <= longest:
        return f"an RSA key of {key.key_size} bits"
    exponent = key.public_numbers().e
    return "" if exponent == RSA_EXPONENT else f"an RSA key of exponent {exponent}"
