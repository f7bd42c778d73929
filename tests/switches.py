"""Machines that many tests share, and when they are switched off.

An idle machine is not idle: its attestor brings evidence, and takes the time of those that are
tested. So a worker switches a group's machines off before it begins another group.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import pytest

SWITCHED_ON = pytest.StashKey[list[ExitStack]]()

T = TypeVar("T")


@contextmanager
def switched_on(config: pytest.Config, machine: AbstractContextManager[T]) -> Iterator[T]:
    """Have a machine on until its fixture ends, or its group does."""
    with ExitStack() as stack:
        config.stash.setdefault(SWITCHED_ON, []).append(stack)
        yield stack.enter_context(machine)


def switch_off(config: pytest.Config) -> None:
    """Switch off whatever is on."""
    for stack in config.stash.get(SWITCHED_ON, []):
        stack.close()
    config.stash[SWITCHED_ON] = []
