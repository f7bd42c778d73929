"""Where on the node the processes of some uids are: walks through /proc for all of them."""

import os
import re
from collections.abc import Collection, Iterable, Mapping

from attestor.proc import cgroup_of
from evidence.posture import MOST_CGROUPS, Presence

INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO (linux/proc_ns.h)."""


MOST_LISTINGS = 50
"""Each after the first has only those that are new, so it is done in a millisecond or so."""

UNSEEN = ""
"""In the place of a cgroup: of processes that were gone whenever they were to be looked at."""

_UIDS = re.compile(rb"^Uid:((?:\t\d+){4})$", re.MULTILINE)
"""Of /proc/PID/status, of which all is not taken apart: there may be thousands of processes."""


def sees_every_process() -> bool:
    """Say whether we are in the pid namespace that has every process of the node."""
    return os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE  # noqa: PTH116


def find_presences(uids: Collection[int]) -> tuple[Presence, ...]:
    """Return where the processes of each uid are.

    Threads that have other ids than the first of their process are not asked: root alone makes
    such. Who forks and ends all the time is alive at all times, and gone whenever he is looked at:
    so it is listed again, until everybody in a list was seen. If that never is, somebody is
    somewhere: UNSEEN, for each uid, since nobody knows whose processes those were.
    """
    found: dict[int, set[str]] = {uid: set() for uid in uids}
    seen: set[str] = set()
    for _ in range(MOST_LISTINGS):
        new = [one for one in os.listdir("/proc") if one.isdecimal() and one not in seen]  # noqa: PTH208
        here = {one for one in new if _note(one, found)}
        seen |= here
        if len(here) == len(new):
            break
    else:
        for cgroups in found.values():
            cgroups.add(UNSEEN)
    return tuple(_presence(uid, cgroups) for uid, cgroups in sorted(found.items()))


def _note(name: str, found: Mapping[int, set[str]]) -> bool:
    """Note where a process is, if one of these uids is its; say whether it was still there."""
    try:
        line = _UIDS.search(_read(name, "status"))
        mine = found.keys() & set(map(int, line[1].split())) if line else ()
        if mine:
            cgroup = cgroup_of(_read(name, "cgroup"))
    except (FileNotFoundError, ProcessLookupError):
        return False
    for uid in mine:
        found[uid].add(cgroup)
    return True


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
