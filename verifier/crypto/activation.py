"""TPM2_MakeCredential, offline (TPM 2.0 Part 1, 24; Part 3, 12.6)."""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from evidence import tpm
from verifier.crypto.p256 import FIELD_BYTES
from verifier.crypto.tpm_keys import public_key

RSA_2048_BYTES = 256
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
