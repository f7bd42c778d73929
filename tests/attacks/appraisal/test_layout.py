"""Attacks on how a program is mapped: not as anybody maps what he means to run."""

from dataclasses import replace
from typing import Any

import pytest

from evidence.process import Mapping, Segment
from tests.attacks.asking import IDENTITY, PROCESS, USER, why
from tests.simulated_node import SimulatedNode
from tests.simulated_process import SimulatedProcess, text_of
from tests.simulated_verifier import SimulatedVerifier, accepted
from verifier import Reason


@pytest.mark.attack(number=51, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.parametrize("file", [0, 1])
def test_051_text_that_was_changed_and_put_back(
    node: SimulatedNode, verifier: SimulatedVerifier, file: int
) -> None:
    """Every page is the file's again; the cuts on both sides of the one that was not are there."""
    whole = text_of(file)
    at, end = whole.start, whole.offset + whole.length
    pieces = tuple(
        replace(whole, start=at + begin - whole.offset, offset=begin, length=length)
        for begin, length in ((whole.offset, 0x1000), (end - 0x1000, 0x1000))
    )
    process = node.new_process(look={"mappings": (text_of(1 - file), *pieces)})
    assert why(verifier, process) == {Reason.PROCESS_SPLIT}


def laid_out(
    node: SimulatedNode,
    *mappings: Mapping,
    **changes: Any,  # noqa: ANN401
) -> SimulatedProcess:
    """Start a process whose program has other headers, or is mapped in another way."""
    program, libc = node.new_process().look.files
    program = replace(program, **changes)
    look = {"executable": program, "files": (program, libc), "mappings": (*mappings, text_of(1))}
    return node.new_process(look=look)


TWO_SEGMENTS = {
    "segments": (
        Segment(offset=0x1040, address=0x2040, length=0x1F00),
        Segment(offset=0x8000, address=0x1_8000, length=0x1001),
    )
}
SECOND = text_of(0, start=0x41_6000, offset=0x8000, length=0x2000)
TOUCHING = {
    "segments": (
        Segment(offset=0x1000, address=0x1000, length=0x1000),
        Segment(offset=0x2000, address=0x2000, length=0x1000),
    )
}
FIXED = {"segments": (Segment(offset=0x1000, address=0x40_1000, length=0x2000),)}
TRAMPOLINE = text_of(0, start=0x7F_0000, offset=0x2000, length=0x1000)


@pytest.mark.parametrize(
    ("mappings", "changes"),
    [
        pytest.param([text_of(0), SECOND], TWO_SEGMENTS, id="two segments"),
        pytest.param([text_of(0)], TOUCHING, id="two segments that are one mapping"),
        pytest.param(
            [text_of(0, start=0x40_1000)], {**FIXED, "is_movable": False}, id="where it has to be"
        ),
        pytest.param([text_of(0), TRAMPOLINE], {}, id="a piece of its text again"),
    ],
)
def test_a_program_as_its_loader_maps_it(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    mappings: list[Mapping],
    changes: dict[str, Any],
) -> None:
    process = laid_out(node, *mappings, **changes)
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=49, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize(
    ("mappings", "changes"),
    [
        pytest.param([text_of(0)], TWO_SEGMENTS, id="a segment is missing"),
        pytest.param([SECOND], TWO_SEGMENTS, id="the first segment is missing"),
        pytest.param(
            [text_of(0), replace(SECOND, start=0x42_0000)], TWO_SEGMENTS, id="a segment elsewhere"
        ),
        pytest.param([text_of(0, length=0x1000)], {}, id="half of it"),
        pytest.param([text_of(0, length=0x3000)], {}, id="more than it"),
        pytest.param([text_of(0, offset=0x2000)], {}, id="another part of the file"),
        pytest.param([text_of(0), text_of(0, start=0x7F_0000)], {}, id="twice"),
        pytest.param(
            [text_of(0), text_of(0, start=0x7F_0000, offset=0x3000, length=0x1000)],
            {},
            id="and some of its data",
        ),
        pytest.param(
            [
                text_of(0, length=0x2_0000),
                text_of(0, start=0x7F_0000, offset=0x2000, length=0x1_1000),
            ],
            {"segments": (Segment(offset=0x1000, address=0x2000, length=0x2_0000),)},
            id="and a large piece of it again",
        ),
        pytest.param([text_of(0)], {**FIXED, "is_movable": False}, id="where it may not be"),
        pytest.param([text_of(0)], {"segments": ()}, id="no program"),
        pytest.param(
            [text_of(0)],
            {"segments": (Segment(offset=0x1040, address=0x2050, length=0x1F00),)},
            id="a segment that no loader maps",
        ),
    ],
)
def test_049_a_decoy(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    mappings: list[Mapping],
    changes: dict[str, Any],
) -> None:
    """The golden file is mapped, but not as anybody maps what he means to run."""
    assert why(verifier, laid_out(node, *mappings, **changes)) == {Reason.PROCESS_LAYOUT}


def test_more_segments_than_any_program_has(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Each would be sought for at each place: their number is bounded, not the time."""
    many = tuple(Segment(offset=0, address=n << 20, length=1) for n in range(17))
    process = laid_out(node, text_of(0), segments=many)
    assert why(verifier, process) == {Reason.MALFORMED_PROCESS}


@pytest.mark.parametrize("size", [0, 1, 4095, 8192, 1 << 21])
def test_a_page_size_that_no_machine_has(
    node: SimulatedNode, verifier: SimulatedVerifier, size: int
) -> None:
    process = node.new_process(look={"page_bytes": size})
    assert why(verifier, process) == {Reason.MALFORMED_PROCESS}
