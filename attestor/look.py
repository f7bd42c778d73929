"""A look at one process: what the kernel says of it now, through descriptors that pin it.

A process is named by a pidfd, by a descriptor of its /proc directory (which fails once the
process is gone, and never turns into another process's), and by an open /proc/PID/maps. That
file belongs to the memory that the process had when it was opened: after exec it has no bytes.

The directory alone survives exec. So do pid, pidfd, pidfs inode and start time.
"""

import fcntl
import hashlib
import os
import re
import select
import stat
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from attestor.digests import Digests, Unreadable, filesystem_of
from attestor.memory import (
    PAGE_BYTES,
    Region,
    is_kernels,
    map_file,
    own_bytes,
    own_pages,
    regions_of,
)
from attestor.mounts import Mounts, mount_of
from attestor.proc import Executed, NoLook, ids_of, open_at, read, status, whole
from attestor.sharers import Sharers, threads
from evidence.process import Look, MappedFile, Mapping
from evidence.shapes import Shape

PIDFS = 0x50494446
"""PID_FS_MAGIC (linux/magic.h): pidfds have inodes of their own, since Linux 6.9."""

INITIAL_USER_NAMESPACE = 0xEFFFFFFD
"""PROC_USER_INIT_INO (linux/proc_ns.h)."""
NS_GET_USERNS = 0xB701
"""linux/nsfs.h: the user namespace that owns a namespace."""
NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")

MAPS_TRIES = 5
"""A program that maps something between our two readings is read again."""
MOST_FILES = 512


