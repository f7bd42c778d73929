"""The verifier's one drawer of cryptography. Every algorithm is chosen here or by a stored key.

Nothing in a message picks an algorithm, and no randomness is drawn: what needs some takes it
as an argument, so that the same arguments give the same answer.
"""

import hashlib
import hmac
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from evidence import Malformed, der, tpm

POINT_BYTES = 65
"""An uncompressed point of P-256 (SEC 1, 2.3.3): 04, x, y."""
FIELD_BYTES = 32
"""A coordinate of P-256, and r and s of a signature."""

RSA_2048_BYTES = 256
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

RSAES_OAEP = "1.2.840.113549.1.1.7"
"""id-RSAES-OAEP (RFC 4055, 4.1): the algorithm that certificates of TPM 1.2 EKs name."""
RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
"""AlgorithmIdentifier of rsaEncryption (RFC 3279, 2.3.1), DER."""
RSA_BITS = range(2048, 8192 + 1)
MOST_RSA_EXPONENT = 1 << 32
"""Long ones make a verification slow."""
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

SIGNATURE_ALGORITHMS: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "1.2.840.113549.1.1.5": ("rsa", hashes.SHA1()),  # noqa: S303 - refused unless asked for
    "1.2.840.113549.1.1.11": ("rsa", hashes.SHA256()),
    "1.2.840.113549.1.1.12": ("rsa", hashes.SHA384()),
    "1.2.840.113549.1.1.13": ("rsa", hashes.SHA512()),
    "1.2.840.10045.4.3.2": ("ecdsa", hashes.SHA256()),
    "1.2.840.10045.4.3.3": ("ecdsa", hashes.SHA384()),
    "1.2.840.10045.4.3.4": ("ecdsa", hashes.SHA512()),
}
"""Kind of key and hash of what certificates are signed with (RFC 4055, 5; RFC 5758, 3.2)."""
SHA1_WITH_RSA = "1.2.840.113549.1.1.5"

_ROCA_PRIMES = [n for n in range(3, 168) if all(n % m for m in range(2, n))]
_POWERS_OF_65537 = {
    prime: {pow(RSA_EXPONENT, n, prime) for n in range(prime)} for prime in _ROCA_PRIMES
}


# Signatures


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


def _split(key: bytes) -> tuple[bytes, bytes]:
    return key[1 : 1 + FIELD_BYTES], key[1 + FIELD_BYTES :]


def is_point_p256(point: Sequence[bytes]) -> bool:
    """Say whether (x, y) is a point of P-256."""
    return _p256(point) is not None


def _p256(point: Sequence[bytes]) -> ec.EllipticCurvePublicKey | None:
    x, y = (int.from_bytes(value) for value in point)
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        return None


# Signatures by keys of TPMs


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


# Endorsement keys


def spki(public: tpm.Public) -> bytes | None:
    """Return the DER SubjectPublicKeyInfo of a key that `public_key` reads; None of any other."""
    key = public_key(public)
    if key is None:
        return None
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


# Certificates


def certified_spki(spki: bytes) -> bytes | None:
    """Return the DER SubjectPublicKeyInfo that a certified key has; None if it is none to use.

    It is the one that `spki` makes of the same key's public area: a key that the certificate
    has for RSAES-OAEP only, as old TPMs' EKs, is an RSA key like others. RSA of 2048 to 8192
    bits, and the curves P-256, P-384 and P-521.
    """
    key = _certified_key(spki)
    if key is None:
        return None
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _certified_key(spki: bytes) -> PublicKey | None:
    try:
        if is_for_oaep_only(spki):
            _, bits = der.element(spki, der.SEQUENCE, "public key").children()
            spki = der.encode(der.SEQUENCE, RSA_ENCRYPTION + bits.whole)
        key = serialization.load_der_public_key(spki)
    except Exception:  # noqa: BLE001 - whatever the parser raises: no key that it could read
        return None
    if isinstance(key, rsa.RSAPublicKey):
        is_usable = key.key_size in RSA_BITS and key.public_numbers().e < MOST_RSA_EXPONENT
        return key if is_usable else None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES):
        return key
    return None


def is_for_oaep_only(spki: bytes) -> bool:
    """Say whether a DER SubjectPublicKeyInfo names RSAES-OAEP; raise Malformed where it is none."""
    for algorithm in der.element(spki, der.SEQUENCE, "public key").children()[:1]:
        for kind in algorithm.expect(der.SEQUENCE, "algorithm").children()[:1]:
            return der.oid(kind.expect(der.OID, "algorithm").content) == RSAES_OAEP
    raise Malformed("expected an algorithm")


def is_certificate_signature(issuer: bytes, algorithm: str, signature: bytes, tbs: bytes) -> bool:
    """Say whether a certificate's signature is by the key with this SubjectPublicKeyInfo.

    `algorithm` is the object identifier; the kind of the key has to be the algorithm's.
    """
    key = _certified_key(issuer)
    kind, hash_ = SIGNATURE_ALGORITHMS.get(algorithm, (None, None))
    if key is None or hash_ is None:
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey) and kind == "rsa":
            key.verify(signature, tbs, padding.PKCS1v15(), hash_)
        elif isinstance(key, ec.EllipticCurvePublicKey) and kind == "ecdsa":
            key.verify(signature, tbs, ec.ECDSA(hash_))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def is_factorable(spki: bytes) -> bool:
    """Say whether a certified key has the mark of a flawed generator: see `is_flawed`."""
    key = _certified_key(spki)
    return key is not None and is_flawed(key)


