"""Every input that fuzzing has found, and every seed, is accepted or refused as it should be.

Without atheris: `make fuzz` writes what it finds into `found/TARGET/`, and here it stays.
"""

import re
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import FOUND, INPUT_SECONDS
from tests.fuzz.canary import CANARY
from tests.fuzz.targets import TARGETS, Target, Unfaithful

INPUTS = sorted(path for path in FOUND.glob("*/*") if path.is_file())


def test_found_inputs_belong_to_targets() -> None:
    assert {path.parent.name for path in INPUTS} <= set(TARGETS)


@pytest.mark.timeout(6 * INPUT_SECONDS)
@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_fuzzing_found(path: Path) -> None:
    TARGETS[path.parent.name].attempt(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_accepted_and_what_is_cut_off_them_is_not_an_error(name: str) -> None:
    """A target whose seeds are all refused would try nothing but its first lines."""
    target = TARGETS[name]
    seeds = list(target.seeds())
    assert sum(target.attempt(seed) for seed in seeds) >= min(2, len(seeds) / 2)
    for seed in (*seeds[:16], *seeds[-4:]):
        assert len(seed) <= target.most_bytes
        for cut in (seed[:-1], seed[: len(seed) // 2], seed[1:], seed + b"\0", b""):
            target.attempt(cut)


@pytest.mark.parametrize("name", TARGETS)
def test_numbers_of_more_digits_than_python_reads(name: str) -> None:
    """What `int` raises then is a ValueError, which is no refusal of any parser."""
    target = TARGETS[name]
    endless = b"9" * (sys.int_info.default_max_str_digits + 1)
    for seed in list(target.seeds())[:8]:
        for number in list(re.finditer(rb"[0-9]+", seed))[:16]:
            target.attempt(seed[: number.start()] + endless + seed[number.end() :])


def test_an_error_that_is_no_refusal_is_noticed() -> None:
    canary = CANARY["canary"]
    assert canary.attempt(b"proc\0")
    assert not canary.attempt(b"?roc\0")
    with pytest.raises(KeyError):
        canary.attempt(b"proc\1")


def test_what_is_not_the_same_again_is_noticed() -> None:
    def accept_anything(data: bytes) -> None:
        if data != b"good":
            raise Unfaithful(data.hex())

    target = Target(run=accept_anything, seeds=lambda: [b"good"])
    assert target.attempt(b"good")
    with pytest.raises(Unfaithful):
        target.attempt(b"bad")
