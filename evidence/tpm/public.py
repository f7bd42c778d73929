"""A key's public area, its attributes and its Name."""

from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.malformed import Malformed
from evidence.tpm.algorithms import (
    ALG_RSA,
    HASHES,
    KDF_WORDS,
    NO_SCHEME,
    SCHEME_WORDS,
    SYMMETRIC_WORDS,
    Scheme,
)
from evidence.tpm.names import name_of
from evidence.tpm.sized import tpm2b

FIXED_TPM = 1 << 1
ST_CLEAR = 1 << 2
FIXED_PARENT = 1 << 4
SENSITIVE_DATA_ORIGIN = 1 << 5
USER_WITH_AUTH = 1 << 6
ADMIN_WITH_POLICY = 1 << 7
NO_DA = 1 << 10
ENCRYPTED_DUPLICATION = 1 << 11
RESTRICTED = 1 << 16
DECRYPT = 1 << 17
SIGN = 1 << 18
X509_SIGN = 1 << 19
"""TPMA_OBJECT bits (8.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """TPMT_PUBLIC (12.2.4) of an RSA or ECC key."""

    type: int
    """ALG_RSA or ALG_ECC."""
    name_hash: int
    """nameAlg, TPM_ALG_ID."""
    attributes: int
    """TPMA_OBJECT."""
    policy: bytes
    """authPolicy, empty where there is none."""
    symmetric: Scheme
    """Of a key that protects others; ALG_NULL for signing keys."""
    scheme: Scheme
    size: int
    """keyBits of an RSA key, TPM_ECC_CURVE of an ECC key."""
    exponent: int = 0
    """Of an RSA key; 0 stands for 65537. Always 0 for ECC."""
    unique: tuple[bytes, ...]
    """The RSA modulus, or the point's x and y."""

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        head = self.type.to_bytes(2, "big") + self.name_hash.to_bytes(2, "big")
        if self.type == ALG_RSA:
            detail = self.size.to_bytes(2, "big") + self.exponent.to_bytes(4, "big")
        else:
            detail = self.size.to_bytes(2, "big") + NO_SCHEME.encode()
        return b"".join(
            (
                head,
                self.attributes.to_bytes(4, "big"),
                tpm2b(self.policy),
                self.symmetric.encode(),
                self.scheme.encode(),
                detail,
                *(tpm2b(value) for value in self.unique),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the structure in `data`; raise Malformed on anything else."""
        cursor = Cursor(data)
        type_, name_hash = cursor.u16(), cursor.u16()
        if type_ not in SCHEME_WORDS:
            raise Malformed(f"expected an RSA or ECC key, got type {type_:#x}")
        if name_hash not in HASHES:
            raise Malformed(f"expected a known name algorithm, got {name_hash:#x}")
        attributes, policy = cursor.u32(), cursor.sized(2, 64)
        symmetric = Scheme.read(cursor, SYMMETRIC_WORDS)
        scheme = Scheme.read(cursor, SCHEME_WORDS[type_])
        size = cursor.u16()
        exponent = 0
        if type_ == ALG_RSA:
            exponent = cursor.u32()
        else:
            Scheme.read(cursor, KDF_WORDS)
        unique = tuple(cursor.sized(2, 512) for _ in range(1 if type_ == ALG_RSA else 2))
        cursor.end()
        return cls(
            type=type_,
            name_hash=name_hash,
            attributes=attributes,
            policy=policy,
            symmetric=symmetric,
            scheme=scheme,
            size=size,
            exponent=exponent,
            unique=unique,
        )

    @classmethod
    def decode_sized(cls, data: bytes) -> Self:
        """Return the structure in a TPM2B_PUBLIC (12.2.5) or in a TPMT_PUBLIC, as files have it.

        No structure begins with its own size: the two cannot be taken for each other.
        """
        is_sized = int.from_bytes(data[:2], "big") == len(data) - 2
        return cls.decode(data[2:] if is_sized else data)

    def name(self) -> bytes:
        """Return the key's Name (Part 1, section 16): nameAlg and the hash of this structure."""
        return name_of(self.name_hash, self.encode())

    def qualified_name(self, parent: bytes) -> bytes:
        """Return the key's Qualified Name under a parent of Qualified Name `parent`.

        A primary's parent is its hierarchy: `hierarchy_name(RH_ENDORSEMENT)`.
        """
        return name_of(self.name_hash, parent + self.name())
