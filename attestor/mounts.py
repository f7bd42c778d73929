"""Whether a file lies on a file system that the kernel itself answers for.

On others (FUSE, network file systems) a user's own server may answer when it likes, or never, and
who waits for it cannot even be killed. So nothing is asked of a file, neither its status nor its
bytes, before the kernel's table of mounts has said what it lies on. A descriptor opened with
O_PATH asks nothing.
"""

import os
import re
from functools import cache

from attestor.proc import whole

KERNELS_OWN = frozenset(
    {
        b"btrfs",
        b"erofs",
        b"ext2",
        b"ext3",
        b"ext4",
        b"f2fs",
        b"ramfs",
        b"rootfs",
        b"squashfs",
        b"tmpfs",
        b"xfs",
    }
)
"""Types, as /proc/PID/mountinfo names them. Whether code may lie there is not decided here."""
IF_OURS = frozenset({b"overlay"})
"""Types that count where the file system is mounted in our namespace, too. What an overlay lies on
is asked with the rights of who mounted it: in a namespace of his own a user does so, on a file
server of his own."""

_MOUNT_ID = re.compile(rb"^mnt_id:\t(\d+)$", re.MULTILINE)
_MOUNT = re.compile(rb"^(\d+) \d+ (\S+) [^\n]*? - (\S+) ", re.MULTILINE)
"""proc(5), /proc/PID/mountinfo: a mount's number, its parent's, the device of its file system; its
type follows a dash."""
HERE = "/proc/self/mountinfo"
_FDINFO_BYTES = 4096
"""mnt_id is in the third line."""


class Mounts:
    """The tables of mounts at one moment: ours first, then a process's own.

    A process in another mount namespace has its files from mounts of that one. A mount that is in
    neither, because it was detached while it was in use, is nobody's.
    """

    def __init__(self, *others: str) -> None:
        self._tables = [HERE, *others]
        self._own: dict[int, bool] = {}
        self._ours: set[bytes] = set()
        """Devices of file systems of IF_OURS."""
        self._devices: dict[bytes, bool] = {}

    def is_kernels_own(self, descriptor: int, device: bytes = b"") -> bool:
        """Say whether the kernel answers for a descriptor's file.

        `device` is what /proc/PID/maps calls its file system, where that is known: of one file
        system only the first file is looked after.
        """
        if device not in self._devices or not device:
            self._devices[device] = self._is_kernels_own(descriptor)
        return self._devices[device]

    def _is_kernels_own(self, descriptor: int) -> bool:
        number = mount_of(descriptor)
        if number == _memory():
            return True
        while number not in self._own and self._tables:
            self._read(self._tables.pop(0))
        return self._own.get(number, False)

    def _read(self, table: str) -> None:
        for name, device, kind in _MOUNT.findall(content(table)):
            if table == HERE and kind in IF_OURS:
                self._ours.add(device)
            is_own = kind in KERNELS_OWN or (kind in IF_OURS and device in self._ours)
            self._own.setdefault(int(name), is_own)


def mount_of(descriptor: int) -> int:
    """Return the number of the mount that a descriptor's file was reached through."""
    says = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = _MOUNT_ID.search(os.read(says, _FDINFO_BYTES))
    finally:
        os.close(says)
    return int(found[1]) if found else -1


@cache
def _memory() -> int:
    """Return the mount of memfd_create's files, which is in no table."""
    descriptor = os.memfd_create("mount")
    try:
        return mount_of(descriptor)
    finally:
        os.close(descriptor)


def content(path: str) -> bytes:
    """Return what a file of /proc says."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return whole(descriptor)
    finally:
        os.close(descriptor)
