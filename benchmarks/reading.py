"""How many records of a measurement list are read, checked and appraised in a second."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self

from benchmarks import lists
from benchmarks.evidence import World
from evidence.ima import read_measurement, read_records
from verifier.check_log import check_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One list, and what can be done with it."""

    size_bytes: int
    baseline: Callable[[], object]
    """SHA-256 over all of its bytes at once."""
    ways: Mapping[str, Callable[[], object]]

    @classmethod
    def of(cls, size: int) -> Self:
        """Return the work with a list of so many records."""
        world = World((lists.reference(size),))
        good = [lists.known(number) for number in range(size)]
        data = lists.encode(good)
        return cls(
            size_bytes=len(data),
            baseline=lambda: hashlib.sha256(data).digest(),
            ways={
                "split into records": lambda: sum(1 for _ in read_records(data)),
                "and each record's fields read": lambda: [
                    read_measurement(record) for record in read_records(data)
                ],
                "check-log": partial(check_log, data),
                "appraised, as evidence": partial(world.judge, world.evidence(good)),
            },
        )
