"""A process's executable memory: where it is mapped, and which pages are still the files'."""

import os
import re
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

from attestor.proc import NoLook, open_at
from evidence.shapes import Shape

MOST_MAPPINGS = 2048
"""Executable ones; a browser has some 300."""
MOST_TEXT_BYTES = 4 << 30
"""Mapped executable from files: the page map has 8 bytes for each page of it."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

VSYSCALL = b"[vsyscall]"
KERNEL_PAGES = frozenset({b"[vdso]", VSYSCALL, b"[vvar]", b"[vvar_vclock]"})
"""Executable or not, the kernel put them there; a file of that name has a path before it. What
a process has written to is a copy of its own, and counts."""

_PAGE_ENTRY_BYTES = 8
_PAGE_IS_FILES, _PAGE_IS_SWAPPED, _PAGE_IS_PRESENT = 61, 62, 63
"""Bits of an entry of /proc/PID/pagemap (Linux Documentation/admin-guide/mm/pagemap.rst)."""

_MAPS_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)$",
    re.MULTILINE,
)
_EXECUTABLE_LINE = re.compile(_MAPS_LINE.pattern.replace(rb"[x-]", b"x"), re.MULTILINE)
_ANY_LINE = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ [r-][w-][x-][sp] ", re.MULTILINE)
_OWN_LINE = re.compile(rb"(?:Anonymous|Swap): +(\d+) kB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region(Shape):
    """An executable mapping, as /proc/PID/maps has it."""

    start: int
    length: int
    permissions: bytes
    offset: int
    device: bytes
    inode: int
    name: bytes


def regions_of(maps: bytes) -> tuple[Region, ...]:
    """Return the executable mappings in the text of a maps file."""
    found = tuple(_region(match) for match in _EXECUTABLE_LINE.finditer(maps))
    # Lines are sought, for speed: so see that there is nothing but such lines.
    kinds = [match[-3:-2] for match in _ANY_LINE.findall(maps)]
    if len(kinds) != maps.count(b"\n") or kinds.count(b"x") != len(found):
        raise NoLook("the kernel writes maps in a way that is not known here")
    if len(found) > MOST_MAPPINGS:
        raise NoLook(f"more than {MOST_MAPPINGS} executable mappings")
    return found


def _region(match: re.Match[bytes]) -> Region:
    start, end, permissions, offset, device, inode, name = match.groups()
    return Region(
        start=int(start, 16),
        length=int(end, 16) - int(start, 16),
        permissions=permissions,
        offset=int(offset, 16),
        device=device,
        inode=int(inode),
        name=name,
    )


def map_file(region: Region) -> str:
    """Return the name, in /proc/PID, of the link to the file that a region maps."""
    return f"map_files/{region.start:x}-{region.start + region.length:x}"


def is_kernels(region: Region) -> bool:
    """Say whether a region of no file is the kernel's."""
    return region.name in KERNEL_PAGES and region.permissions[1:2] != b"w"


def own_pages(directory: int, regions: tuple[Region, ...]) -> list[int]:
    """Return the addresses of pages that the page map does not give to a file.

    A page that was written to (by the process itself, by ptrace or through /proc/PID/mem) is a
    copy of the process's own from then on, in memory or swapped out.
    """
    # The vsyscall page is the same for all processes, and not in the page map.
    wanted = [one for one in regions if one.name != VSYSCALL and (one.inode or is_kernels(one))]
    if sum(one.length for one in wanted) > MOST_TEXT_BYTES:
        raise NoLook(f"more than {MOST_TEXT_BYTES} bytes are mapped executable")
    found: list[int] = []
    pagemap = open_at(directory, "pagemap")
    try:
        for region in wanted:
            found.extend(_own_pages_of(pagemap, region))
    finally:
        os.close(pagemap)
    return found


def _own_pages_of(pagemap: int, region: Region) -> Iterable[int]:
    count = region.length // PAGE_BYTES
    place = region.start // PAGE_BYTES * _PAGE_ENTRY_BYTES
    entries = os.pread(pagemap, count * _PAGE_ENTRY_BYTES, place)
    if len(entries) != count * _PAGE_ENTRY_BYTES:
        raise NoLook("the page map has no entry for a page that is mapped")
    # All pages at once, as one long number: nearly always the answer is that there is none.
    every = int.from_bytes(entries, sys.byteorder)
    is_there = every >> _PAGE_IS_PRESENT | every >> _PAGE_IS_SWAPPED
    ones = int.from_bytes((1).to_bytes(_PAGE_ENTRY_BYTES, sys.byteorder) * count, sys.byteorder)
    if not is_there & ~(every >> _PAGE_IS_FILES) & ones:
        return ()
    return (
        region.start + number * PAGE_BYTES
        for number, entry in enumerate(array("Q", entries))
        if entry >> _PAGE_IS_SWAPPED and not entry >> _PAGE_IS_FILES & 1
    )


def own_bytes(smaps: bytes) -> dict[int, int]:
    """Return, by the start of each mapping, how many of its bytes are no longer the file's."""
    found: dict[int, int] = {}
    start = 0
    for line in smaps.split(b"\n"):
        if (match := _MAPS_LINE.fullmatch(line)) is not None:
            start = int(match[1], 16)
        elif (size := _OWN_LINE.fullmatch(line)) is not None:
            found[start] = found.get(start, 0) + int(size[1]) * 1024
    return found
