"""Keys of TPMs, as their public areas have them, and what they sign."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from evidence import tpm

RSA_EXPONENT = 65537
"""What exponent 0 stands for (TPM 2.0 Part 2, 12.2.3.5)."""
TPM_HASHES: dict[int, hashes.HashAlgorithm] = {
    tpm.ALG_SHA1: hashes.SHA1(),  # noqa: S303 - who asks for it by name may have it
    tpm.ALG_SHA256: hashes.SHA256(),
    tpm.ALG_SHA384: hashes.SHA384(),
    tpm.ALG_SHA512: hashes.SHA512(),
}
TPM_CURVES: dict[int, ec.EllipticCurve] = {
    tpm.CURVE_P256: ec.SECP256R1(),
    tpm.CURVE_P384: ec.SECP384R1(),
    tpm.CURVE_P521: ec.SECP521R1(),
}
TPM_RSA_BITS = (2048, 3072, 4096)
"""Which keys of TPMs are read, and what they sign with: by TPM_ALG_ID and TPM_ECC_CURVE."""
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


def public_key(public: tpm.Public) -> PublicKey | None:
    """Return the key in a public area; None unless it is RSA of 2048, 3072 or 4096 bits or ECC.

    The exponent is 65537, the modulus as long as it says, the point on the curve: P-256, P-384
    or P-521.
    """
    if public.type == tpm.ALG_ECC:
        return _ecc_key(public)
    modulus = int.from_bytes(public.unique[0])
    is_whole = modulus & 1 and modulus.bit_length() == public.size == 8 * len(public.unique[0])
    if not is_whole or public.size not in TPM_RSA_BITS:
        return None
    if public.exponent not in (0, RSA_EXPONENT):
        return None
    return rsa.RSAPublicNumbers(RSA_EXPONENT, modulus).public_key()


def _ecc_key(public: tpm.Public) -> ec.EllipticCurvePublicKey | None:
    curve = TPM_CURVES.get(public.size)
    if curve is None:
        return None
    x, y = (int.from_bytes(value) for value in public.unique)
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        return None


def pem_key(pem: bytes) -> PublicKey | None:
    """Return the key in a PEM SubjectPublicKeyInfo; None unless it is one that a TPM may have."""
    try:
        key = serialization.load_pem_public_key(pem)
    except Exception:  # noqa: BLE001 - whatever the parser raises: no key that it could read
        return None
    if isinstance(key, rsa.RSAPublicKey):
        is_usable = key.key_size in TPM_RSA_BITS and key.public_numbers().e == RSA_EXPONENT
        return key if is_usable else None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    return key if key.curve.name in {one.name for one in TPM_CURVES.values()} else None


def spki(public: tpm.Public) -> bytes | None:
    """Return the DER SubjectPublicKeyInfo of a key that `public_key` reads; None of any other."""
    key = public_key(public)
    if key is None:
        return None
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def type_of(key: PublicKey) -> int:
    """Return the key's TPM_ALG_ID: RSA or ECC."""
    return tpm.ALG_RSA if isinstance(key, rsa.RSAPublicKey) else tpm.ALG_ECC


def label_of(key: PublicKey) -> str:
    """Return what people call such a key: `RSA 2048`, `ECC secp256r1`."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"ECC {key.curve.name}"


def is_signed(key: PublicKey, signature: tpm.Signature, data: bytes) -> bool:
    """Say whether the signature over `data` is the key's.

    By the scheme that the signature names: the caller has compared that with the key's.
    """
    hash_ = TPM_HASHES.get(signature.hash)
    if hash_ is None:
        return False
    if isinstance(key, rsa.RSAPublicKey):
        value = signature.values[0]
        if 8 * len(value) != key.key_size:  # OpenSSL takes a PSS signature without leading zeros
            return False
        paddings = _paddings(signature.scheme, hash_)
        return any(_is_rsa_signature(key, value, data, one, hash_) for one in paddings)
    return signature.scheme == tpm.ALG_ECDSA and _is_ecdsa_signature(key, signature, data, hash_)


def _paddings(scheme: int, hash_: hashes.HashAlgorithm) -> tuple[padding.AsymmetricPadding, ...]:
    """Return the paddings of a scheme: TPMs make PSS salts as long as the digest or as they can.

    The former with FIPS 186-4, the latter before (TPM 2.0 Part 1, B.7).
    """
    if scheme == tpm.ALG_RSASSA:
        return (padding.PKCS1v15(),)
    if scheme != tpm.ALG_RSAPSS:
        return ()
    lengths = (padding.PSS.DIGEST_LENGTH, padding.PSS.MAX_LENGTH)
    return tuple(padding.PSS(padding.MGF1(hash_), length) for length in lengths)


def _is_rsa_signature(
    key: rsa.RSAPublicKey,
    value: bytes,
    data: bytes,
    padded: padding.AsymmetricPadding,
    hash_: hashes.HashAlgorithm,
) -> bool:
    try:
        key.verify(value, data, padded, hash_)
    except InvalidSignature:
        return False
    return True


def _is_ecdsa_signature(
    key: ec.EllipticCurvePublicKey,
    signature: tpm.Signature,
    data: bytes,
    hash_: hashes.HashAlgorithm,
) -> bool:
    size = -(-key.key_size // 8)
    if any(len(value) > size for value in signature.values):
        return False
    r, s = (int.from_bytes(value) for value in signature.values)
    try:
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hash_))
    except InvalidSignature:
        return False
    return True
