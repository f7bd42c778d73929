"""The host's root shell in a virtual machine, over a virtual serial port."""

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from swtpm.programs import Failed

READY = b"procseal-ready"
ANSWER = b"procseal-answer"

KILLED = 137
"""The exit code of a command that took longer than it may: timeout(1), SIGKILL."""

GRACE_SECONDS = 30
"""What an answer may take beyond its command's own limit: the host may be busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command ended."""

    code: int
    raw: bytes
    """Standard output and standard error, as they came."""

    @property
    def output(self) -> str:
        """The same as text, without the last line's end."""
        return self.raw.decode(errors="replace").rstrip("\n")

    def check(self) -> "Result":
        """Return the result of a command that succeeded; raise Failed for any other."""
        if self.code != 0:
            raise Failed(f"a command in the machine ended with {self.code}: {self.output}")
        return self


class Shell:
    """One command at a time; the protocol is in `guest/line.c`."""

    def __init__(self, connection: socket.socket, is_alive: Callable[[], bool]) -> None:
        self._connection = connection
        self._is_alive = is_alive
        self._received = b""
        self._number = 0

    def wait_until_ready(self, seconds: float) -> None:
        """Return when the machine is up."""
        deadline = time.monotonic() + seconds
        while self._line(deadline) != READY:
            pass

    def run(self, command: str, seconds: float, data: bytes = b"") -> Result:
        """Run a command with /bin/sh, `data` being its standard input."""
        started = time.monotonic()
        self.send(command, seconds, data)
        expected = [ANSWER, str(self._number).encode()]
        while True:
            words = self._line(started + seconds + GRACE_SECONDS).split(b" ")
            if words[:2] == expected:
                break
        code, raw = int(words[2]), self._bytes(int(words[3]), started + seconds + GRACE_SECONDS)
        if code == KILLED and time.monotonic() - started >= seconds:
            raise Failed(f"no end within {seconds:g} s in the machine: {command[:200]}")
        return Result(code=code, raw=raw)

    def send(self, command: str, seconds: float = 60, data: bytes = b"") -> None:
        """Send a command without waiting for the answer."""
        self._number += 1
        head = f"{self._number} {seconds:g} {len(command.encode())} {len(data)}\n"
        self._connection.sendall(head.encode() + command.encode() + data)

    def close(self) -> None:
        """Let go of the line."""
        self._connection.close()

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._received:
            self._receive(deadline)
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _bytes(self, size: int, deadline: float) -> bytes:
        while len(self._received) < size:
            self._receive(deadline)
        found, self._received = self._received[:size], self._received[size:]
        return found

    def _receive(self, deadline: float) -> None:
        """Wait for more."""
        if time.monotonic() > deadline:
            raise Failed("the machine does not answer")
        if not self._is_alive():
            raise Failed("the machine has ended")
        if select.select([self._connection], [], [], 0.2)[0]:
            received = self._connection.recv(1 << 16)
            if not received:
                raise Failed("the machine has ended")
            self._received += received
