"""A launched program before it is one: opens the file as its user, and executes what it opened.

The file is opened with the user's own permissions and named by nothing but its descriptor from
then on: the daemon hashes that descriptor, and that descriptor is executed.
"""

import fcntl
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from attestor import packets, privileges
from evidence import Malformed
from evidence.shapes import Shape

CHANNEL = 3
"""The descriptor at which a launched program finds its end of the socket pair."""
VARIABLE = "PROCSEAL_FD"
JOB_VARIABLE = "PROCSEAL_JOB_FD"
"""Names a descriptor of whoever had the program launched, which it does not have."""
STANDARD = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Shape):
    """Whom a program runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Shape):
    """What a child is to run."""

    account: Account
    arguments: tuple[str, ...]
    """The first is the program, by its absolute path."""
    environment: tuple[str, ...]
    """Each `NAME=VALUE`."""

    @property
    def variables(self) -> dict[str, str]:
        """What the program is given, but for our own VARIABLE."""
        given = dict(one.split("=", 1) for one in self.environment)
        return {name: given[name] for name in given if name not in (VARIABLE, JOB_VARIABLE)}


def give(order: Order, channel: socket.socket, descriptors: Sequence[int]) -> int:
    """Tell a child what it will run; return the file that it opened.

    `descriptors` are the program's channel and those that become 0, 1 and 2.
    """
    packets.send(channel, order.members(), descriptors)
    match packets.receive(channel):
        case ["opened"], [file]:
            return file
        case ["failed", str(why)], []:
            raise OSError(why)
        case _:
            raise OSError("the new process did not answer")


def go(channel: socket.socket) -> None:
    """Let a child execute what it opened; return when it has, raise OSError if it cannot."""
    packets.send(channel, ["go"])
    try:
        answer, _ = packets.receive(channel)
    except EOFError:
        return  # its end was closed by the exec
    raise OSError(f"the program does not start: {answer}")


def serve(channel: socket.socket) -> None:
    """Be the child: take the order, open, wait, execute."""
    try:
        message, descriptors = packets.receive(channel)
    except EOFError:
        return
    try:
        order = Order.read(message)
        _become(order.account)
        _execute(channel, order, descriptors)
    except (OSError, EOFError, ValueError, Malformed) as error:
        packets.send(channel, ["failed", str(error)])


def _become(account: Account) -> None:
    os.setsid()
    privileges.become(account.uid, account.gid, groups=account.groups, keep=())
    privileges.forbid_new_privileges()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    os.chdir("/")


def _execute(channel: socket.socket, order: Order, descriptors: list[int]) -> None:
    path = order.arguments[0]
    if not path.startswith("/"):
        raise OSError(f"expected an absolute path, got {path!r}")
    file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    packets.send(channel, ["opened"], [file])
    packets.receive(channel)  # "go", or EOFError when the daemon does not want it
    # Above the places that are about to be filled, and closed by the exec.
    file, kept, *standard = (_move_up(one) for one in (file, *descriptors))
    channel_copy = _move_up(channel.fileno())
    channel.detach()
    for place, descriptor in zip((*STANDARD, CHANNEL), (*standard, kept), strict=True):
        os.dup2(descriptor, place, inheritable=True)
    try:
        os.execve(file, order.arguments, {**order.variables, VARIABLE: str(CHANNEL)})  # noqa: S606 no shell
    except OSError as error:
        packets.send(socket.socket(fileno=channel_copy), ["failed", str(error)])
        os._exit(126)


def _move_up(descriptor: int) -> int:
    """Return a copy of a descriptor, above those that a program starts with, closed by exec."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, CHANNEL + 1)
