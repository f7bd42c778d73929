"""Keys that simulated machines have: each the same whenever its name is the same.

private_key("build-7 use 801"), point_bytes(key), sign(key, data)
make_ak(seed, AK_KINDS["P-256, ECDSA, SHA-256"])     -> the key, its public area
make_signature(key, kind, data)                      -> TPMT_SIGNATURE
"""
# ruff: noqa: ANN401 - `changes` are fields of any type

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from evidence import tpm


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def private_key(seed: str) -> ec.EllipticCurvePrivateKey:
    scalar = int.from_bytes(sha256(seed.encode())) >> 1
    return ec.derive_private_key(scalar + 1, ec.SECP256R1())


@cache
def rsa_key(seed: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return one RSA key per name and run: making one takes a while."""
    assert seed
    return rsa.generate_private_key(65537, bits)


def point(key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    numbers, size = key.public_key().public_numbers(), -(-key.curve.key_size // 8)
    return numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big")


def point_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half as an uncompressed point."""
    return b"\x04" + b"".join(point(key))


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> tuple[bytes, bytes]:
    """Return r and s of 32 bytes each: the same for the same data."""
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key.sign(data, algorithm))
    return r.to_bytes(32, "big"), s.to_bytes(32, "big")


HASHES: dict[int, hashes.HashAlgorithm] = {
    tpm.ALG_SHA1: hashes.SHA1(),
    tpm.ALG_SHA256: hashes.SHA256(),
    tpm.ALG_SHA384: hashes.SHA384(),
    tpm.ALG_SHA512: hashes.SHA512(),
}
CURVES: dict[int, ec.EllipticCurve] = {
    tpm.CURVE_P256: ec.SECP256R1(),
    tpm.CURVE_P384: ec.SECP384R1(),
    tpm.CURVE_P521: ec.SECP521R1(),
}


@dataclass(frozen=True)
class AkKind:
    """What an attestation key is, besides restricted."""

    type: int = tpm.ALG_ECC
    size: int = tpm.CURVE_P256
    scheme: int = tpm.ALG_ECDSA
    hash: int = tpm.ALG_SHA256
    name_hash: int = tpm.ALG_SHA256
    salt: Any = padding.PSS.DIGEST_LENGTH


AK_KINDS = {
    "P-256, ECDSA, SHA-256": AkKind(),
    "P-256, ECDSA, SHA-384": AkKind(hash=tpm.ALG_SHA384),
    "P-384, ECDSA, SHA-384": AkKind(
        size=tpm.CURVE_P384, hash=tpm.ALG_SHA384, name_hash=tpm.ALG_SHA384
    ),
    "P-521, ECDSA, SHA-512": AkKind(size=tpm.CURVE_P521, hash=tpm.ALG_SHA512),
    "RSA 2048, RSASSA, SHA-256": AkKind(tpm.ALG_RSA, 2048, tpm.ALG_RSASSA),
    "RSA 2048, RSAPSS, SHA-256": AkKind(tpm.ALG_RSA, 2048, tpm.ALG_RSAPSS),
    "RSA 2048, RSAPSS, long salt": AkKind(
        tpm.ALG_RSA, 2048, tpm.ALG_RSAPSS, salt=padding.PSS.MAX_LENGTH
    ),
    "RSA 3072, RSASSA, SHA-384": AkKind(
        tpm.ALG_RSA, 3072, tpm.ALG_RSASSA, tpm.ALG_SHA384, tpm.ALG_SHA512
    ),
    "RSA 4096, RSASSA, SHA-512": AkKind(tpm.ALG_RSA, 4096, tpm.ALG_RSASSA, tpm.ALG_SHA512),
}
"""Every kind of key that may sign evidence, more or less."""


def make_ak(seed: str, kind: AkKind = AK_KINDS["P-256, ECDSA, SHA-256"]) -> tuple[Any, tpm.Public]:
    """Return an attestation key and its public area."""
    key: Any
    if kind.type == tpm.ALG_RSA:
        key = rsa_key(f"{seed} ak", kind.size)
        modulus = key.public_key().public_numbers().n
        unique: tuple[bytes, ...] = (modulus.to_bytes(kind.size // 8, "big"),)
    else:
        scalar = int.from_bytes(sha256(f"{seed} ak".encode())) >> 1
        key = ec.derive_private_key(scalar + 1, CURVES[kind.size])
        unique = point(key)
    return key, tpm.Public(
        type=kind.type,
        name_hash=kind.name_hash,
        attributes=0x50072,
        policy=b"",
        symmetric=tpm.NO_SCHEME,
        scheme=tpm.Scheme(algorithm=kind.scheme, parameters=(kind.hash,)),
        size=kind.size,
        unique=unique,
    )


def make_signature(key: Any, kind: AkKind, data: bytes) -> bytes:
    """Return the key's TPMT_SIGNATURE over any bytes: a restricted key would refuse some."""
    hash_ = HASHES[kind.hash]
    if kind.scheme == tpm.ALG_ECDSA:
        algorithm = ec.ECDSA(hash_, deterministic_signing=True)
        size = -(-key.curve.key_size // 8)
        both = decode_dss_signature(key.sign(data, algorithm))
        values = tuple(one.to_bytes(size, "big") for one in both)
    elif kind.scheme == tpm.ALG_RSASSA:
        values = (key.sign(data, padding.PKCS1v15(), hash_),)
    else:
        values = (key.sign(data, padding.PSS(padding.MGF1(hash_), kind.salt), hash_),)
    return tpm.Signature(scheme=kind.scheme, hash=kind.hash, values=values).encode()


EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")


def ecc_public(key: ec.EllipticCurvePrivateKey, **changes: Any) -> tpm.Public:
    """Return the public area of a restricted signing key, or of what `changes` makes of it."""
    fields: dict[str, Any] = {
        "type": tpm.ALG_ECC,
        "name_hash": tpm.ALG_SHA256,
        "attributes": 0x50072,
        "policy": b"",
        "symmetric": tpm.NO_SCHEME,
        "scheme": tpm.ECDSA_SHA256,
        "size": tpm.CURVE_P256,
        "unique": point(key),
    }
    return tpm.Public(**(fields | changes))


STORAGE: dict[str, Any] = {"symmetric": tpm.AES_128_CFB, "scheme": tpm.NO_SCHEME}
EK: dict[str, Any] = {"attributes": 0x300B2, "policy": EK_POLICY, **STORAGE}
