"""How a process's files are mapped executable, against what their program headers dictate.

A loader maps each executable segment of a file once, whole, in pages (System V ABI, chapter 5;
Linux fs/binfmt_elf.c, elf_load; glibc elf/dl-map-segments.h). Text that was made writable, changed
and put back is the file's again and no page tells, but the mapping stays cut in pieces. A file
that is mapped elsewhere, or in other parts, runs as nobody built it: its data is not where its
code looks for it. docs/decisions/0013-layout.md says what real programs were seen to do.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from evidence import Malformed
from evidence.process import Look, MappedFile, Segment
from verifier.reasons import Finding, Reason, label

PAGE_SIZES = (0x1000, 0x4000, 0x10000)
"""Bytes, of the machines that Linux runs on."""

MOST_SEGMENTS = 16
"""Executable ones of a file, as the attestor reads them: linkers make one, seldom two or three."""

MOST_AGAIN_BYTES = 0x10000
"""A piece of a program's own text that it maps a second time: libffi does so with 4 to 64 KiB, as
trampolines (src/tramp.c, and *_TRAMP_MAP_SIZE for each processor), instead of writing code."""


class Range(NamedTuple):
    """A mapping, or what a loader would map: whole pages, in bytes."""

    start: int
    offset: int
    length: int

    def moved(self, distance: int) -> "Range":
        """Return the same range of the file at another place."""
        return self._replace(start=self.start + distance)

    def continues(self, other: "Range") -> bool:
        """Say whether it begins where `other` ends, in memory and in the file."""
        return (
            self.start == other.start + other.length and self.offset == other.offset + other.length
        )

    def is_within(self, other: "Range") -> bool:
        """Say whether it is a part of the file that `other` is all of."""
        return other.offset <= self.offset and (
            self.offset + self.length <= other.offset + other.length
        )


def find_misplaced(look: Look) -> Iterator[Finding]:
    """Yield files whose executable mappings are not what their program headers dictate."""
    if look.page_bytes not in PAGE_SIZES:
        raise Malformed(f"expected a page size of {PAGE_SIZES}, got {look.page_bytes}")
    if any(len(file.segments) > MOST_SEGMENTS for file in look.files):
        raise Malformed(f"expected at most {MOST_SEGMENTS} executable segments of a file")
    mapped: dict[int, list[Range]] = {}
    for one in look.mappings:
        mapped.setdefault(one.file, []).append(Range(one.start, one.offset, one.length))
    for number, found in mapped.items():
        yield from _judge_file(look.files[number], sorted(found), look.page_bytes)


def _judge_file(file: MappedFile, found: list[Range], page_bytes: int) -> Iterator[Finding]:
    what = label(file.path)
    pieces = sum(second.continues(first) for first, second in pairwise(found))
    if pieces:
        expected, cut = "each segment in one mapping", f"cut in {pieces + 1} pieces"
        yield Finding(reason=Reason.PROCESS_SPLIT, what=what, expected=expected, found=cut)
        return
    wanted = _as_loaded(file.segments, page_bytes)
    there = frozenset(found)
    places = [one for one in _places(file, wanted, found) if _is_all_there(wanted, one, there)]
    if len(places) != 1:
        times = f"{len(places)} times, in {_text(found)}"
        expected = f"once {_text(wanted)}" if wanted else "no executable mapping of no program"
        yield Finding(reason=Reason.PROCESS_LAYOUT, what=what, expected=expected, found=times)
        return
    whole = {one.moved(places[0]) for one in wanted}
    for one in found:
        if one not in whole and not _is_piece(one, wanted):
            expected = f"{_text(wanted)}, or at most {MOST_AGAIN_BYTES} bytes of it again"
            yield Finding(
                reason=Reason.PROCESS_LAYOUT, what=what, expected=expected, found=_text([one])
            )


def _as_loaded(segments: tuple[Segment, ...], page_bytes: int) -> list[Range]:
    """Return what a loader maps of a program loaded at address 0; nothing if none can load it."""
    ranges: list[Range] = []
    if any((one.address - one.offset) % page_bytes for one in segments):
        return ranges
    for one in sorted(segments, key=lambda segment: segment.address):
        start, offset = one.address - one.address % page_bytes, one.offset - one.offset % page_bytes
        end = one.address + one.length
        this = Range(start, offset, end + -end % page_bytes - start)
        if ranges and this.continues(ranges[-1]):
            # The kernel makes one mapping of the two.
            last = ranges.pop()
            this = Range(last.start, last.offset, last.length + this.length)
        ranges.append(this)
    return ranges


def _places(file: MappedFile, wanted: list[Range], found: list[Range]) -> list[int]:
    """Return the distances at which the program may be loaded: where its first segment is."""
    if not wanted:
        return []
    first = wanted[0]
    places = [one.start - first.start for one in found if one[1:] == first[1:]]
    return places if file.is_movable else [0]


def _is_all_there(wanted: list[Range], distance: int, there: frozenset[Range]) -> bool:
    return all(one.moved(distance) in there for one in wanted)


def _is_piece(one: Range, wanted: list[Range]) -> bool:
    return one.length <= MOST_AGAIN_BYTES and any(one.is_within(other) for other in wanted)


def _text(ranges: Iterable[Range]) -> str:
    parts = [f"{one.offset:#x}+{one.length:#x}" for one in ranges]
    return ", ".join(parts[:4]) + (", …" if len(parts) > 4 else "")  # noqa: PLR2004
