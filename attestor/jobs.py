"""Jobs: what a process with an identity gives to whoever may have steps launched for it.

A job is one end of a socket pair, and nothing else: it goes from hand to hand, by inheritance and
by SCM_RIGHTS, and who was not given it has no name, number or kinship to come by it. We hold the
other end, and so hear when nobody holds the job any more. Its steps have their credentials for as
long as it goes on, and as its controller has one.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attestor.aside import aside
from attestor.reasons import Local, refuse
from credential import Refused
from credential.reasons import Finding
from evidence.process import Origin

if TYPE_CHECKING:
    from attestor.subject import Subject

JOB_ENDED = "job.ended"
PARENT_ENDED = "parent.ended"
"""Causes of evidence.messages.GoneProcess."""

MOST_JOBS = 64
"""Of one process, at a time."""

SO_COOKIE = 57
"""asm-generic/socket.h; Python has no name for it. The kernel gives no two sockets the same (before
Linux 5.10 no two of a network namespace)."""
COOKIE_BYTES = 8


@dataclass(slots=True, eq=False)
class Job:
    """A job that goes on, or is over."""

    name: str
    """What its controller calls it."""
    controller: "Subject"
    end: socket.socket
    """Ours."""
    cookie: bytes
    """The kernel's, of the other end."""
    steps: "set[Subject]" = field(default_factory=set)
    """Processes launched for it that have, or want, an identity."""
    is_over: bool = False
    """Whether no step can have an identity any more."""

    @property
    def origin(self) -> Origin:
        """What the records of its steps say; raise Refused where its controller may have none."""
        controller = self.controller
        claims = controller.current(datetime.now(UTC))
        return Origin(parent=claims.id, parent_key=controller.key_name, job=self.name)

    def take(self, step: "Subject") -> None:
        """Have a step that wants an identity end with the job; raise Refused if that is over."""
        if self.is_over:
            expected = "a job that goes on"
            raise Refused([Finding(reason=JOB_ENDED, what=step.label, expected=expected)])
        self.steps.add(step)


class Jobs:
    """The jobs that go on. `on_end` is called for each step of one that is over."""

    def __init__(self, on_end: Callable[["Subject", str], None]) -> None:
        self._on_end = on_end
        self._jobs: dict[bytes, Job] = {}

    def open(self, controller: "Subject", name: str) -> socket.socket:
        """Return the descriptor that is a new job of this process, which has an identity."""
        if len(controller.jobs) >= MOST_JOBS:
            expected = f"at most {MOST_JOBS}"
            raise refuse(Local.TOO_MANY, f"jobs of {controller.label}", expected=expected)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        job = Job(name, controller, ours, _cookie_of(theirs.fileno()))
        controller.jobs.append(job)
        self._jobs[job.cookie] = job
        asyncio.get_running_loop().add_reader(ours, self._hear, job)
        return theirs

    def claim(self, name: str, descriptor: int, *, uid: int) -> Job:
        """Return the job that the descriptor is; raise Refused unless this user may have a step."""
        job = self._jobs.get(_cookie_of(descriptor))
        if job is None:
            expected = "the descriptor of a job that goes on"
            raise refuse(Local.JOB_UNKNOWN, f"job {name}", expected=expected)
        if job.controller.peer.uid != uid:
            expected, found = f"uid {job.controller.peer.uid}", f"uid {uid}"
            raise refuse(Local.USER, f"job {name}", expected=expected, found=found)
        if job.name != name:
            raise refuse(Local.JOB_NAME, "job", expected=job.name, found=name)
        job.controller.current(datetime.now(UTC))
        return job

    def end_all_of(self, subject: "Subject") -> "list[Subject]":
        """End the jobs of a process, and of their steps; return all that had it for an ancestor."""
        if subject.job is not None:
            subject.job.steps.discard(subject)
        ended: list[Subject] = []
        above = [subject]
        while above:
            above = [step for one in above for job in [*one.jobs] for step in self._close(job)]
            ended += above
        return ended

    def _hear(self, job: Job) -> None:
        """End a job: nobody holds it, or who does has shut it down, or speaks where nobody does."""
        for step in self._close(job):
            self._on_end(step, JOB_ENDED)

    def _close(self, job: Job) -> "set[Subject]":
        """End a job; return its steps, which are none any more."""
        asyncio.get_running_loop().remove_reader(job.end)
        job.is_over = True
        aside(job.end.close)  # what was sent to it was never read
        del self._jobs[job.cookie]
        job.controller.jobs.remove(job)
        steps, job.steps = job.steps, set()
        return steps


def _cookie_of(descriptor: int) -> bytes:
    """Return what the kernel tells a socket by; nothing of what is none."""
    try:
        one = socket.socket(fileno=descriptor)
    except OSError:
        return b""
    try:
        return one.getsockopt(socket.SOL_SOCKET, SO_COOKIE, COOKIE_BYTES)
    finally:
        one.detach()
