"""Which registers of which banks: a TPML_PCR_SELECTION and what it is made of."""

from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.malformed import Malformed

MOST_SELECTIONS = 16
"""HASH_COUNT of TPML_PCR_SELECTION (10.9.7): no TPM has more banks."""
MOST_SELECT_BYTES = 4
"""PCR_SELECT_MAX is 3 on a PC (10.6.1); 4 is read so that a refusal can say what it found."""


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
