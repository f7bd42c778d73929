"""Executable mappings against program headers: what a loader makes is accepted, and only that."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evidence.process import Look, Mapping, Segment
from tests.simulated_node import SimulatedNode
from tests.simulated_process import mapped_file
from verifier.layout import find_misplaced
from verifier.reasons import Reason

LOOK = SimulatedNode().new_process().look


def down(number: int, page: int) -> int:
    return number - number % page


@st.composite
def programs(draw: st.DrawFn) -> tuple[int, bool, tuple[Segment, ...], list[Mapping]]:
    """Return a page size, whether the program moves, its segments, and what its loader maps."""
    page = draw(st.sampled_from((0x1000, 0x4000, 0x10000)))
    is_movable = draw(st.booleans())
    distance = page * draw(st.integers(1, 1 << 30)) if is_movable else 0
    address, offset = page * draw(st.integers(0, 1024)), 0
    segments, mappings = [], []
    for _ in range(draw(st.integers(1, 4))):
        # Never touching the one before: the next segment begins a page or more later.
        in_page, length = draw(st.integers(0, page - 1)), draw(st.integers(1, 1 << 24))
        segments.append(Segment(offset=offset + in_page, address=address + in_page, length=length))
        pages = -(-(in_page + length) // page) * page
        mappings.append(
            Mapping(
                file=0,
                start=address + distance,
                offset=offset,
                length=pages,
                anonymous=0,
                is_writable=False,
            )
        )
        address += pages + page * draw(st.integers(1, 16))
        offset += pages
    return page, is_movable, tuple(segments), mappings


def found(
    program: tuple[int, bool, tuple[Segment, ...], list[Mapping]], mappings: list[Mapping]
) -> set[Reason]:
    page, is_movable, segments, _ = program
    file = mapped_file("usr/bin/one", b"one", segments=segments, is_movable=is_movable)
    look: Look = replace(LOOK, files=(file,), mappings=tuple(mappings), page_bytes=page)
    return {one.reason for one in find_misplaced(look)}


@given(programs(), st.randoms())
def test_what_a_loader_makes(program: Any, random: Any) -> None:  # noqa: ANN401
    *_, mappings = program
    random.shuffle(mappings)
    assert found(program, mappings) == set()


@given(programs(), st.data())
def test_one_mapping_is_otherwise(program: Any, data: st.DataObject) -> None:  # noqa: ANN401
    page, _, _, mappings = program
    number = data.draw(st.integers(0, len(mappings) - 1))
    one = mappings[number]
    changed = data.draw(
        st.sampled_from(
            [
                replace(one, start=one.start + page),
                replace(one, offset=one.offset + page),
                replace(one, length=one.length + page),
                *([replace(one, length=one.length - page)] if one.length > page else []),
            ]
        )
    )
    others = mappings[:number] + mappings[number + 1 :]
    if (
        len(mappings) > 1
        or not program[1]
        or (changed.offset, changed.length)
        != (
            one.offset,
            one.length,
        )
    ):
        # It may have come to lie where another one ends, as if they had been one.
        reasons = found(program, [*others, changed])
        assert reasons in ({Reason.PROCESS_LAYOUT}, {Reason.PROCESS_SPLIT})
    if others:
        assert found(program, others) == {Reason.PROCESS_LAYOUT}


@given(programs(), st.data())
def test_one_mapping_is_cut(program: Any, data: st.DataObject) -> None:  # noqa: ANN401
    page, _, _, mappings = program
    number = data.draw(st.integers(0, len(mappings) - 1))
    one = mappings[number]
    if one.length == page:
        return
    first = page * data.draw(st.integers(1, one.length // page - 1))
    pieces = [
        replace(one, length=first),
        replace(one, start=one.start + first, offset=one.offset + first, length=one.length - first),
    ]
    cut = mappings[:number] + pieces + mappings[number + 1 :]
    assert found(program, cut) == {Reason.PROCESS_SPLIT}
