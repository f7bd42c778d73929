"""SHA-256 of files by descriptor, remembered where only root could have changed the file."""

import ctypes
import hashlib
import math
import os
import stat
import time
from collections import OrderedDict
from dataclasses import dataclass

from attestor.proc import Unfinished
from attestor.segments import HEAD_BYTES, Program, program_of

CHUNK_BYTES = HEAD_BYTES
"""The first of them has the program headers."""
MOST_REMEMBERED = 1 << 15
"""Among them every file that some Python programs could import."""

LOCAL_FILESYSTEMS = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x794C7630, 0x73717368, 0xE0F5E1E2})
"""f_type of ext4, xfs, btrfs, overlayfs, squashfs and erofs (linux/magic.h).

Elsewhere, on FUSE for one, times and owners are what a user's server says they are.
"""

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH

_STATFS_BYTES = 256
_F_TYPE_BYTES = ctypes.sizeof(ctypes.c_long)
"""`struct statfs` starts with f_type, a long on every 64-bit machine."""

_libc = ctypes.CDLL(None, use_errno=True)


class Unreadable(Exception):
    """A file that cannot be hashed: too large, changing, no file, or kept from us."""


@dataclass(frozen=True, slots=True)
class _Key:
    device: int
    inode: int
    changed_ns: int
    modified_ns: int
    size: int

    @classmethod
    def of(cls, status: os.stat_result) -> "_Key":
        times = status.st_ctime_ns, status.st_mtime_ns
        return cls(status.st_dev, status.st_ino, *times, status.st_size)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is kept of a file's bytes."""

    digest: bytes
    """SHA-256."""
    program: Program
    """Read from the same bytes."""


class Digests:
    """Hashes files of at most `most_bytes` bytes."""

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.until = math.inf
        """On the monotonic clock: no file is begun or gone on with later. What was hashed before
        is remembered, so whoever asks again comes further."""
        self._remembered: OrderedDict[_Key, Contents] = OrderedDict()

    def of(self, descriptor: int) -> bytes:
        """Return SHA-256 of the file that a descriptor, O_PATH suffices, stands for."""
        return self.contents(descriptor).digest

    def remembered(self, status: os.stat_result) -> bytes | None:
        """Return SHA-256 of a file of this status, if it is remembered."""
        held = self._remembered.get(_Key.of(status))
        return held.digest if held else None

    def contents(self, descriptor: int) -> Contents:
        """Return what is kept of the file that a descriptor, O_PATH suffices, stands for."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("not a regular file")
        if status.st_size > self._most_bytes:
            raise Unreadable(f"{status.st_size} bytes, more than {self._most_bytes}")
        key = _Key.of(status)
        if key in self._remembered:
            self._remembered.move_to_end(key)
            return self._remembered[key]
        found = self._read(descriptor, status.st_size)
        if _Key.of(os.fstat(descriptor)) != key:
            raise Unreadable("it changed while it was read")
        owner, mode = status.st_uid, status.st_mode
        if is_lasting(owner=owner, mode=mode, filesystem=filesystem_of(descriptor)):
            self._remembered[key] = found
            if len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return found

    def _read(self, descriptor: int, size: int) -> Contents:
        # Opened again: O_PATH cannot be read, and the owner's own position is left alone.
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        hasher, left, head = hashlib.sha256(), size, b""
        try:
            while left and (part := os.read(again, min(left, CHUNK_BYTES))):
                hasher.update(part)
                head = head or part
                left -= len(part)
                if time.monotonic() > self.until:
                    raise Unfinished("there was no time to hash everything")
            if left or os.read(again, 1):
                raise Unreadable("its size changed while it was read")
        finally:
            os.close(again)
        return Contents(hasher.digest(), program_of(head))


def is_lasting(*, owner: int, mode: int, filesystem: int) -> bool:
    """Say whether a file's bytes are the same while its status is: only root can write to it."""
    return is_roots_alone(owner=owner, mode=mode) and filesystem in LOCAL_FILESYSTEMS


def is_roots_alone(*, owner: int, mode: int) -> bool:
    """Say whether nobody but root can change a file, or what is in a directory."""
    return owner == 0 and not mode & _WRITABLE_BY_OTHERS


def filesystem_of(descriptor: int) -> int:
    """Return statfs's f_type, 32 bits, of the file system that holds a file."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(descriptor, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"fstatfs: {os.strerror(number)}")
    return int.from_bytes(buffer.raw[:_F_TYPE_BYTES], "little") & 0xFFFFFFFF