def is_flawed(key: PublicKey) -> bool:
    """Say whether an RSA key has the mark of Infineon's flawed generator (CVE-2017-15361, ROCA).

    Modulo each of many small primes, such a modulus is a power of 65537. Another one is so with
    a chance of less than 2^-27 (Nemec et al., The Return of Coppersmith's Attack, section 3).
    """
    if not isinstance(key, rsa.RSAPublicKey):
        return False
    modulus = key.public_numbers().n
    return all(modulus % prime in powers for prime, powers in _POWERS_OF_65537.items())


# TPM2_MakeCredential, offline (TPM 2.0 Part 1, 24; Part 3, 12.6)

SEED_BYTES = 32
ENTROPY_BYTES = 80
"""For one `make_credential`: of an RSA EK seed (32) and OAEP seed (32), of an ECC EK the
ephemeral key (48: FIPS 186-5, A.2.1, 64 bits more than the order has)."""
MOST_SECRET_BYTES = 32
"""The digest size of the EK's name algorithm."""


def make_credential(
    ek: tpm.Public, *, name: bytes, secret: bytes, entropy: bytes
) -> tuple[bytes, bytes]:
    """Return id_object and encrypted_secret, without their sizes.

    Only the TPM with this EK opens them, and only for a loaded object of this Name. The EK is
    one of the templates that `verifier.enrolment` accepts: SHA-256, AES-128-CFB.
    """
    if len(entropy) != ENTROPY_BYTES or not 0 < len(secret) <= MOST_SECRET_BYTES:
        raise ValueError("make_credential: wrong length of entropy or secret")
    key = public_key(ek) if ek.size in (8 * RSA_2048_BYTES, tpm.CURVE_P256) else None
    if key is None:
        raise ValueError("make_credential: not an EK")
    if isinstance(key, rsa.RSAPublicKey):
        seed, encrypted_secret = _seed_for_rsa(key, entropy)
    else:
        seed, encrypted_secret = _seed_for_ecc(key, entropy)
    storage_key = kdf_a(seed, b"STORAGE", name, b"", bits=128)
    identity = _cfb(storage_key, len(secret).to_bytes(2, "big") + secret)
    integrity_key = kdf_a(seed, b"INTEGRITY", b"", b"", bits=256)
    integrity = hmac.digest(integrity_key, identity + name, "sha256")
    return len(integrity).to_bytes(2, "big") + integrity + identity, encrypted_secret


def _seed_for_rsa(key: rsa.RSAPublicKey, entropy: bytes) -> tuple[bytes, bytes]:
    seed, oaep_seed = entropy[:SEED_BYTES], entropy[SEED_BYTES : 2 * SEED_BYTES]
    numbers = key.public_numbers()
    padded = int.from_bytes(_oaep(seed, oaep_seed, b"IDENTITY\0"))
    return seed, pow(padded, numbers.e, numbers.n).to_bytes(RSA_2048_BYTES, "big")


def _oaep(message: bytes, seed: bytes, text: bytes) -> bytes:
    """EME-OAEP with SHA-256 (RFC 8017, 7.1.1); the library's draws its own seed."""
    padding = bytes(RSA_2048_BYTES - 2 * SEED_BYTES - 2 - len(message))
    block = hashlib.sha256(text).digest() + padding + b"\1" + message
    masked = _xor(block, _mgf1(seed, len(block)))
    return b"\0" + _xor(seed, _mgf1(masked, len(seed))) + masked


def _mgf1(seed: bytes, size_bytes: int) -> bytes:
    count = -(-size_bytes // SEED_BYTES)
    blocks = (hashlib.sha256(seed + n.to_bytes(4, "big")).digest() for n in range(count))
    return b"".join(blocks)[:size_bytes]


def _seed_for_ecc(key: ec.EllipticCurvePublicKey, entropy: bytes) -> tuple[bytes, bytes]:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    scalar = int.from_bytes(entropy[: ENTROPY_BYTES - SEED_BYTES]) % (order - 1) + 1
    ephemeral = ec.derive_private_key(scalar, ec.SECP256R1())
    x, y = _coordinates(ephemeral.public_key())
    seed = kdf_e(ephemeral.exchange(ec.ECDH(), key), b"IDENTITY", x, _coordinates(key)[0])
    return seed, b"".join(len(value).to_bytes(2, "big") + value for value in (x, y))


def _coordinates(key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    numbers = key.public_numbers()
    return numbers.x.to_bytes(FIELD_BYTES, "big"), numbers.y.to_bytes(FIELD_BYTES, "big")


def kdf_a(key: bytes, purpose: bytes, u: bytes, v: bytes, *, bits: int) -> bytes:
    """KDFa with SHA-256 (Part 1, 11.4.10.2), at most 256 bits: one round."""
    text = (1).to_bytes(4, "big") + purpose + b"\0" + u + v + bits.to_bytes(4, "big")
    return hmac.digest(key, text, "sha256")[: bits // 8]


def kdf_e(z: bytes, purpose: bytes, u: bytes, v: bytes) -> bytes:
    """KDFe with SHA-256 (Part 1, 11.4.10.3), 256 bits: one round."""
    return hashlib.sha256((1).to_bytes(4, "big") + z + purpose + b"\0" + u + v).digest()


def _cfb(key: bytes, data: bytes) -> bytes:
    """AES-CFB with a zero IV, as the TPM uses it: the key is used once."""
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - one block
    encrypted, feedback = b"", bytes(16)
    for start in range(0, len(data), 16):
        block = data[start : start + 16]
        feedback = _xor(block, cipher.update(feedback)[: len(block)])
        encrypted += feedback
    return encrypted


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


# Signatures of files (`evidence.file_signature`)

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
