"""Timing that can be compared: the things compared take turns, and CPU time is what counts.

CPU seconds of this process leave out what other programs take of the machine. What is left of
noise (caches, clock speed, a busy sibling core) only ever adds to a measurement, so of several
rounds, which go forth and back, the least of each work is what counts.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

Work = Callable[[], object]

LEAST_ROUNDS = 2
ENOUGH_SECONDS = 2
"""Of measurements of one work and its baseline: long work varies less."""
SHORTEST_SECONDS = 0.01
"""Of one measurement: shorter work is repeated until it has taken that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one kind of work takes, next to the baseline's."""

    name: str
    seconds: float
    """Of one run, the least of the rounds'."""
    ratio: float
    """To the baseline's least, of the measurements right before."""


def measure(
    baseline: Work, others: Mapping[str, Work], *, rounds: int
) -> tuple[float, list[Figure]]:
    """Return seconds of the baseline, and a figure of each of the others."""
    repeats = {name: _repeats(work) for name, work in others.items()}
    own_repeats = _repeats(baseline)
    names = list(others)
    own: dict[str, list[float]] = {name: [] for name in others}
    seconds: dict[str, list[float]] = {name: [] for name in others}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            if turn >= LEAST_ROUNDS and sum(own[name]) + sum(seconds[name]) > ENOUGH_SECONDS:
                continue
            own[name].append(_seconds(baseline, own_repeats))
            seconds[name].append(_seconds(others[name], repeats[name]))
    figures = [
        Figure(name=name, seconds=min(taken), ratio=min(taken) / min(own[name]))
        for name, taken in seconds.items()
    ]
    return min(chain.from_iterable(own.values())), figures


def _repeats(work: Work) -> int:
    """Return how often to do the work for one measurement; it has been done once then."""
    taken = _seconds(work, 1)
    return max(1, min(1000, int(SHORTEST_SECONDS / max(taken, 1e-6))))


def _seconds(work: Work, repeats: int) -> float:
    """Return the CPU seconds of one run."""
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        for _ in range(repeats):
            work()
        return (time.process_time() - started) / repeats
    finally:
        gc.enable()
