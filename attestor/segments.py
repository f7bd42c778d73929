"""The executable segments of a program, from the first bytes of its file.

A program chooses these bytes, so they are read with bounds, and whatever is not a 64-bit ELF file
of this machine's byte order with a plain program header table has no segments: mapped executable,
it fits nothing, and is refused by whoever judges. Format: System V ABI, chapters 4 (ELF header)
and 5 (program header); elf(5).
"""

import sys
from dataclasses import dataclass

from evidence import Malformed
from evidence.cursor import Cursor
from evidence.process import Segment

HEAD_BYTES = 1 << 20
"""The program headers are looked for in the first so many bytes; linkers put them at byte 64."""
MOST_HEADERS = 1170
"""Of 56 bytes each: Linux takes at most 65536 bytes (fs/binfmt_elf.c, load_elf_phdrs)."""
MOST_SEGMENTS = 16
"""Executable ones; linkers make one, seldom two or three."""

_ELF64 = b"\x7fELF\x02" + (b"\x01" if sys.byteorder == "little" else b"\x02") + b"\x01"
"""e_ident: magic, ELFCLASS64, this machine's byte order, EV_CURRENT."""
_IDENT_BYTES = 16
_HEADER_BYTES = 56
"""sizeof(Elf64_Phdr)."""
_FIXED, _MOVABLE = 2, 3
"""ET_EXEC and ET_DYN."""
_LOAD = 1
"""PT_LOAD."""
_EXECUTE = 1
"""PF_X."""


@dataclass(frozen=True, slots=True)
class Program:
    """What of a program its loader maps executable."""

    segments: tuple[Segment, ...]
    is_movable: bool
    """ET_DYN: it may lie anywhere; ET_EXEC lies where its headers say."""


NO_PROGRAM = Program(segments=(), is_movable=False)


def program_of(head: bytes) -> Program:
    """Return the program whose file starts with `head`, NO_PROGRAM if it is none that we know."""
    try:
        return _read(head)
    except Malformed:
        return NO_PROGRAM


def _read(head: bytes) -> Program:
    header = Cursor(head, sys.byteorder)
    ident = header.take(_IDENT_BYTES)
    kind = header.u16()
    if not ident.startswith(_ELF64) or kind not in (_FIXED, _MOVABLE):
        return NO_PROGRAM
    header.take(2 + 4 + 8)  # e_machine, e_version, e_entry
    table = header.u64()
    header.take(8 + 4 + 2)  # e_shoff, e_flags, e_ehsize
    size, count = header.u16(), header.u16()
    if size != _HEADER_BYTES or count > MOST_HEADERS:
        return NO_PROGRAM
    headers = Cursor(head, sys.byteorder, table)
    found = [one for _ in range(count) if (one := _segment(headers)) is not None]
    if len(found) > MOST_SEGMENTS:
        return NO_PROGRAM
    return Program(tuple(found), kind == _MOVABLE)


def _segment(headers: Cursor) -> Segment | None:
    kind, flags = headers.u32(), headers.u32()
    offset, address, _, length, _, _ = (headers.u64() for _ in range(6))
    if kind != _LOAD or not flags & _EXECUTE:
        return None
    return Segment(offset=offset, address=address, length=length)
