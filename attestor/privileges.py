"""Capabilities and the few process attributes that go with them.

The attestor runs under a uid of its own with ambient capabilities. A change of uid between two
ordinary users leaves capabilities as they are, so each of its processes states what it keeps.
"""

import ctypes
import errno
import os
from collections.abc import Collection
from typing import Final

DAC_READ_SEARCH: Final = 2
SETGID: Final = 6
SETUID: Final = 7
SYS_PTRACE: Final = 19
CHECKPOINT_RESTORE: Final = 40
"""Numbers of linux/capability.h."""

LOOKING: Final = frozenset({DAC_READ_SEARCH, SYS_PTRACE, CHECKPOINT_RESTORE})
"""What it takes to look at other users' processes and to read the files that they map."""
STARTING: Final = frozenset({SETGID, SETUID})
"""What it takes to start a program for another user, or a looker under its own uid."""
NEEDED: Final = LOOKING | STARTING

NAMES: Final = {
    DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
    SETGID: "CAP_SETGID",
    SETUID: "CAP_SETUID",
    SYS_PTRACE: "CAP_SYS_PTRACE",
    CHECKPOINT_RESTORE: "CAP_CHECKPOINT_RESTORE",
}

_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
"""linux/prctl.h."""

_CAPABILITY_VERSION_3 = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two words of 32 bits for each set."""
_WORD_BITS = 32

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, *arguments: int) -> None:
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *words), f"prctl {option}")


def permitted() -> frozenset[int]:
    """Return the capabilities that this process may use."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    words = (_Word * 2)()
    _check(_libc.capget(ctypes.byref(header), words), "capget")
    found = words[0].permitted | words[1].permitted << _WORD_BITS
    return frozenset(number for number in range(2 * _WORD_BITS) if found >> number & 1)


def keep_only(capabilities: Collection[int]) -> None:
    """Keep those of `capabilities` that this process has, and let no program inherit any."""
    kept = permitted() & set(capabilities)
    bits = sum(1 << number for number in kept)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    words = (_Word * 2)()
    for place, word in enumerate(words):
        part = bits >> (_WORD_BITS * place) & 0xFFFFFFFF
        word.effective, word.permitted, word.inheritable = part, part, 0
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _check(_libc.capset(ctypes.byref(header), words), "capset")


def pass_on(capabilities: Collection[int]) -> None:
    """Let the program that this process executes next have those of `capabilities` that it has."""
    kept = permitted() & set(capabilities)
    bits = sum(1 << number for number in kept)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    words = (_Word * 2)()
    for place, word in enumerate(words):
        part = bits >> (_WORD_BITS * place) & 0xFFFFFFFF
        word.effective, word.permitted, word.inheritable = part, part, part
    _check(_libc.capset(ctypes.byref(header), words), "capset")
    for number in kept:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def become(uid: int, gid: int, *, groups: Collection[int] = (), keep: Collection[int]) -> None:
    """Take on another uid for good, with the capabilities `keep` of those that are there."""
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    keep_only(keep)
    _prctl(_PR_SET_KEEPCAPS, 0)


def own_files_as_root() -> None:
    """Make files as root does, until `become`: takes CAP_SETUID and CAP_SETGID."""
    _libc.setfsgid(0)
    _libc.setfsuid(0)
    nobody = -1  # setfsuid(2): changes nothing, and tells what there is
    if (_libc.setfsgid(nobody), _libc.setfsuid(nobody)) != (0, 0):
        raise PermissionError(errno.EPERM, "no files can be made as root: CAP_SETUID is missing")


def forbid_new_privileges() -> None:
    """Let no program that this process executes gain any privilege."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """Let no other process of the same uid read this one's memory, nor a core file hold it."""
    _prctl(_PR_SET_DUMPABLE, 0)


def end_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal_number)
