"""Lets canaries loose: root's files, used under a workload's uid, on a workload's file system.

It is done by a child's child of the nursery's, which gives up everything for that uid before it
uses them. Its parent ends it when it takes too long: its user may have stopped it.
The files never have a name (O_TMPFILE), so there is nothing to find for others and nothing to
clean up; what is on that file system is not changed. They are not opened for reading before the
uid is the workload's: what the attestor's uid reads of root's is measured as the attestor's code.
"""

import errno
import mmap
import os
import re
import select
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from attestor import packets, privileges
from attestor.mounts import HERE, IF_OURS, KERNELS_OWN, content
from evidence import Malformed
from evidence.canary import USES, Place, contents
from evidence.shapes import Shape

SECONDS = 8
"""How long it may take at most: a user can stop what runs under his uid, and disks can be slow."""
LEAST_SECONDS = 2
GRACE_SECONDS = 1
"""How much longer the daemon waits than the child gives itself."""
MODE = 0o555
"""Anybody may read and execute a canary; there is nothing in it."""
MOST_TRIED = 8
"""Directories whose failures are told."""

_MOUNT = re.compile(
    rb"^\d+ \d+ \d+:\d+ \S+ (?P<point>\S+) (?P<options>\S+)[^\n]*?"
    rb" - (?P<type>\S+) \S+ (?P<whole>\S+)$",
    re.MULTILINE,
)
"""proc(5), /proc/PID/mountinfo: the mount's own options, and those of the whole file system."""
_UNFIT = {b"ro", b"noexec"}


class NoCanary(Exception):
    """Why there is none, in words for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Shape):
    """What a child is to do."""

    place: Place
    gid: int
    canaries: tuple[bytes, ...]
    """Their contents, in the order of USES."""
    directories: tuple[str, ...]
    """Where to try first."""
    seconds: int
    """How long it may take."""


@dataclass(frozen=True, slots=True)
class Canaries:
    """The daemon's hold on such children."""

    birth: Callable[[], tuple[socket.socket, int]]
    """Returns the channel to a new one, and the pipe that tells when it is gone."""
    directories: tuple[str, ...]
    seconds: int = SECONDS

    @classmethod
    def within(
        cls,
        interval: timedelta,
        birth: Callable[[], tuple[socket.socket, int]],
        directories: tuple[str, ...],
    ) -> Self:
        """Return such a hold for a node that brings evidence this often.

        A user who stops what runs under his uid must not silence the node for so long that the
        verifier suspends it.
        """
        seconds = max(LEAST_SECONDS, min(SECONDS, int(interval.total_seconds())))
        return cls(birth, directories, seconds)

    def let_loose(self, nonce: bytes, place: Place, gid: int) -> str:
        """Use a place's canaries; return why there are none, or nothing. Blocks."""
        made = tuple(contents(nonce, place, use) for use in USES)
        order = Order(
            place=place, gid=gid, canaries=made, directories=self.directories, seconds=self.seconds
        )
        try:
            answer = self._ask(order)
        except (OSError, EOFError, Malformed) as error:
            return f"no answer within {self.seconds} s ({type(error).__name__})"
        match answer:
            case ["used"]:
                return ""
            case ["failed", str(why)]:
                return why
            case _:
                return "the answer was not understood"

    def _ask(self, order: Order) -> object:
        """Return a child's answer, once the child is gone: nothing is left under that uid."""
        channel, gone = self.birth()
        try:
            with channel:
                channel.settimeout(self.seconds + GRACE_SECONDS)
                packets.send(channel, order.members())
                answer, _ = packets.receive(channel)
            select.select([gone], [], [], GRACE_SECONDS)
        finally:
            os.close(gone)
        return answer


def serve(channel: socket.socket) -> None:
    """Be the child: take the order, have it done by a child of one's own, and see to its end."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    try:
        order = Order.read(packets.receive(channel)[0])
    except EOFError:
        return
    signal.alarm(0)
    pid = os.fork()
    if pid == 0:
        _obey(channel, order)
        return
    pidfd = os.pidfd_open(pid)
    if not select.select([pidfd], [], [], order.seconds)[0]:
        # Whoever has the uid may kill it, even one that is stopped. Nobody who has may kill us:
        # that goes by the real uid and the saved one.
        os.seteuid(order.place.uid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitpid(pid, 0)


def _obey(channel: socket.socket, order: Order) -> None:
    """Make the files, become the user, use them, say so."""
    try:
        files = _make(order)
        privileges.become(order.place.uid, order.gid, keep=())
        privileges.forbid_new_privileges()
        executed, mapped = (_reopen(one) for one in files)
        _have_executed(executed)
        _have_mapped(mapped)
        answer: list[object] = ["used"]
    except NoCanary as error:
        answer = ["failed", str(error)]
    except OSError as error:
        answer = ["failed", f"{error.strerror}"]
    packets.send(channel, answer)


def _make(order: Order) -> list[int]:
    """Return descriptors of root's new files, open for writing, in the first fit directory."""
    privileges.own_files_as_root()
    tried: list[str] = []
    for path in _directories(order):
        try:
            return [_make_file(path, order.place.device, one) for one in order.canaries]
        except OSError as error:
            tried.append(f"{path}: {error.strerror}")
    raise NoCanary(
        "no directory there in which root may make files that can be executed"
        + "".join(f"; {one}" for one in tried[:MOST_TRIED])
    )


def _directories(order: Order) -> Iterator[str]:
    """Yield directories on the place's file system: those configured, and roots of mounts."""
    mounts = [
        os.fsdecode(_unescaped(found["point"]))
        for found in _MOUNT.finditer(content(HERE))
        if found["type"] in KERNELS_OWN | IF_OURS
        and not _UNFIT & {*found["options"].split(b","), *found["whole"].split(b",")}
    ]
    for path in (*order.directories, *mounts):
        try:
            is_there = os.stat(path).st_dev == order.place.device  # noqa: PTH116
        except OSError:
            continue
        if is_there:
            yield path


def _unescaped(path: bytes) -> bytes:
    r"""Return a path of mountinfo's, in which blanks are `\040` and so on."""
    return re.sub(rb"\\([0-7]{3})", lambda one: bytes([int(one[1], 8)]), path)


def _make_file(directory: str, device: int, data: bytes) -> int:
    flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
    file = os.open(directory, flags, MODE)
    os.fchmod(file, MODE)  # whatever the umask is
    status = os.fstat(file)
    if (status.st_dev, status.st_uid) != (device, 0):
        raise OSError(errno.EXDEV, "not root's, or on another file system")
    if os.write(file, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return file


def _reopen(file: int) -> int:
    """Return the file open for reading, and nowhere for writing: such files are not executed."""
    reading = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(file)
    return reading


def _have_executed(file: int) -> None:
    """Have the kernel measure the file, and find that it is no program."""
    try:
        os.execve(file, ["canary"], {})  # noqa: S606 - no shell
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise NoCanary(f"executing it as the user: {error.strerror}") from error


def _have_mapped(file: int) -> None:
    try:
        with mmap.mmap(file, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC):
            pass
    except OSError as error:
        raise NoCanary(f"mapping it executable as the user: {error.strerror}") from error
