"""What a TPM signs about itself, its registers and its objects: TPMS_ATTEST, and what is in it."""

from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.malformed import Malformed
from evidence.tpm.registers import PcrSelection, encode_selections, read_selections
from evidence.tpm.sized import tpm2b

GENERATED = 0xFF544347
"""TPM_GENERATED_VALUE (6.2): the first word of everything that a TPM signs about itself."""

ST_ATTEST_CERTIFY = 0x8017
ST_ATTEST_QUOTE = 0x8018
ST_ATTEST_TIME = 0x8019
ST_ATTEST_CREATION = 0x801A
"""TPM_ST values (6.9)."""


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
        return encode_selections(self.selections) + tpm2b(self.digest)

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
        return tpm2b(self.name) + tpm2b(self.creation_hash)

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
        return tpm2b(self.name) + tpm2b(self.qualified_name)

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
                tpm2b(self.qualified_signer),
                tpm2b(self.extra_data),
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
