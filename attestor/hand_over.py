"""A running attestor starts its successor, and lets it speak: `attestor restart`, or SIGHUP.

    the one that runs                          its successor
 1. has the nursery execute the program anew
 2.                                            reads its configuration, makes its instance key
 3. ends its round, signs the hand-over, lets
    go of the TPM, gives the listening socket
 4.                                            extends PCR 15 with its own key
 5. ends, saying no farewells                  serves

Before 4 whatever fails ends the successor, and the one that runs goes on. The program is read
anew, from where it was started: the kernel measures it, and the verifier knows it or refuses the
node. Processes see their connection end and obtain again.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from attestor import packets, privileges
from attestor.failed import Failed
from evidence import Malformed
from evidence.messages import SignedMessage

OPTION = "--successor"
"""Of `attestor serve`: the descriptor of the channel to the one that runs."""
READY_SECONDS = 120
"""How long a successor may take to be ready: it loads a whole program."""
LATCH_SECONDS = 60
"""How long either may take for the rest."""
PUBLIC_BYTES = 65


class HandOverFailed(Failed):
    """The successor has ended; the attestor that ran goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """What a successor is."""

    public: bytes
    """Its instance key's public half."""
    node: str


class Successor:
    """The running attestor's hold on its successor. Methods block."""

    def __init__(self, channel: socket.socket, pid: int, pidfd: int) -> None:
        self._channel = channel
        self.pid = pid
        self._pidfd = pidfd

    def close(self) -> None:
        """Let go; a successor that was not let speak ends."""
        self._channel.close()
        os.close(self._pidfd)

    def end(self) -> None:
        """Kill it: it may be in the middle of something, and holds the TPM perhaps."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def introduction(self) -> Introduction:
        """Wait until it is ready, and return who it is."""
        match self._hear(READY_SECONDS):
            case ["ready", bytes(public), str(node)] if len(public) == PUBLIC_BYTES:
                return Introduction(public=public, node=node)
            case _:
                raise HandOverFailed("the successor was not understood")

    def let_speak(self, message: SignedMessage, listener: socket.socket) -> None:
        """Return when the successor's key is in PCR 15."""
        try:
            packets.send(self._channel, ["speak", message.encode()], [listener.fileno()])
        except OSError as error:
            raise HandOverFailed(f"the successor has ended: {error}") from error
        match self._hear(LATCH_SECONDS):
            case ["latched"]:
                return
            case ["failed", str(why)]:
                raise HandOverFailed(f"the successor: {why}")
            case _:
                raise HandOverFailed("the successor was not understood")

    def _hear(self, seconds: float) -> object:
        self._channel.settimeout(seconds)
        try:
            answer, descriptors = packets.receive(self._channel)
        except (OSError, EOFError, Malformed) as error:
            raise HandOverFailed(f"the successor has ended, or is silent: {error}") from error
        for one in descriptors:
            os.close(one)
        return answer


class Predecessor:
    """A successor's hold on the attestor that runs. Methods block."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def ask(self, introduction: Introduction) -> tuple[SignedMessage, socket.socket]:
        """Return its word for our key, and the listening socket, once it is quiet."""
        packets.send(self._channel, ["ready", introduction.public, introduction.node])
        self._channel.settimeout(LATCH_SECONDS)
        try:
            answer, descriptors = packets.receive(self._channel)
        except (OSError, EOFError) as error:
            raise HandOverFailed("the attestor that runs goes on") from error
        match answer, descriptors:
            case ["speak", bytes(message)], [listener]:
                return SignedMessage.decode(message), socket.socket(fileno=listener)
            case _:
                raise HandOverFailed("the attestor that runs was not understood")

    def say_latched(self) -> None:
        """Tell it that it may end."""
        self._say(["latched"])

    def say_failed(self, why: str) -> None:
        """Tell it that it has to go on."""
        self._say(["failed", why])

    def _say(self, message: list[object]) -> None:
        try:
            packets.send(self._channel, message)
        except OSError:
            return  # it has ended already
        finally:
            self._channel.close()


def command_line() -> list[str]:
    """Return how this program was started, for starting it again."""
    words = [sys.executable, *sys.orig_argv[1:]]
    while OPTION in words:
        place = words.index(OPTION)
        del words[place : place + 2]
    return [word for word in words if word != "--second-start"]


def execute(words: Sequence[str], channel: int) -> None:
    """Be the successor: execute the program with the privileges that it was started with."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it has a way to answer it
    privileges.pass_on(privileges.NEEDED)
    os.set_inheritable(channel, True)  # noqa: FBT003
    os.execv(words[0], [*words, OPTION, str(channel)])  # noqa: S606 - no shell


def tell_systemd(words: str) -> None:
    """Tell the service manager something, sd_notify(3), where there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        try:
            told.connect("\0" + path[1:] if path.startswith("@") else path)
            told.send(words.encode())
        except OSError:
            return  # nobody is harmed
