"""The TPM structures that a verifier reads, and their one encoding.

Source: TCG Trusted Platform Module Library, Part 2: Structures, revision 1.59; section numbers
stand beside each class. Everything is big endian; a TPM2B is a 16-bit length and that many bytes.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.malformed import Malformed

GENERATED = 0xFF544347
"""TPM_GENERATED_VALUE (6.2): the first word of everything that a TPM signs about itself."""

ST_ATTEST_CERTIFY = 0x8017
ST_ATTEST_QUOTE = 0x8018
ST_ATTEST_TIME = 0x8019
ST_ATTEST_CREATION = 0x801A
"""TPM_ST values (6.9)."""

ALG_RSA = 0x0001
ALG_AES = 0x0006
ALG_SHA1 = 0x0004
ALG_SHA256 = 0x000B
ALG_SHA384 = 0x000C
ALG_SHA512 = 0x000D
ALG_NULL = 0x0010
ALG_RSASSA = 0x0014
ALG_RSAES = 0x0015
ALG_RSAPSS = 0x0016
ALG_OAEP = 0x0017
ALG_ECDSA = 0x0018
ALG_ECDH = 0x0019
ALG_ECDAA = 0x001A
ALG_SM2 = 0x001B
ALG_ECSCHNORR = 0x001C
ALG_ECC = 0x0023
ALG_CFB = 0x0043
"""TPM_ALG_ID values (6.3)."""

CURVE_P256 = 0x0003
CURVE_P384 = 0x0004
CURVE_P521 = 0x0005
"""TPM_ECC_CURVE values (6.4)."""

RH_OWNER = 0x40000001
RH_NULL = 0x40000007
RH_ENDORSEMENT = 0x4000000B
RH_PLATFORM = 0x4000000C
"""TPM_RH values (7.4)."""

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

HASHES = {ALG_SHA1: "sha1", ALG_SHA256: "sha256", ALG_SHA384: "sha384", ALG_SHA512: "sha512"}
"""The hash algorithms that this module can compute a Name with, by TPM_ALG_ID."""

MOST_SELECTIONS = 16
"""HASH_COUNT of TPML_PCR_SELECTION (10.9.7): no TPM has more banks."""
MOST_SELECT_BYTES = 4
"""PCR_SELECT_MAX is 3 on a PC (10.6.1); 4 is read so that a refusal can say what it found."""


def _tpm2b(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrSelection:
    """TPMS_PCR_SELECTION (10.6.2): registers of one bank."""

    bank: int
    """TPM_ALG_ID of the bank."""
    registers: tuple[int, ...]
    """Register numbers, ascending."""
    size_bytes: int = 3
    """sizeofSelect, the length of the bitmap."""

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        bits = sum(1 << register for register in self.registers)
        bitmap = bits.to_bytes(self.size_bytes, "little")
        return self.bank.to_bytes(2, "big") + bytes([self.size_bytes]) + bitmap

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read one selection at the cursor."""
        bank = cursor.u16()
        size_bytes = cursor.u8()
        if not 1 <= size_bytes <= MOST_SELECT_BYTES:
            raise Malformed(f"expected 1 to {MOST_SELECT_BYTES} bytes of bitmap, got {size_bytes}")
        bits = int.from_bytes(cursor.take(size_bytes), "little")
        registers = tuple(n for n in range(8 * size_bytes) if bits >> n & 1)
        return cls(bank=bank, registers=registers, size_bytes=size_bytes)


def encode_selections(selections: tuple[PcrSelection, ...]) -> bytes:
    """Return a TPML_PCR_SELECTION (10.9.7)."""
    return len(selections).to_bytes(4, "big") + b"".join(one.encode() for one in selections)


