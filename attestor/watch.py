"""Noticing that a process has ended or executed something else, without being asked."""

import asyncio
import os
from collections.abc import Callable

from attestor.look import is_alive
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
                if not _has_its_memory(subject.pins.maps):
                    self._end(subject, EXECUTED if is_alive(subject.pins.pidfd) else EXITED)

    def _end(self, subject: Subject, cause: str) -> None:
        self.remove(subject)
        self._on_end(subject, cause)


def _has_its_memory(maps: int) -> bool:
    try:
        return bool(os.pread(maps, 1, 0))
    except OSError:
        return False
