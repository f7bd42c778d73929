"""Who else can write to a process's memory: its threads, and processes that share it (CLONE_VM)."""

import ctypes
import errno
import os
import platform
import time
from collections.abc import Iterator

from attestor.proc import Ids, NoLook, ids_of, open_at, read, status, status_of

MOST_THREADS = 1 << 14

_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272}.get(platform.machine(), 272)
_KCMP_VM = 1
"""kcmp(2): whether two processes have the same memory."""

LASTS_SECONDS = 5.0
"""How long it counts what was found of a process."""

_libc = ctypes.CDLL(None, use_errno=True)


def threads(directory: int) -> tuple[Ids, int, tuple[int, ...]]:
    """Return the first thread's ids, any thread's tracer, and the uids of threads with others."""
    says = status(directory)
    ids, tracer = ids_of(says), int(says["TracerPid"])
    strangers: set[int] = set()
    tasks = open_at(directory, "task", os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = os.listdir(tasks)  # noqa: PTH208 by descriptor
        if len(names) > MOST_THREADS:
            raise NoLook(f"more than {MOST_THREADS} threads")
        for name in names if len(names) > 1 else ():
            try:
                says = status_of(read(tasks, f"{name}/status"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # that thread has ended
            own = ids_of(says)
            tracer = tracer or int(says["TracerPid"])
            if own != ids:
                strangers.add(own.uids[0])
    finally:
        os.close(tasks)
    return ids, tracer, tuple(sorted(strangers))


class Sharers:
    """Finds processes that have the memory of another one.

    The kernel tells of two processes at a time, so every process is asked about. What was found
    counts for a few seconds: the looks before and after a quote have it in common.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, int, Ids], tuple[float, tuple[int, ...]]] = {}

    def of(self, pid: int, start_ticks: int, ids: Ids) -> tuple[int, ...]:
        """Return the real uids of others that have the memory of a process, and other ids.

        A child between vfork and exec has the same ids, and is passed over.
        """
        now, key = time.monotonic(), (pid, start_ticks, ids)
        when, found = self._found.get(key, (-LASTS_SECONDS, ()))
        if now - when < LASTS_SECONDS:
            return found
        found = tuple(_sharers(pid, ids))
        self._found = {
            one: seen for one, seen in self._found.items() if now - seen[0] < LASTS_SECONDS
        } | {key: (now, found)}
        return found


def _sharers(pid: int, ids: Ids) -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 a path for each would cost more than the rest
        if not name.isdecimal() or (other := int(name)) == pid:
            continue
        try:
            if not _has_memory_of(pid, other):
                continue
            with open(f"/proc/{other}/status", "rb") as file:  # noqa: PTH123
                own = ids_of(status_of(file.read()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if own != ids:
            yield own.uids[0]


def _has_memory_of(pid: int, other: int) -> bool:
    result = _libc.syscall(_KCMP, pid, other, _KCMP_VM, 0, 0)
    if result >= 0:
        return bool(result == 0)
    number = ctypes.get_errno()
    if number != errno.EPERM:
        raise OSError(number, f"kcmp: {os.strerror(number)}")
    # Somebody's whom we may not look at. Memories of different sizes are not the same one.
    return _sizes(pid) == _sizes(other)


def _sizes(pid: int) -> bytes:
    with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
        return file.read()
