"""The cost of refusing: bad input next to good input of the same size.

Whoever is refused has cost the verifier something. If that were more than a good node costs, a
bad one could wear it out. So each kind of input has a good one, which is accepted, and many bad
ones of at most its size in bytes, each of which has to be refused.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from evidence import Malformed
from evidence.event_log import MOST_EVENTS
from verifier import Rejected

Work = Callable[[], object]


class NotRefused(Exception):
    """The benchmark would time something else than it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A good input and bad ones of its size."""

    name: str
    """Kind and size."""
    accept: Work
    """Returns anything but False."""
    refuse: Mapping[str, Work]
    """By what is wrong: each raises Malformed or Rejected, or returns False."""


def checked(group: Group) -> dict[str, Work]:
    """Return the refusals as work that can be timed, each of them tried once."""
    if group.accept() is False:
        raise NotRefused(f"{group.name}: the good input was refused")
    works: dict[str, Work] = {}
    for name, refuse in group.refuse.items():
        if not is_refused(refuse):
            raise NotRefused(f"{group.name}: {name}: accepted")
        works[name] = partial(is_refused, refuse)
    return works


def is_refused(work: Work) -> bool:
    """Say whether the work ends in a refusal."""
    try:
        return work() is False
    except (Malformed, Rejected):
        return True


def groups(sizes: tuple[int, ...]) -> Iterator[Group]:
    """Yield every group, of each of these sizes where it has sizes."""
    from benchmarks import (  # noqa: PLC0415 - each imports this module
        chains,
        event_logs,
        files,
        lists,
        messages,
        processes,
    )

    for size in sizes:
        yield from lists.appraised(size)
        yield from lists.signed(size // 10)
        yield from lists.checked(size)
        yield from files.quoted(size)
        yield from event_logs.judged(min(size, MOST_EVENTS))
        yield processes.judged(min(size // 10, processes.MOST_PROCESSES))
    yield from messages.all_groups()
    yield from chains.all_groups()
