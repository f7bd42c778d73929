"""The process that looks at others, under a uid of its own, and the daemon's hold on it.

It has a uid of its own for the sake of the kernel's measurement list: what the attestor's uid
reads of root's files is measured as the attestor's code, and what it hashes for others must not
be. It also keeps the capabilities for looking away from the process that holds keys. A look that
takes too long (a file on a file system that a user serves) ends with the looker, and a new one is
born; the daemon goes on.
"""

import os
import pwd
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import cast

from attestor import packets, privileges
from attestor.configuration import read_configuration
from attestor.digests import Digests, Unreadable
from attestor.interpreter import PythonProgram, resolve
from attestor.look import Codes, Glance, Pins, glance, look, pin
from attestor.modules import ModuleTrees
from attestor.mounts import Mounts
from attestor.presences import find_presences, sees_every_process
from attestor.proc import Executed, NoLook, TooSlow, Unfinished
from attestor.sharers import Sharers
from attestor.starter import Account
from evidence import Malformed
from evidence.posture import Presence
from evidence.process import ConfigurationFile, Look
from evidence.shapes import Shape

GRACE_SECONDS = 2
"""How much longer the daemon waits than the looker gives itself."""
HASHING = 0.75
"""The part of that time in which files may be hashed."""
HASHING_TRIES = 4
"""How often a looker is asked that had no time to hash everything: it goes on where it was."""


class NoAccount(Exception):
    """No account has that name or number."""


class Looker:
    """The daemon's hold on one looker. Its methods block, and may be called from any thread."""

    def __init__(
        self, birth: Callable[[], socket.socket], *, most_bytes: int, deadline_seconds: int
    ) -> None:
        self._birth = birth
        self._most_bytes = most_bytes
        self._deadline_seconds = deadline_seconds
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None

    def close(self) -> None:
        """Let it end."""
        with self._lock:
            self._drop()

    def pin(self, pidfd: int) -> Pins:
        """Return the pins of a living process; `pidfd` stays the caller's."""
        _, descriptors = self._ask("pin", [pidfd])
        directory, maps, pagemap = descriptors
        return Pins(pidfd, directory, maps, pagemap)

    def program(self, interpreter: str, script: str) -> tuple[PythonProgram, bytes]:
        """Return the Python program of these paths, and the ModuleTree of what it could import."""
        match self._ask(["program", interpreter, script])[0]:
            case [program, bytes(tree)]:
                return PythonProgram.read(program), tree
            case _:
                raise NoLook("the looker's answer was not understood")

    def look(self, pins: Pins) -> tuple[Look, Glance]:
        """Return a look at a process."""
        program = [pins.program.members()] if pins.program else []
        request = ["look", program, list(pins.files)]
        match self._ask(request, pins.descriptors)[0]:
            case [seen, summary]:
                return Look.read(seen), Glance.read(summary)
            case _:
                raise NoLook("the looker's answer was not understood")

    def glance(self, pins: Pins) -> Glance:
        """Return the cheap part of a look."""
        return Glance.read(self._ask("glance", pins.descriptors)[0])

    def presences(self, uids: Collection[int]) -> tuple[Presence, ...]:
        """Return where on the node the processes of each uid are; nothing if we do not see all."""
        match self._ask(["presences", sorted(uids)])[0]:
            case [*found]:
                return tuple(map(Presence.read, found))
            case _:
                raise NoLook("the looker's answer was not understood")

    def digest(self, descriptor: int) -> bytes:
        """Return SHA-256 of a file."""
        return cast("bytes", self._ask("digest", [descriptor])[0])

    def configuration(self, files: Sequence[str]) -> tuple[ConfigurationFile, ...]:
        """Return the files at these paths, hashed."""
        match self._ask(["configuration", list(files)])[0]:
            case [*found]:
                return tuple(map(ConfigurationFile.read, found))
            case _:
                raise NoLook("the looker's answer was not understood")

    def account(self, who: str | int) -> tuple[str, Account]:
        """Return the name (empty if there is none) and the account of a user."""
        match self._ask(["account", who])[0]:
            case [str(name), account]:
                return name, Account.read(account)
            case _:
                raise NoLook("the looker's answer was not understood")

    def _ask(self, request: object, descriptors: Sequence[int] = ()) -> tuple[object, list[int]]:
        with self._lock:
            if self._channel is None:
                self._channel = self._birth()
                self._channel.settimeout(self._deadline_seconds + GRACE_SECONDS)
                packets.send(self._channel, [self._most_bytes, self._deadline_seconds])
            try:
                for _ in range(HASHING_TRIES):
                    packets.send(self._channel, request, descriptors)
                    answer, found = packets.receive(self._channel)
                    if not (isinstance(answer, list) and answer[:1] == ["unfinished"]):
                        break
            except (EOFError, OSError, Malformed) as error:
                self._drop()
                raise TooSlow(f"the look took longer than {self._deadline_seconds} s") from error
        match answer:
            case ["yes", value]:
                return value, found
            case ["executed", str(why)]:
                raise Executed(why)
            case ["no account", str(why)]:
                raise NoAccount(why)
            case [_, str(why)]:
                raise NoLook(why)
            case _:
                raise NoLook("the looker's answer was not understood")

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def serve(channel: socket.socket, uid: int, gid: int) -> None:
    """Be a looker until the daemon closes the channel, or one look takes too long."""
    privileges.become(uid, gid, keep=privileges.LOOKING)
    privileges.hide_memory()
    privileges.end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        match packets.receive(channel)[0]:
            case [int(most_bytes), int(deadline_seconds)]:
                digests = Digests(most_bytes=most_bytes)
            case _:
                raise ValueError("not a looker's orders")
        memory = _Memory(Codes(digests), Sharers(), ModuleTrees(digests))
        while True:
            request, descriptors = packets.receive(channel)
            signal.alarm(deadline_seconds)
            # What takes long to hash is better asked for again than begun anew in another looker.
            digests.until = time.monotonic() + HASHING * deadline_seconds
            _answer(channel, request, descriptors, memory)
            signal.alarm(0)
            for descriptor in descriptors:
                os.close(descriptor)
    except EOFError:
        return