@dataclass(frozen=True, slots=True)
class Pins:
    """Descriptors that stay with one process and one program."""

    pidfd: int
    directory: int
    """/proc/PID, O_PATH."""
    maps: int
    """/proc/PID/maps, opened when the process was first seen."""

    def close(self) -> None:
        """Let go of the process, but for the pidfd, which is somebody else's."""
        os.close(self.directory)
        os.close(self.maps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance(Shape):
    """The cheap part of a look: equal glances, and nothing that can run has changed between them.

    Not executed, not mapped, not patched, no mapped file written to, no other tracer or ids.
    """

    executable: tuple[int, ...]
    """Device, inode, size and times of what /proc/PID/exe opens, or its mount where whoever
    serves that file is not asked."""
    auxv: bytes
    """SHA-256 of the auxiliary vector, which every exec makes anew."""
    regions: tuple[Region, ...]
    files: bytes
    """SHA-256 of device, inode, size and times of each file that they map."""
    own_pages: bytes
    """SHA-256 of the addresses of their pages that are no longer the file's, as the page map has
    it; empty where there are none. Before Linux 6.11 the page map does not know a file's huge
    pages for the file's: it says whether something changed, and smaps what there is."""
    tracer: int
    uids: tuple[int, ...]
    capabilities: int
    strangers: tuple[int, ...]
    """Real uids of threads with other ids than the first."""


@cache
def boot_id() -> str:
    """Return the boot's random name."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123
        return file.read().strip()


def is_alive(pidfd: int) -> bool:
    """Say whether a process has not ended; zombies have."""
    watch = select.poll()
    watch.register(pidfd, select.POLLIN)
    return not watch.poll(0)


def pid_of(pidfd: int) -> int:
    """Return the pid, in this pid namespace, of the process of a pidfd; 0 if it is gone."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:  # noqa: PTH123
        found = re.search(r"^Pid:\t(-?\d+)$", file.read(), re.MULTILINE)
    return max(int(found.group(1)), 0) if found else 0


def pidfs_inode(pidfd: int) -> int:
    """Return the inode that is this process's alone in this boot; 0 before Linux 6.9."""
    return os.fstat(pidfd).st_ino if filesystem_of(pidfd) == PIDFS else 0


def pin(pidfd: int) -> Pins:
    """Open the directory and the mappings of a living process; `pidfd` stays the caller's."""
    pid = pid_of(pidfd)
    if pid == 0:
        raise NoLook("the process is gone")
    with _gone():
        directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            maps = open_at(directory, "maps")
        except OSError:
            os.close(directory)
            raise
    # Alive now, so the number was this process's all the while.
    if not is_alive(pidfd):
        os.close(directory)
        os.close(maps)
        raise NoLook("the process is gone")
    return Pins(pidfd, directory, maps)


def glance(pins: Pins) -> Glance:
    """Return what tells one program of one process from every other."""
    return _glance(pins, _mounts(pins.directory))


def _glance(pins: Pins, mounts: Mounts) -> Glance:
    with _gone():
        regions = _own_regions(pins)
        exe = open_at(pins.directory, "exe", os.O_PATH)
        try:
            executable = _facts(exe, mounts)
        finally:
            os.close(exe)
        ids, tracer, strangers = threads(pins.directory)
        own = own_pages(pins.directory, regions)
        seen = Glance(
            executable=executable,
            auxv=hashlib.sha256(read(pins.directory, "auxv")).digest(),
            regions=regions,
            files=_files_summary(pins.directory, regions, mounts),
            own_pages=hashlib.sha256(array("Q", own)).digest() if own else b"",
            tracer=tracer,
            uids=ids.uids,
            capabilities=ids.capabilities,
            strangers=strangers,
        )
    if not is_alive(pins.pidfd):
        raise NoLook("the process is gone")
    return seen


def _own_regions(pins: Pins) -> tuple[Region, ...]:
    """Return the executable mappings of the memory that the process had when it was pinned.

    Raise Executed if the process has another memory now. The pinned one may still be there: a
    relative that shares it (CLONE_VM) keeps it alive when the process itself has left it.
    """
    for _ in range(MAPS_TRIES):
        pinned, now = whole(pins.maps), read(pins.directory, "maps")
        regions = regions_of(pinned)
        if not regions:
            raise Executed("the process executed something else")
        if now == pinned or regions_of(now) == regions:
            return regions
    raise Executed("the process has another memory than when it was first seen")


def look(pins: Pins, digests: Digests, sharers: Sharers) -> tuple[Look, Glance]:
    """Return everything that evidence says of a process, and the glance that goes with it.

    A glance before and one after hold it together: if they are equal, the process did not
    execute or map anything while it was looked at.
    """
    mounts = _mounts(pins.directory)
    before = _glance(pins, mounts)
    with _gone():
        seen = _look(pins, digests, sharers, mounts, before)
    if _glance(pins, mounts) != before:
        raise NoLook("the process changed during the look")
    return seen, before


def _look(pins: Pins, digests: Digests, sharers: Sharers, mounts: Mounts, summary: Glance) -> Look:
    directory = pins.directory
    pid = pid_of(pins.pidfd)
    exe = open_at(directory, "exe", os.O_PATH)
    try:
        label = os.readlink(b"exe", dir_fd=directory)
        executable = _file(exe, label, mounts, digests)
    finally:
        os.close(exe)
    files, mappings, anonymous_executable = _mappings(directory, summary, mounts, digests)
    start_ticks, parent = _stat(directory)
    says = status(directory)
    ids = ids_of(says)
    spaces = tuple(os.stat(f"ns/{name}", dir_fd=directory).st_ino for name in NAMESPACES)
    return Look(
        boot=boot_id(),
        pid=pid,
        pidfs_inode=pidfs_inode(pins.pidfd),
        start_ticks=start_ticks,
        executable=executable,
        files=files,
        mappings=mappings,
        page_bytes=PAGE_BYTES,
        anonymous_executable=anonymous_executable,
        tracer=summary.tracer,
        uids=ids.uids,
        gids=ids.gids,
        capabilities=ids.capabilities,
        strangers=tuple(sorted({*summary.strangers, *sharers.of(pid, start_ticks, ids)})),
        no_new_privs=says["NoNewPrivs"] == "1",
        seccomp=int(says["Seccomp"]),
        cgroup=_cgroup(directory),
        namespaces=spaces,
        is_user_namespace_initial=spaces[0] == INITIAL_USER_NAMESPACE,
        is_pid_namespace_initial_owned=_owner(directory, "ns/pid") == INITIAL_USER_NAMESPACE,
        parent=parent,
    )


def _file(
    descriptor: int, label: bytes, mounts: Mounts, digests: Digests, device: bytes = b""
) -> MappedFile:
    if not mounts.is_kernels_own(descriptor, device):
        return MappedFile(
            path=label,
            digest=b"",
            device=0,
            inode=mount_of(descriptor),
            size=0,
            links=1,
            owner=0,
            mode=0,
            filesystem=0,
            segments=(),
            is_movable=False,
        )
    try:
        contents = digests.contents(descriptor)
    except (Unreadable, OSError) as error:
        raise NoLook(f"{os.fsdecode(label)!a}: {error}") from error
    status = os.fstat(descriptor)
    return MappedFile(
        path=label,
        digest=contents.digest,
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        links=status.st_nlink,
        owner=status.st_uid,
        mode=stat.S_IMODE(status.st_mode),
        filesystem=filesystem_of(descriptor),
        segments=contents.program.segments,
        is_movable=contents.program.is_movable,
    )


def _mappings(
    directory: int, summary: Glance, mounts: Mounts, digests: Digests
) -> tuple[tuple[MappedFile, ...], tuple[Mapping, ...], int]:
    """Return the files that are mapped executable, where, and how much no file holds."""
    files: dict[tuple[int, ...], MappedFile] = {}
    mappings: list[Mapping] = []
    anonymous_executable = 0
    own = own_bytes(read(directory, "smaps")) if summary.own_pages else {}
    for region in summary.regions:
        anonymous = own.get(region.start, 0)
        if region.inode == 0:
            anonymous_executable += anonymous if is_kernels(region) else region.length
            continue
        name = map_file(region)
        descriptor = open_at(directory, name, os.O_PATH)
        try:
            # Not by device and inode of the region: on btrfs two files can have them in common.
            place = (*_facts(descriptor, mounts, region.device)[:2], region.inode)
            if place not in files:
                if len(files) == MOST_FILES:
                    raise NoLook(f"more than {MOST_FILES} files are mapped executable")
                label = os.readlink(name.encode(), dir_fd=directory)
                files[place] = _file(descriptor, label, mounts, digests, region.device)
        finally:
            os.close(descriptor)
        mappings.append(
            Mapping(
                file=list(files).index(place),
                start=region.start,
                offset=region.offset,
                length=region.length,
                anonymous=anonymous,
                is_writable=region.permissions[1:2] == b"w",
            )
        )
    return tuple(files.values()), tuple(mappings), anonymous_executable


def _files_summary(directory: int, regions: tuple[Region, ...], mounts: Mounts) -> bytes:
    """Return SHA-256 of what changes when a mapped file is written to, linked or unlinked."""
    hasher = hashlib.sha256()
    for region in regions:
        if not region.inode:
            continue
        descriptor = open_at(directory, map_file(region), os.O_PATH)
        try:
            hasher.update(repr(_facts(descriptor, mounts, region.device)).encode())
        finally:
            os.close(descriptor)
    return hasher.digest()


def _facts(descriptor: int, mounts: Mounts, device: bytes = b"") -> tuple[int, ...]:
    """Return device, inode, size and times of a file; of one that is not asked, its mount."""
    if not mounts.is_kernels_own(descriptor, device):
        return (mount_of(descriptor),)
    one = os.fstat(descriptor)
    return one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns


def _mounts(directory: int) -> Mounts:
    return Mounts(f"/proc/self/fd/{directory}/mountinfo")


def _stat(directory: int) -> tuple[int, int]:
    """Return the start time in ticks and the parent's pid (proc(5), /proc/PID/stat 22 and 4)."""
    # The name of the program may hold spaces and parentheses: fields count from the last one.
    fields = read(directory, "stat").rpartition(b")")[2].split()
    return int(fields[22 - 3]), int(fields[4 - 3])


def _cgroup(directory: int) -> str:
    """Return the path in the unified hierarchy, or in systemd's own where there is none."""
    # Not splitlines: users name cgroups, and there is more to end a line for it than the kernel.
    lines = read(directory, "cgroup").decode("utf-8", "replace").split("\n")
    found = dict(line.split(":", 2)[1:] for line in lines if line)
    return found.get("", found.get("name=systemd", ""))


def unit_of(cgroup: str) -> str:
    """Return the last component of a cgroup's path: the systemd unit, if systemd made it."""
    return cgroup.rpartition("/")[2]


def _owner(directory: int, name: str) -> int:
    """Return the inode of the user namespace that owns a namespace; 0 if it is not ours to see."""
    space = open_at(directory, name)
    try:
        owner = fcntl.ioctl(space, NS_GET_USERNS)
    except PermissionError:
        return 0
    finally:
        os.close(space)
    try:
        return os.fstat(owner).st_ino
    finally:
        os.close(owner)


@contextmanager
def _gone() -> Iterator[None]:
    """Turn what /proc says of ended processes, and of exec'd ones, into NoLook."""
    try:
        yield
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise NoLook(f"{type(error).__name__}: {error}") from error
