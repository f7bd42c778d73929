"""Reading bytes from left to right without ever running past their end."""

from dataclasses import dataclass
from typing import Literal

from evidence.malformed import Malformed

ByteOrder = Literal["big", "little"]


@dataclass(slots=True)
class Cursor:
    """A position in `data`; every read either returns what was asked for or raises Malformed.

    A Python slice past the end is silently short, which is how parsers come to accept
    truncated structures; this class is the only place that slices.
    """

    data: bytes
    order: ByteOrder = "big"
    """TPM structures are big endian, the kernel's measurement list is little endian."""
    position: int = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self.position + count
        if end > len(self.data):
            left = len(self.data) - self.position
            raise Malformed(f"expected {count} bytes at offset {self.position}, found {left}")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, size_bytes: int) -> int:
        """Return the next unsigned integer of `size_bytes` bytes."""
        return int.from_bytes(self.take(size_bytes), self.order)

    def u8(self) -> int:
        """Return the next byte."""
        return self.number(1)

    def u16(self) -> int:
        """Return the next 16-bit number."""
        return self.number(2)

    def u32(self) -> int:
        """Return the next 32-bit number."""
        return self.number(4)

    def u64(self) -> int:
        """Return the next 64-bit number."""
        return self.number(8)

    def sized(self, size_bytes: int, most: int) -> bytes:
        """Return bytes that a length of `size_bytes` bytes announces, at most `most` of them."""
        count = int.from_bytes(self.take(size_bytes), self.order)
        if count > most:
            raise Malformed(f"expected at most {most} bytes at {self.position}, found {count}")
        return self.take(count)

    def is_at_end(self) -> bool:
        """Say whether everything has been read."""
        return self.position == len(self.data)

    def end(self) -> None:
        """Raise Malformed unless everything has been read."""
        if not self.is_at_end():
            raise Malformed(f"{len(self.data) - self.position} bytes too many")
