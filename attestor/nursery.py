"""The process from which the attestor's other processes are born.

It is forked before the daemon has threads, keys or an open TPM, so what it forks later has seen
none of them. It makes four kinds of children: lookers, which look at processes under a uid of
their own, launched programs, those that let canaries loose, and the daemon's successor.
"""

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Never, Self

from attestor import canary, hand_over, looker, packets, privileges, starter

STATUS_BYTES = 4
"""A child's exit status on its report: os.waitstatus_to_exitcode, signed, big endian."""


@dataclass(frozen=True, slots=True)
class Child:
    """A child of the nursery's that waits for its orders."""

    pid: int
    pidfd: int
    orders: socket.socket
    report: int
    """Reading end of a pipe that brings the exit status, STATUS_BYTES long."""

    def close(self) -> None:
        """Let go of it, whatever became of it: one that still waits ends."""
        self.orders.close()
        os.close(self.pidfd)
        os.close(self.report)


class Nursery:
    """The daemon's hold on it. Its methods block briefly and may be called from any thread."""

    def __init__(self, control: socket.socket, *, looker_uid: int, looker_gid: int) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._looker_uid, self._looker_gid = looker_uid, looker_gid

    @classmethod
    def start(cls, *, looker_uid: int, looker_gid: int) -> Self:
        """Fork it. Call this first of all."""
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            _run(lambda: _serve(theirs))
        theirs.close()
        return cls(ours, looker_uid=looker_uid, looker_gid=looker_gid)

    def close(self) -> None:
        """Let it end, and its lookers with it."""
        self._control.close()

    def new_looker(self) -> socket.socket:
        """Return the channel to a new looker."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._ask(["looker", self._looker_uid, self._looker_gid], [theirs.fileno()])
        return ours

    def new_canary(self) -> tuple[socket.socket, int]:
        """Return the channel to a child that lets canaries loose, and a pipe as a Child has it."""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            with theirs:
                self._ask(["canary"], [theirs.fileno(), writing])
        finally:
            os.close(writing)
        return ours, reading

    def new_successor(self, words: Sequence[str]) -> hand_over.Successor:
        """Start the program anew, by its command line."""
        ours, theirs = socket.socketpair()
        with theirs:
            answer, descriptors = self._ask(["successor", *words], [theirs.fileno()])
        match answer, descriptors:
            case [int(pid)], [pidfd]:
                return hand_over.Successor(ours, pid, pidfd)
            case _:
                raise OSError("the nursery did not answer")

    def new_child(self) -> Child:
        """Return a child that will become a launched program."""
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe()
        try:
            with theirs:
                answer, descriptors = self._ask(["child"], [theirs.fileno(), writing])
        finally:
            os.close(writing)
        match answer, descriptors:
            case [int(pid)], [pidfd]:
                return Child(pid, pidfd, ours, reading)
            case _:
                raise OSError("the nursery did not answer")

    def _ask(self, request: object, descriptors: Sequence[int]) -> tuple[object, list[int]]:
        with self._lock:
            try:
                packets.send(self._control, request, descriptors)
                return packets.receive(self._control)
            except (EOFError, OSError) as error:
                raise OSError(
                    "the attestor's nursery has ended; start the attestor again"
                ) from error


def _serve(control: socket.socket) -> None:
    """Fork what is asked for, and report how programs ended, until the daemon is gone."""
    for number in (signal.SIGHUP, signal.SIGINT):  # meant for the daemon
        signal.signal(number, signal.SIG_IGN)
    privileges.keep_only(privileges.NEEDED)
    privileges.hide_memory()
    privileges.end_with_parent(signal.SIGKILL)
    children: dict[int, tuple[int, int]] = {}
    watch = select.poll()
    watch.register(control, select.POLLIN)
    while True:
        for descriptor, _ in watch.poll():
            if descriptor == control.fileno():
                if not _answer(control, children, watch):
                    return
            else:
                watch.unregister(descriptor)
                _report(descriptor, *children.pop(descriptor))


def _answer(
    control: socket.socket, children: dict[int, tuple[int, int]], watch: select.poll
) -> bool:
    try:
        request, descriptors = packets.receive(control)
    except EOFError:
        return False
    match request, descriptors:
        case ["looker", int(uid), int(gid)], [channel]:
            pid = _fork(lambda: looker.serve(socket.socket(fileno=channel), uid, gid), [channel])
            pidfd, report = os.pidfd_open(pid), -1
            packets.send(control, [pid])
        case ["canary"], [channel, report]:
            pid = _fork(lambda: canary.serve(socket.socket(fileno=channel)), [channel])
            pidfd = os.pidfd_open(pid)
            packets.send(control, [pid])
        case ["successor", *words], [channel]:
            line = [str(one) for one in words]
            pid = _fork(lambda: hand_over.execute(line, channel), [channel])
            pidfd, report = os.pidfd_open(pid), -1
            packets.send(control, [pid], [pidfd])
        case ["child"], [channel, report]:
            pid = _fork(lambda: starter.serve(socket.socket(fileno=channel)), [channel])
            pidfd = os.pidfd_open(pid)
            packets.send(control, [pid], [pidfd])
        case _:
            raise ValueError(f"not a request to the nursery: {request!r}")
    os.close(channel)
    children[pidfd] = pid, report
    watch.register(pidfd, select.POLLIN)
    return True


def _report(pidfd: int, pid: int, report: int) -> None:
    os.close(pidfd)
    _, status = os.waitpid(pid, 0)
    if report >= 0:
        code = os.waitstatus_to_exitcode(status)
        with _ignoring_the_reader(report):
            os.write(report, code.to_bytes(STATUS_BYTES, "big", signed=True))


@contextmanager
def _ignoring_the_reader(report: int) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        pass
    finally:
        os.close(report)


def _fork(serve: Callable[[], None], keep: Sequence[int]) -> int:
    """Fork a child that has the standard descriptors and `keep`, and runs `serve`."""
    pid = os.fork()
    if pid == 0:
        edges = sorted({2, *keep})
        for low, high in zip(edges, [*edges[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        _run(serve)
    return pid


def _run(serve: Callable[[], None]) -> Never:
    """Run a forked process to its end; never return into the code of its parent."""
    code = 1
    try:
        serve()
        code = 0
    except BaseException as error:  # noqa: BLE001 nothing may reach the parent's stack
        print(f"attestor: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
    finally:
        os._exit(code)
