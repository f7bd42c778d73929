"""Reading program headers: of this machine's programs, and of hostile ones."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestor.digests import Digests
from attestor.segments import (
    HEAD_BYTES,
    MOST_HEADERS,
    MOST_SEGMENTS,
    NO_PROGRAM,
    Program,
    program_of,
)
from evidence.process import Segment

EXECUTABLE, DATA = 5, 6
"""PF_R | PF_X and PF_R | PF_W."""


def header(kind: int = 1, flags: int = EXECUTABLE, *, offset: int = 0x1000) -> bytes:
    return struct.pack("=IIQQQQQQ", kind, flags, offset, offset + 0x40_0000, 7, 0x123, 0x456, 4096)


def elf(
    *headers: bytes,
    ident: bytes = b"\x7fELF\2\1\1" + bytes(9),
    kind: int = 3,
    at: int = 64,
    size: int = 56,
    count: int | None = None,
) -> bytes:
    count = len(headers) if count is None else count
    fixed = struct.pack("=HHIQQQIHHHHHH", kind, 62, 1, 0x1040, at, 0, 0, 64, size, count, 0, 0, 0)
    return (ident + fixed).ljust(at, b"\0")[:at] + b"".join(headers)


TEXT = Segment(offset=0x1000, address=0x40_1000, length=0x123)


def test_executable_segments_alone_are_kept() -> None:
    headers = header(), header(flags=DATA), header(6), header(offset=0x2000)
    again = Segment(offset=0x2000, address=0x40_2000, length=0x123)
    assert program_of(elf(*headers)) == Program((TEXT, again), is_movable=True)
    assert program_of(elf(*headers, kind=2, at=4096)) == Program((TEXT, again), is_movable=False)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"#!/bin/sh\n" + bytes(4096), id="script"),
        pytest.param(elf(header(), ident=b"\x7fELF\1\1\1" + bytes(9)), id="32 bits"),
        pytest.param(elf(header(), ident=b"\x7fELF\2\2\1" + bytes(9)), id="big endian"),
        pytest.param(elf(header(), ident=b"\x7fELF\2\1\0" + bytes(9)), id="another version"),
        pytest.param(elf(header(), kind=1), id="object file"),
        pytest.param(elf(header(), kind=4), id="core file"),
        pytest.param(elf(header(), size=64), id="longer headers"),
        pytest.param(elf(header(), size=0), id="headers of no length"),
        pytest.param(elf(header(), count=2), id="fewer headers than announced"),
        pytest.param(elf(header(), count=0xFFFF), id="count elsewhere"),
        pytest.param(elf(*[header(flags=DATA)] * (MOST_HEADERS + 1)), id="too many headers"),
        pytest.param(elf(*[header()] * (MOST_SEGMENTS + 1)), id="too many segments"),
        pytest.param(elf(header(), at=HEAD_BYTES)[:HEAD_BYTES], id="headers far behind"),
    ],
)
def test_what_is_no_program(head: bytes) -> None:
    assert program_of(head) == NO_PROGRAM


@pytest.mark.skipif(sys.byteorder != "little", reason="the other order is foreign there")
@given(place=st.integers(0, (1 << 64) - 1), count=st.integers(0, 0xFFFF))
def test_a_table_anywhere(place: int, count: int) -> None:
    """No number in the header makes us read further than the head, or fail."""
    head = bytearray(elf(header()))
    struct.pack_into("=Q", head, 32, place)
    struct.pack_into("=H", head, 56, count)
    found = program_of(bytes(head))
    assert found == NO_PROGRAM or len(found.segments) <= count


@given(st.binary(max_size=256))
def test_any_bytes(head: bytes) -> None:
    program_of(head)
    program_of(b"\x7fELF\2\1\1" + head)


def test_every_truncation() -> None:
    whole = elf(header(), header(flags=DATA))
    for length in range(len(whole)):
        assert program_of(whole[:length]) == NO_PROGRAM


def test_programs_of_this_machine_as_binutils_reads_them() -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    libraries = sorted(Path("/usr/lib/x86_64-linux-gnu").glob("lib[cms]*.so.*"))[:20]
    digests = Digests(most_bytes=1 << 30)
    for path in (Path(sys.executable).resolve(), Path("/usr/bin/bash"), *libraries):
        told = subprocess.run(
            ["readelf", "-lW", path], capture_output=True, text=True, check=True
        ).stdout
        wanted = []
        for line in told.splitlines():
            words = line.split()
            if words[:1] == ["LOAD"] and "E" in words[6:-1]:
                offset, address, _, length = (int(word, 16) for word in words[1:5])
                wanted.append(Segment(offset=offset, address=address, length=length))
        file = os.open(path, os.O_PATH)
        found = digests.contents(file).program
        os.close(file)
        assert list(found.segments) == wanted, path
        assert found.is_movable == ("DYN" in told.splitlines()[1]), path
