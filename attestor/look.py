"""A look at one process: what the kernel says of it now, through descriptors that pin it.

A process is named by a pidfd, by a descriptor of its /proc directory (which fails once the
process is gone, and never turns into another process's), and by an open /proc/PID/maps. That
file belongs to the memory that the process had when it was opened: after exec it has no bytes.

The directory alone survives exec. So do pid, pidfd, pidfs inode and start time.
"""

import ctypes
import fcntl
import hashlib
import os
import re
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from attestor.digests import Digests, Unreadable, filesystem_of
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
MOST_MAPPINGS = 2048
"""Executable ones; a browser has some 300."""
MOST_PROC_BYTES = 64 << 20
"""smaps has about 700 bytes for each of at most 65530 mappings (vm.max_map_count)."""

KERNEL_PAGES = frozenset({b"[vdso]", b"[vsyscall]", b"[vvar]", b"[vvar_vclock]"})
"""Executable or not, the kernel put them there; a file of that name has a path before it. What
a process has written to is a copy of its own, and counts."""

_MAPS_LINE = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][sp]) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)"
)
_ANONYMOUS_LINE = re.compile(rb"Anonymous: +(\d+) kB")

_libc = ctypes.CDLL(None, use_errno=True)


class NoLook(Exception):
    """The process cannot be looked at: gone, changing, or holding something that we cannot read."""


class TooSlow(NoLook):
    """The process holds something that does not let itself be read."""


class Executed(NoLook):
    """The process now runs another program."""


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
class Region(Shape):
    """An executable mapping, as /proc/PID/maps has it."""

    start: int
    length: int
    permissions: bytes
    offset: int
    device: bytes
    inode: int
    name: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance(Shape):
    """The cheap part of a look: equal glances, and nothing was executed or mapped between them."""

    executable: tuple[int, ...]
    """Device, inode, size and times of what /proc/PID/exe opens."""
    auxv: bytes
    """SHA-256 of the auxiliary vector, which every exec makes anew."""
    regions: tuple[Region, ...]
    tracer: int
    uids: tuple[int, ...]
    capabilities: int


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
            maps = _open(directory, "maps")
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
    with _gone():
        regions = _own_regions(pins)
        exe = _open(pins.directory, "exe", os.O_PATH)
        try:
            status = os.fstat(exe)
        finally:
            os.close(exe)
        says = _status(pins.directory)
        seen = Glance(
            executable=(
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            ),
            auxv=hashlib.sha256(_read(pins.directory, "auxv")).digest(),
            regions=regions,
            tracer=int(says["TracerPid"]),
            uids=_numbers(says["Uid"]),
            capabilities=int(says["CapPrm"], 16),
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
        regions = _regions(_whole(pins.maps))
        if not regions:
            raise Executed("the process executed something else")
        if _regions(_read(pins.directory, "maps")) == regions:
            return regions
    raise Executed("the process has another memory than when it was first seen")


def look(pins: Pins, digests: Digests) -> tuple[Look, Glance]:
    """Return everything that evidence says of a process, and the glance that goes with it.

    A glance before and one after hold it together: if they are equal, the process did not
    execute or map anything while it was looked at.
    """
    before = glance(pins)
    with _gone():
        seen = _look(pins, digests)
    if glance(pins) != before:
        raise NoLook("the process changed during the look")
    return seen, before


def _look(pins: Pins, digests: Digests) -> Look:
    directory = pins.directory
    exe = _open(directory, "exe", os.O_PATH)
    try:
        executable = _file(exe, os.readlink(b"exe", dir_fd=directory), digests)
    finally:
        os.close(exe)
    files, mappings, anonymous_executable = _mappings(directory, digests)
    start_ticks, parent = _stat(directory)
    says = _status(directory)
    spaces = tuple(os.stat(f"ns/{name}", dir_fd=directory).st_ino for name in NAMESPACES)
    return Look(
        boot=boot_id(),
        pid=pid_of(pins.pidfd),
        pidfs_inode=pidfs_inode(pins.pidfd),
        start_ticks=start_ticks,
        executable=executable,
        files=files,
        mappings=mappings,
        anonymous_executable=anonymous_executable,
        tracer=int(says["TracerPid"]),
        uids=_numbers(says["Uid"]),
        gids=_numbers(says["Gid"]),
        capabilities=int(says["CapPrm"], 16),
        no_new_privs=says["NoNewPrivs"] == "1",
        seccomp=int(says["Seccomp"]),
        cgroup=_cgroup(directory),
        namespaces=spaces,
        is_user_namespace_initial=spaces[0] == INITIAL_USER_NAMESPACE,
        is_pid_namespace_initial_owned=_owner(directory, "ns/pid") == INITIAL_USER_NAMESPACE,
        parent=parent,
    )


def _file(descriptor: int, label: bytes, digests: Digests) -> MappedFile:
    try:
        digest = digests.of(descriptor)
    except (Unreadable, OSError) as error:
        raise NoLook(f"{os.fsdecode(label)!a}: {error}") from error
    status = os.fstat(descriptor)
    return MappedFile(
        path=label,
        digest=digest,
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        links=status.st_nlink,
        owner=status.st_uid,
        mode=stat.S_IMODE(status.st_mode),
        filesystem=filesystem_of(descriptor),
    )


def _mappings(
    directory: int, digests: Digests
) -> tuple[tuple[MappedFile, ...], tuple[Mapping, ...], int]:
    """Return the files that are mapped executable, where, and how much no file holds."""
    files: dict[tuple[int, int], MappedFile] = {}
    mappings: list[Mapping] = []
    anonymous_executable = 0
    for region, anonymous in _smaps(_read(directory, "smaps")):
        if region.inode == 0:
            is_the_kernels = region.name in KERNEL_PAGES and region.permissions[1:2] != b"w"
            anonymous_executable += anonymous if is_the_kernels else region.length
            continue
        if len(mappings) == MOST_MAPPINGS:
            raise NoLook(f"more than {MOST_MAPPINGS} executable mappings")
        name = f"map_files/{region.start:x}-{region.start + region.length:x}"
        descriptor = _open(directory, name, os.O_PATH)
        try:
            status = os.fstat(descriptor)
            place = status.st_dev, status.st_ino
            if place not in files:
                if len(files) == MOST_FILES:
                    raise NoLook(f"more than {MOST_FILES} files are mapped executable")
                files[place] = _file(
                    descriptor, os.readlink(name.encode(), dir_fd=directory), digests
                )
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


def _regions(maps: bytes) -> tuple[Region, ...]:
    """Return the executable mappings in the text of a maps file."""
    matches = (_MAPS_LINE.fullmatch(line) for line in maps.split(b"\n") if line)
    return tuple(one for match in matches for one in _executable(match))


def _executable(match: re.Match[bytes] | None) -> Iterator[Region]:
    if match is None:
        raise NoLook("the kernel writes maps in a way that is not known here")
    start, end, permissions, offset, device, inode, name = match.groups()
    if permissions[2:3] == b"x":
        yield Region(
            start=int(start, 16),
            length=int(end, 16) - int(start, 16),
            permissions=permissions,
            offset=int(offset, 16),
            device=device,
            inode=int(inode),
            name=name,
        )


def _smaps(smaps: bytes) -> Iterator[tuple[Region, int]]:
    """Yield each executable mapping and how many of its bytes are no longer the file's."""
    current: Region | None = None
    for line in smaps.split(b"\n"):
        if (match := _MAPS_LINE.fullmatch(line)) is not None:
            current = next(_executable(match), None)
        elif current is not None and (found := _ANONYMOUS_LINE.fullmatch(line)):
            yield current, int(found.group(1)) * 1024
            current = None


def _stat(directory: int) -> tuple[int, int]:
    """Return the start time in ticks and the parent's pid (proc(5), /proc/PID/stat 22 and 4)."""
    # The name of the program may hold spaces and parentheses: fields count from the last one.
    fields = _read(directory, "stat").rpartition(b")")[2].split()
    return int(fields[22 - 3]), int(fields[4 - 3])


def _status(directory: int) -> dict[str, str]:
    text = _read(directory, "status").decode("utf-8", "replace")
    pairs = (line.partition(":") for line in text.split("\n"))
    # "Name" is the process's own choice, but cannot hold a newline: the kernel escapes it.
    return {name: value.strip() for name, _, value in pairs}


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split())


