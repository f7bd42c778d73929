"""Where on the node the processes of some uids are: one walk through /proc for all of them."""

import os
import re
from collections.abc import Collection, Iterable

from attestor.proc import cgroup_of
from evidence.posture import MOST_CGROUPS, Presence

INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO (linux/proc_ns.h)."""


_UIDS = re.compile(rb"^Uid:((?:\t\d+){4})$", re.MULTILINE)
"""Of /proc/PID/status, of which all is not taken apart: there may be thousands of processes."""


def sees_every_process() -> bool:
    """Say whether we are in the pid namespace that has every process of the node."""
    return os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE  # noqa: PTH116


def find_presences(uids: Collection[int]) -> tuple[Presence, ...]:
    """Return where the processes of each uid are.

    Threads that have other ids than the first of their process are not asked: root alone makes
    such. A process that ends meanwhile is passed over.
    """
    found: dict[int, set[str]] = {uid: set() for uid in uids}
    for name in os.listdir("/proc"):  # noqa: PTH208 a path for each would cost more than the rest
        if not name.isdecimal():
            continue
        try:
            line = _UIDS.search(_read(name, "status"))
            mine = found.keys() & set(map(int, line[1].split())) if line else ()
            if mine:
                cgroup = cgroup_of(_read(name, "cgroup"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        for uid in mine:
            found[uid].add(cgroup)
    return tuple(_presence(uid, cgroups) for uid, cgroups in sorted(found.items()))


def _read(pid: str, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123
        return file.read()


def join(first: Iterable[Presence], second: Iterable[Presence]) -> tuple[Presence, ...]:
    """Return what both say: where processes of a uid are or have been."""
    found: dict[int, set[str]] = {}
    for one in (*first, *second):
        found.setdefault(one.uid, set()).update(one.cgroups)
    return tuple(_presence(uid, cgroups) for uid, cgroups in sorted(found.items()))


def is_alone(presences: Iterable[Presence], uid: int, cgroup: str) -> bool:
    """Say whether every process of the uid is in the cgroup or below it."""
    return any(one.uid == uid and one.is_within(cgroup) for one in presences)


def _presence(uid: int, cgroups: Collection[str]) -> Presence:
    return Presence(uid=uid, cgroups=tuple(sorted(cgroups)[:MOST_CGROUPS]))
