"""Timing that can be compared: the things compared take turns, and CPU time is what counts.

CPU seconds of this process leave out what other programs take of the machine. What is left of
noise (caches, clock speed) hits neighbours in time alike, so figures are compared within a round,
rounds go forth and back, and the median of the rounds' ratios is what is said.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

Work = Callable[[], object]

SHORTEST_SECONDS = 0.02
"""Of one measurement: shorter work is repeated until it has taken that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one kind of work takes, next to the baseline's."""

    name: str
    seconds: float
    """Of one run, the median."""
    ratio: float
    """To the baseline, the median of the rounds'."""


def measure(
    baseline: Work, others: Mapping[str, Work], *, rounds: int
) -> tuple[float, list[Figure]]:
    """Return seconds of the baseline, and a figure of each of the others."""
    repeats = {name: _repeats(work) for name, work in others.items()}
    own_repeats = _repeats(baseline)
    seconds: dict[str, list[float]] = {name: [] for name in others}
    ratios: dict[str, list[float]] = {name: [] for name in others}
    own: list[float] = []
    for turn in range(rounds):
        before = _seconds(baseline, own_repeats)
        taken = {
            name: _seconds(others[name], repeats[name])
            for name in (others if turn % 2 == 0 else reversed(others))
        }
        after = _seconds(baseline, own_repeats)
        own += [before, after]
        for name, one in taken.items():
            seconds[name].append(one)
            ratios[name].append(2 * one / (before + after))
    return statistics.median(own), list(_figures(seconds, ratios))


def _figures(
    seconds: Mapping[str, list[float]], ratios: Mapping[str, list[float]]
) -> Iterator[Figure]:
    for name in seconds:
        yield Figure(
            name=name,
            seconds=statistics.median(seconds[name]),
            ratio=statistics.median(ratios[name]),
        )


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