def read_selections(cursor: Cursor) -> tuple[PcrSelection, ...]:
    """Read a TPML_PCR_SELECTION (10.9.7)."""
    count = cursor.u32()
    if count > MOST_SELECTIONS:
        raise Malformed(f"expected at most {MOST_SELECTIONS} PCR selections, got {count}")
    return tuple(PcrSelection.read(cursor) for _ in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockInfo:
    """TPMS_CLOCK_INFO (10.11.1)."""

    clock: int
    """Milliseconds that the TPM has been powered."""
    reset_count: int
    """TPM Resets since the last TPM2_Clear."""
    restart_count: int
    """TPM Restarts or Resumes since the last TPM Reset."""
    safe: bool
    """No value of `clock` greater than this one has been reported before."""

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        counts = self.reset_count.to_bytes(4, "big") + self.restart_count.to_bytes(4, "big")
        return self.clock.to_bytes(8, "big") + counts + bytes([self.safe])

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read the structure at the cursor."""
        clock, reset_count, restart_count = cursor.u64(), cursor.u32(), cursor.u32()
        safe = cursor.u8()
        if safe > 1:
            raise Malformed(f"expected safe to be 0 or 1, got {safe}")
        return cls(
            clock=clock, reset_count=reset_count, restart_count=restart_count, safe=bool(safe)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """TPMS_QUOTE_INFO (10.12.4): the registers that were quoted, and the hash of their values."""

    selections: tuple[PcrSelection, ...]
    digest: bytes
    """Hash, in the signing scheme's algorithm, over the values in selection order."""

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        return encode_selections(self.selections) + _tpm2b(self.digest)

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read the structure at the cursor."""
        return cls(selections=read_selections(cursor), digest=cursor.sized(2, 64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """TPMS_CREATION_INFO (10.12.7): an object that this TPM created, and how."""

    name: bytes
    creation_hash: bytes

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        return _tpm2b(self.name) + _tpm2b(self.creation_hash)

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read the structure at the cursor."""
        return cls(name=cursor.sized(2, 68), creation_hash=cursor.sized(2, 64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certification:
    """TPMS_CERTIFY_INFO (10.12.3): an object that is loaded in this TPM."""

    name: bytes
    qualified_name: bytes

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        return _tpm2b(self.name) + _tpm2b(self.qualified_name)

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read the structure at the cursor."""
        return cls(name=cursor.sized(2, 68), qualified_name=cursor.sized(2, 68))


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """TPMS_TIME_ATTEST_INFO (10.12.2): what the TPM's clocks say, not obfuscated."""

    time: int
    """Milliseconds since the TPM was last started."""
    clock_info: ClockInfo
    firmware_version: int

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        clocks = self.time.to_bytes(8, "big") + self.clock_info.encode()
        return clocks + self.firmware_version.to_bytes(8, "big")

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read the structure at the cursor."""
        return cls(
            time=cursor.u64(), clock_info=ClockInfo.read(cursor), firmware_version=cursor.u64()
        )


Attested = Quote | Creation | Certification | Time

_ATTESTED: dict[int, type[Attested]] = {
    ST_ATTEST_CERTIFY: Certification,
    ST_ATTEST_QUOTE: Quote,
    ST_ATTEST_TIME: Time,
    ST_ATTEST_CREATION: Creation,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """TPMS_ATTEST (10.12.12): what a TPM signs about itself, its registers and its objects.

    Not read: audits of commands and sessions, and contents of NV memory.
    """

    qualified_signer: bytes
    """Qualified Name of the signing key."""
    extra_data: bytes
    """The caller's bytes: for a quote, the binding to the challenge."""
    clock_info: ClockInfo
    firmware_version: int
    attested: Attested

    def encode(self) -> bytes:
        """Return the structure's bytes, as they are signed."""
        kinds = (kind for kind, shape in _ATTESTED.items() if isinstance(self.attested, shape))
        return b"".join(
            (
                GENERATED.to_bytes(4, "big"),
                next(kinds).to_bytes(2, "big"),
                _tpm2b(self.qualified_signer),
                _tpm2b(self.extra_data),
                self.clock_info.encode(),
                self.firmware_version.to_bytes(8, "big"),
                self.attested.encode(),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the structure in `data`; raise Malformed on anything else."""
        cursor = Cursor(data)
        if (magic := cursor.u32()) != GENERATED:
            raise Malformed(f"expected TPM_GENERATED {GENERATED:#x}, got {magic:#x}")
        kind = cursor.u16()
        if kind not in _ATTESTED:
            expected = ", ".join(f"{one:#x}" for one in _ATTESTED)
            raise Malformed(f"expected an attestation of a type {expected}, got {kind:#x}")
        attest = cls(
            qualified_signer=cursor.sized(2, 68),
            extra_data=cursor.sized(2, 64),
            clock_info=ClockInfo.read(cursor),
            firmware_version=cursor.u64(),
            attested=_ATTESTED[kind].read(cursor),
        )
        cursor.end()
        return attest


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """TPMT_SIGNATURE (11.3.4) by RSASSA, RSAPSS or ECDSA."""

    scheme: int
    """TPM_ALG_ID: ALG_RSASSA, ALG_RSAPSS or ALG_ECDSA."""
    hash: int
    """TPM_ALG_ID of the hash."""
    values: tuple[bytes, ...]
    """The RSA signature, or r and s."""

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        head = self.scheme.to_bytes(2, "big") + self.hash.to_bytes(2, "big")
        return head + b"".join(_tpm2b(value) for value in self.values)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the structure in `data`; raise Malformed on anything else."""
        cursor = Cursor(data)
        scheme, hash_ = cursor.u16(), cursor.u16()
        if scheme not in (ALG_RSASSA, ALG_RSAPSS, ALG_ECDSA):
            raise Malformed(f"expected RSASSA, RSAPSS or ECDSA, got algorithm {scheme:#x}")
        count = 2 if scheme == ALG_ECDSA else 1
        values = tuple(cursor.sized(2, 512) for _ in range(count))
        cursor.end()
        return cls(scheme=scheme, hash=hash_, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """An algorithm and its detail: TPMT_SYM_DEF_OBJECT (11.1.7) or an asymmetric scheme (11.2).

    `parameters` are the 16-bit words after the algorithm: key bits and mode of a symmetric
    cipher, the hash of a signing scheme, nothing for ALG_NULL and RSAES.
    """

    algorithm: int
    parameters: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        words = (self.algorithm, *self.parameters)
        return b"".join(word.to_bytes(2, "big") for word in words)


NO_SCHEME = Scheme(algorithm=ALG_NULL)
AES_128_CFB = Scheme(algorithm=ALG_AES, parameters=(128, ALG_CFB))
ECDSA_SHA256 = Scheme(algorithm=ALG_ECDSA, parameters=(ALG_SHA256,))

_SYMMETRIC_WORDS = {ALG_NULL: 0, ALG_AES: 2}
_SCHEME_WORDS = {
    ALG_RSA: {ALG_NULL: 0, ALG_RSASSA: 1, ALG_RSAPSS: 1, ALG_OAEP: 1, ALG_RSAES: 0},
    ALG_ECC: {
        ALG_NULL: 0, ALG_ECDSA: 1, ALG_ECDH: 1, ALG_ECDAA: 2, ALG_SM2: 1, ALG_ECSCHNORR: 1,
    },
}  # fmt: skip
_KDF_WORDS = {ALG_NULL: 0}


def _read_scheme(cursor: Cursor, words: dict[int, int]) -> Scheme:
    algorithm = cursor.u16()
    if algorithm not in words:
        raise Malformed(f"expected one of the algorithms {sorted(words)}, got {algorithm:#x}")
    parameters = tuple(cursor.u16() for _ in range(words[algorithm]))
    return Scheme(algorithm=algorithm, parameters=parameters)


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
                _tpm2b(self.policy),
                self.symmetric.encode(),
                self.scheme.encode(),
                detail,
                *(_tpm2b(value) for value in self.unique),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the structure in `data`; raise Malformed on anything else."""
        cursor = Cursor(data)
        type_, name_hash = cursor.u16(), cursor.u16()
        if type_ not in _SCHEME_WORDS:
            raise Malformed(f"expected an RSA or ECC key, got type {type_:#x}")
        if name_hash not in HASHES:
            raise Malformed(f"expected a known name algorithm, got {name_hash:#x}")
        attributes, policy = cursor.u32(), cursor.sized(2, 64)
        symmetric = _read_scheme(cursor, _SYMMETRIC_WORDS)
        scheme = _read_scheme(cursor, _SCHEME_WORDS[type_])
        size = cursor.u16()
        exponent = 0
        if type_ == ALG_RSA:
            exponent = cursor.u32()
        else:
            _read_scheme(cursor, _KDF_WORDS)
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
        return _named(self.name_hash, self.encode())

    def qualified_name(self, parent: bytes) -> bytes:
        """Return the key's Qualified Name under a parent of Qualified Name `parent`.

        A primary's parent is its hierarchy: `hierarchy_name(RH_ENDORSEMENT)`.
        """
        return _named(self.name_hash, parent + self.name())


def hierarchy_name(handle: int) -> bytes:
    """Return the Name of a hierarchy: its handle (Part 1, section 16)."""
    return handle.to_bytes(4, "big")


def qualify(name: bytes, parent: bytes) -> bytes:
    """Return the Qualified Name of an object whose Name is `name` (Part 1, section 16)."""
    algorithm = int.from_bytes(name[:2], "big")
    if algorithm not in HASHES:
        raise Malformed(f"expected a Name of a known algorithm, got {algorithm:#x}")
    return _named(algorithm, parent + name)


def _named(algorithm: int, data: bytes) -> bytes:
    return algorithm.to_bytes(2, "big") + hashlib.new(HASHES[algorithm], data).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreationData:
    """TPMS_CREATION_DATA (15.1): the circumstances under which an object was made."""

    selections: tuple[PcrSelection, ...]
    digest: bytes
    """Hash of the selected registers' values, in the object's name algorithm."""
    locality: int
    parent_name_hash: int
    """TPM_ALG_ID of the parent's Name; ALG_NULL for a primary."""
    parent_name: bytes
    parent_qualified_name: bytes
    outside_info: bytes
    """The caller's bytes: for a process key, SHA-256 of its core record."""

    def encode(self) -> bytes:
        """Return the structure's bytes, as their hash is certified."""
        return b"".join(
            (
                encode_selections(self.selections),
                _tpm2b(self.digest),
                bytes([self.locality]),
                self.parent_name_hash.to_bytes(2, "big"),
                _tpm2b(self.parent_name),
                _tpm2b(self.parent_qualified_name),
                _tpm2b(self.outside_info),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the structure in `data`; raise Malformed on anything else."""
        cursor = Cursor(data)
        creation = cls(
            selections=read_selections(cursor),
            digest=cursor.sized(2, 64),
            locality=cursor.u8(),
            parent_name_hash=cursor.u16(),
            parent_name=cursor.sized(2, 68),
            parent_qualified_name=cursor.sized(2, 68),
            outside_info=cursor.sized(2, 64),
        )
        cursor.end()
        return creation