def _cgroup(directory: int) -> str:
    """Return the path in the unified hierarchy, or in systemd's own where there is none."""
    # Not splitlines: users name cgroups, and there is more to end a line for it than the kernel.
    lines = _read(directory, "cgroup").decode("utf-8", "replace").split("\n")
    found = dict(line.split(":", 2)[1:] for line in lines if line)
    return found.get("", found.get("name=systemd", ""))


def unit_of(cgroup: str) -> str:
    """Return the last component of a cgroup's path: the systemd unit, if systemd made it."""
    return cgroup.rpartition("/")[2]


def _owner(directory: int, name: str) -> int:
    """Return the inode of the user namespace that owns a namespace; 0 if it is not ours to see."""
    space = _open(directory, name)
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


def _open(directory: int, name: str, flags: int = os.O_RDONLY) -> int:
    return os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)


def _read(directory: int, name: str) -> bytes:
    descriptor = _open(directory, name)
    try:
        return _whole(descriptor)
    finally:
        os.close(descriptor)


def _whole(descriptor: int) -> bytes:
    """Return a file of /proc from its start."""
    parts: list[bytes] = []
    size = 0
    while part := os.pread(descriptor, 1 << 16, size):
        parts.append(part)
        size += len(part)
        if size > MOST_PROC_BYTES:
            raise NoLook("more mappings than any kernel allows")
    return b"".join(parts)


@contextmanager
def _gone() -> Iterator[None]:
    """Turn what /proc says of ended processes, and of exec'd ones, into NoLook."""
    try:
        yield
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise NoLook(f"{type(error).__name__}: {error}") from error
