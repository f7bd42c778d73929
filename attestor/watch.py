"""Noticing that a process has ended or executed something else, without being asked."""

import asyncio
from collections.abc import Callable

from attestor.look import Pins, is_alive
from attestor.proc import read
from attestor.subject import EXECUTED, EXITED, Subject

EXEC_SECONDS = 0.5
"""How often memories are looked after. The kernel tells of exits at once, of execs never."""

OnEnd = Callable[[Subject, str], None]


class Watch:
    """Calls `on_end` once for each watched process that ends or executes, with the cause."""

    def __init__(self, on_end: OnEnd) -> None:
        self._on_end = on_end
        self._watched: set[Subject] = set()

    def add(self, subject: Subject) -> None:
        """Watch a process."""
        self._watched.add(subject)
        asyncio.get_running_loop().add_reader(subject.pins.pidfd, self._end, subject, EXITED)

    def remove(self, subject: Subject) -> None:
        """Watch it no longer."""
        if subject in self._watched:
            self._watched.remove(subject)
            asyncio.get_running_loop().remove_reader(subject.pins.pidfd)

    async def run(self) -> None:
        """Look after the memories that processes had when they were first seen."""
        while True:
            await asyncio.sleep(EXEC_SECONDS)
            for subject in tuple(self._watched):
                if not subject.pins.has_its_memory():
                    self._end(subject, cause_of_end(subject.pins))

    def _end(self, subject: Subject, cause: str) -> None:
        self.remove(subject)
        self._on_end(subject, cause)


def cause_of_end(pins: Pins) -> str:
    """Say why a process hung up, or has no longer the memory that it had: it has another, or none.

    One that is ending loses its memory first, then its descriptors, and is dead a little later.
    """
    if pins.has_its_memory() or not is_alive(pins.pidfd):
        return EXITED
    try:
        pages = int(read(pins.directory, "statm").split()[0])
    except (OSError, ValueError, IndexError):
        return EXITED
    return EXECUTED if pages else EXITED