@dataclass(frozen=True, slots=True)
class _Memory:
    """What a looker knows from earlier looks."""

    codes: Codes
    sharers: Sharers
    trees: ModuleTrees


def _answer(
    channel: socket.socket, request: object, descriptors: list[int], memory: _Memory
) -> None:
    try:
        if request == "pin":
            pins = pin(*descriptors)
            own = pins.descriptors[1:]
            descriptors += own
            packets.send(channel, ["yes", []], own)
            return
        answer: list[object] = ["yes", _find(request, descriptors, memory)]
    except Executed as error:
        answer = ["executed", str(error)]
    except Unfinished as error:
        answer = ["unfinished", str(error)]
    except KeyError as error:
        answer = ["no account", str(error)]
    except (NoLook, Unreadable, OSError) as error:
        answer = ["no", f"{type(error).__name__}: {error}"]
    packets.send(channel, answer)


def _find(request: object, descriptors: Sequence[int], memory: _Memory) -> object:
    """Return what was asked for."""
    match request, descriptors:
        case ["look", [*program], [*files]], [pidfd, directory, maps, pagemap]:
            # Before the process: a look is held together by its glances, and they take no notice.
            trees = [memory.trees.of(PythonProgram.read(one)).digest for one in program]
            pins = Pins(pidfd, directory, maps, pagemap)
            seen, summary = look(pins, memory.codes, memory.sharers)
            configuration = read_configuration(cast("list[str]", files), memory.codes.digests)
            seen = replace(seen, modules=b"".join(trees), configuration=configuration)
            return [seen.members(), summary.members()]
        case "glance", [pidfd, directory, maps, pagemap]:
            return glance(Pins(pidfd, directory, maps, pagemap)).members()
        case "digest", [file]:
            if not Mounts().is_kernels_own(file):
                raise NoLook("it lies on a file system that others answer for")
            return memory.codes.digests.of(file)
        case ["program", str(interpreter), str(script)], []:
            python = resolve(interpreter, script)
            return [python.members(), memory.trees.of(python).encoded]
        case ["account", str() | int() as who], []:
            return _account(who)
        case [str(about), [*which]], []:
            return [one.members() for one in _find_all(about, which, memory)]
        case _:
            raise NoLook("not a request to a looker")


def _find_all(about: str, which: Sequence[object], memory: _Memory) -> Sequence[Shape]:
    """Return what is known of each of several uids, or paths."""
    match about:
        case "presences" if sees_every_process():
            return find_presences(cast("Sequence[int]", which))
        case "presences":
            return ()
        case "configuration":
            return read_configuration(cast("Sequence[str]", which), memory.codes.digests)
        case _:
            raise NoLook("not a request to a looker")


def _account(who: str | int) -> list[object]:
    """Look a user up here: reading the accounts must not be measured as the attestor's code."""
    entry = pwd.getpwnam(who) if isinstance(who, str) else pwd.getpwuid(who)
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    account = Account(uid=entry.pw_uid, gid=entry.pw_gid, groups=groups)
    return [entry.pw_name, account.members()]
