"""The processes that a round is about: those with an identity, and those that want one."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from attestor.subject import Subject
from credential import Refused
from credential.reasons import Finding

MOST_NEW = 64
"""New processes in one round; the others are in the next."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A process that hears of its outcome through a future."""

    subject: Subject
    outcome: "asyncio.Future[None]"

    def grant(self) -> None:
        """Tell it that it has its credential."""
        if not self.outcome.done():
            self.outcome.set_result(None)

    def refuse(self, findings: Sequence[Finding]) -> None:
        """Tell it why it gets none."""
        if not self.outcome.done():
            self.outcome.set_exception(Refused(findings))


@dataclass(slots=True)
class Roster:
    """Who is known and who waits, each by the Name of its key."""

    known: dict[bytes, Subject] = field(default_factory=dict)
    """Those that the verifier has accepted."""
    _waiting: dict[bytes, Waiting] = field(default_factory=dict)

    @property
    def has_waiting(self) -> bool:
        """Whether somebody waits for a round."""
        return bool(self._waiting)

    @contextmanager
    def waiting(self, subject: Subject) -> "Iterator[asyncio.Future[None]]":
        """Have a process wait for the time of the block; yield what it waits for.

        The future's exception is Refused where it gets no credential.
        """
        waiting = Waiting(subject, asyncio.get_running_loop().create_future())
        self._waiting[subject.key_name] = waiting
        try:
            yield waiting.outcome
        finally:
            self._waiting.pop(subject.key_name, None)

    def asked(self) -> dict[bytes, Subject]:
        """Return the processes that the next round is about."""
        waiting = [one.subject for one in list(self._waiting.values())[:MOST_NEW]]
        return {one.key_name: one for one in (*self.known.values(), *waiting)}

    def accept(self, subject: Subject) -> None:
        """Have a process known, which has its credential."""
        self.known[subject.key_name] = subject
        if waiting := self._waiting.get(subject.key_name):
            waiting.grant()

    def refuse(self, subject: Subject, findings: Sequence[Finding]) -> None:
        """Have a process forget its keys, and know it no longer."""
        subject.forget(findings)
        self.known.pop(subject.key_name, None)
        self.refuse_waiting(subject, findings)

    def refuse_waiting(self, subject: Subject, findings: Sequence[Finding]) -> None:
        """Refuse a process if it waits; one that is known keeps what it has."""
        if waiting := self._waiting.get(subject.key_name):
            waiting.refuse(findings)

    def refuse_all(self, findings: Sequence[Finding]) -> None:
        """Refuse all that wait, and have the others' leases end."""
        self.suspend_all(findings)
        for waiting in self._waiting.values():
            waiting.refuse(findings)

    def suspend_all(self, findings: Sequence[Finding]) -> None:
        """End the lease of all that are known: nothing is signed for them until a next word."""
        for subject in self.known.values():
            subject.suspend(findings)

    def drop(self, subject: Subject) -> bool:
        """Leave a process out from now on; say whether the verifier had accepted it."""
        if waiting := self._waiting.pop(subject.key_name, None):
            waiting.refuse(subject.findings)
        return self.known.pop(subject.key_name, None) is not None
