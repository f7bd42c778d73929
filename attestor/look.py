"""A look at one process: what the kernel says of it now, through descriptors that pin it.

A process is named by a pidfd, by a descriptor of its /proc directory (which fails once the
process is gone, and never turns into another process's), and by an open /proc/PID/maps. That
file belongs to the memory that the process had when it was opened: after exec it has no bytes.

The directory alone survives exec. So do pid, pidfd, pidfs inode and start time.
"""

import errno
import fcntl
import hashlib
import os
import re
import select
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache

from attestor.code import Code, facts_of, read_code
from attestor.digests import Digests, filesystem_of
from attestor.interpreter import PythonProgram
from attestor.memory import PAGE_BYTES, Region, map_file, own_pages, regions_of
from attestor.mounts import Mounts
from attestor.proc import Executed, NoLook, cgroup_of, ids_of, open_at, read, status, whole
from attestor.sharers import Sharers, threads
from evidence.process import Look
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
MOST_KNOWN = 4096
"""Processes whose code is kept."""


@dataclass(frozen=True, slots=True)
class Pins:
    """Descriptors that stay with one process and one program."""

    pidfd: int
    directory: int
    """/proc/PID, O_PATH."""
    maps: int
    """/proc/PID/maps, opened when the process was first seen."""
    pagemap: int
    """/proc/PID/pagemap, opened with it."""
    program: PythonProgram | None = None
    """What the attestor launched, where that is an interpreter with a script."""
    files: tuple[str, ...] = ()
    """Paths of the configuration that it was launched with."""

    @property
    def descriptors(self) -> tuple[int, int, int, int]:
        """The first members, as they go to a looker."""
        return self.pidfd, self.directory, self.maps, self.pagemap

    def has_its_memory(self) -> bool:
        """Say whether the memory that the process had when it was first seen is still in use.

        This waits for nothing, as reading `maps` does, while the process has the kernel change
        its mappings, for as long as it likes. A place in a page map that is none is refused as
        long as there is a memory (fs/proc/task_mmu.c, pagemap_read), and else there is no page.
        """
        try:
            os.pread(self.pagemap, 1, 0)
        except OSError as error:
            return error.errno == errno.EINVAL
        return False

    def close(self) -> None:
        """Let go of the process, but for the pidfd, which is somebody else's."""
        for one in self.descriptors[1:]:
            os.close(one)


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


@dataclass(frozen=True, slots=True)
class Known:
    """The code of a process, and the glance that it was seen between."""

    glance: Glance
    code: Code


class Codes:
    """Reads the code of processes, and keeps it for as long as nothing of it can have changed."""

    def __init__(self, digests: Digests) -> None:
        self.digests = digests
        self._known: OrderedDict[tuple[int, int], Known] = OrderedDict()

    def known(self, process: tuple[int, int]) -> Known | None:
        """Return what is kept of a process, named by its pid and its start."""
        return self._known.get(process)

    def keep(self, process: tuple[int, int], seen: Glance, code: Code) -> None:
        """Keep what lies between two equal glances."""
        if code.is_lasting:
            self._known[process] = Known(seen, code)
            self._known.move_to_end(process)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    def forget(self, process: tuple[int, int]) -> None:
        """Keep nothing of a process."""
        self._known.pop(process, None)


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
    with ExitStack() as opened, _gone():
        directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, directory)
        maps = open_at(directory, "maps")
        opened.callback(os.close, maps)
        pagemap = open_at(directory, "pagemap")
        opened.callback(os.close, pagemap)
        # Alive now, so the number was this process's all the while.
        if not is_alive(pidfd):
            raise NoLook("the process is gone")
        opened.pop_all()
    return Pins(pidfd, directory, maps, pagemap)


def glance(pins: Pins) -> Glance:
    """Return what tells one program of one process from every other."""
    return _glance(pins, _mounts(pins.directory))


def _glance(pins: Pins, mounts: Mounts) -> Glance:
    with _gone():
        regions = _own_regions(pins)
        exe = open_at(pins.directory, "exe", os.O_PATH)
        try:
            executable = facts_of(exe, mounts)
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


def look(pins: Pins, codes: Codes, sharers: Sharers) -> tuple[Look, Glance]:
    """Return everything that evidence says of a process, and the glance that goes with it.

    A glance before and one after hold it together: if they are equal, the process did not
    execute or map anything in between. The one before may be that of an earlier look, whose code
    is then the code still.
    """
    mounts = _mounts(pins.directory)
    with _gone():
        name = pid_of(pins.pidfd), _stat(pins.directory)[0]
    known = codes.known(name)
    before = known.glance if known else _glance(pins, mounts)
    with _gone():
        code = known.code if known else _read_code(pins, before, mounts, codes.digests)
        seen = _look(pins, code, sharers, before)
    if _glance(pins, mounts) == before:
        codes.keep(name, before, code)
        return seen, before
    codes.forget(name)
    if known:
        return look(pins, codes, sharers)
    raise NoLook("the process changed during the look")


def _read_code(pins: Pins, summary: Glance, mounts: Mounts, digests: Digests) -> Code:
    has_own_pages = bool(summary.own_pages)
    regions = summary.regions
    return read_code(pins.directory, regions, mounts, digests, has_own_pages=has_own_pages)


def _look(pins: Pins, code: Code, sharers: Sharers, summary: Glance) -> Look:
    directory = pins.directory
    pid = pid_of(pins.pidfd)
    start_ticks, parent = _stat(directory)
    says = status(directory)
    ids = ids_of(says)
    spaces = tuple(os.stat(f"ns/{name}", dir_fd=directory).st_ino for name in NAMESPACES)
    return Look(
        boot=boot_id(),
        pid=pid,
        pidfs_inode=pidfs_inode(pins.pidfd),
        start_ticks=start_ticks,
        executable=code.executable,
        files=code.files,
        mappings=code.mappings,
        page_bytes=PAGE_BYTES,
        anonymous_executable=code.anonymous_executable,
        tracer=summary.tracer,
        uids=ids.uids,
        gids=ids.gids,
        capabilities=ids.capabilities,
        strangers=tuple(sorted({*summary.strangers, *sharers.of(pid, start_ticks, ids)})),
        no_new_privs=says["NoNewPrivs"] == "1",
        seccomp=int(says["Seccomp"]),
        cgroup=cgroup_of(read(directory, "cgroup")),
        namespaces=spaces,
        is_user_namespace_initial=spaces[0] == INITIAL_USER_NAMESPACE,
        is_pid_namespace_initial_owned=_owner(directory, "ns/pid") == INITIAL_USER_NAMESPACE,
        parent=parent,
        modules=b"",
        configuration=(),
    )


def _files_summary(directory: int, regions: tuple[Region, ...], mounts: Mounts) -> bytes:
    """Return SHA-256 of what changes when a mapped file is written to, linked or unlinked."""
    hasher = hashlib.sha256()
    for region in regions:
        if not region.inode:
            continue
        descriptor = open_at(directory, map_file(region), os.O_PATH)
        try:
            hasher.update(repr(facts_of(descriptor, mounts, region.device)).encode())
        finally:
            os.close(descriptor)
    return hasher.digest()


def _mounts(directory: int) -> Mounts:
    return Mounts(f"/proc/self/fd/{directory}/mountinfo")


def _stat(directory: int) -> tuple[int, int]:
    """Return the start time in ticks and the parent's pid (proc(5), /proc/PID/stat 22 and 4)."""
    # The name of the program may hold spaces and parentheses: fields count from the last one.
    fields = read(directory, "stat").rpartition(b")")[2].split()
    return int(fields[22 - 3]), int(fields[4 - 3])


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
