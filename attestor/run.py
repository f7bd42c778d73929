"""What `attestor run`, `attestor status` and `attestor restart` say to the daemon."""

import os
import re
import shutil
import signal
import socket
from array import array
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from attestor.failed import Failed, Misused
from credential import Refused, local

START_SECONDS = 60
"""Until the daemon has looked at us, hashed the program and started it."""

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)

Answer = TypeVar("Answer", bound=local.Message)


class NoDaemon(Failed):
    """There is no attestor to ask, or it stopped in the middle."""


class NoJob(Misused):
    """We were not given the job."""


class Line:
    """A connection to the daemon, after its nonce."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(START_SECONDS)
        try:
            self._socket.connect(str(path))
            self.hear(local.Nonce)
        except OSError as error:
            self._socket.close()
            raise NoDaemon(f"no attestor answers at {path}: {error}") from error
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def say(self, message: local.Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message."""
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
        try:
            self._socket.sendmsg([message.encode()], [rights] if descriptors else [])
        except OSError as error:
            raise NoDaemon(f"the attestor does not listen any more: {error}") from error

    def hear(self, expected: type[Answer]) -> Answer:
        """Return the next message; raise Refused if it is a refusal."""
        try:
            data = self._socket.recv(local.MOST_BYTES + 1)
        except OSError as error:
            raise NoDaemon(f"the attestor does not answer: {error}") from error
        if not data:
            raise NoDaemon("the attestor has ended the connection")
        message = local.decode(data)
        if isinstance(message, local.Refusal):
            raise Refused(message.findings)
        if not isinstance(message, expected):
            raise NoDaemon(f"expected {expected.VERB}, the attestor said {message.VERB}")
        return message

    def wait_on(self) -> None:
        """Let the next answer take as long as it takes."""
        self._socket.settimeout(None)


def status(path: Path) -> str:
    """Return what the daemon says of itself, JSON."""
    with closing(Line(path)) as line:
        line.say(local.Status())
        return line.hear(local.State).json


def restart(path: Path) -> str:
    """Have the daemon hand over to a successor; return which instance that is, JSON."""
    with closing(Line(path)) as line:
        line.say(local.Restart())
        line.wait_on()
        return line.hear(local.State).json


def run(  # noqa: PLR0913 - what a program is started with
    path: Path,
    argv: Sequence[str],
    *,
    user: str,
    interpreter: str,
    environment: Sequence[str] | None = None,
    files: Sequence[str] = (),
    job: str = "",
) -> int:
    """Have the daemon launch a program with our descriptors; return its exit status.

    `interpreter` is the one of Python that runs it, empty where it is no script.
    `environment` is all that it is given, our own where there is None; `files` are the absolute
    paths of those that it is to read, whose digests go into its record. It is a step of the `job`
    whose descriptor we were given, where that is not empty.
    """
    held = _job_descriptor(job) if job else ()
    program = argv[0] if interpreter else _found(argv[0])
    own = (f"{name}={value}" for name, value in os.environ.items())
    launch = local.Launch(
        argument=(str(Path(program).absolute()), *argv[1:]),
        environment=tuple(own if environment is None else environment),
        user=user,
        interpreter=_found(interpreter) if interpreter else "",
        file=tuple(files),
        job=job,
    )
    with closing(Line(path)) as line:
        if interpreter:
            line.wait_on()  # the daemon hashes what it could import, and says when it gives up
        line.say(launch, (0, 1, 2, *held))
        for descriptor in held:
            os.close(descriptor)  # the job is over when those that go on have closed theirs
        pid = line.hear(local.Launched).pid
        _forward_signals(pid)
        line.wait_on()
        code = line.hear(local.Ended).status
    return code if code >= 0 else 128 - code  # as a shell does (POSIX, 2.8.2)


def _job_descriptor(job: str) -> tuple[int]:
    """Return the descriptor that PROCSEAL_JOB_FD names; raise NoJob where it names none of ours."""
    number = os.environ.get(local.JOB_VARIABLE, "")
    try:
        os.fstat(int(number) if re.fullmatch("[0-9]{1,9}", number) else -1)
    except OSError as error:
        raise NoJob(
            f"job {job}: {local.JOB_VARIABLE} names no descriptor of ours; only who was given the"
            " job by its controller can launch a step of it"
        ) from error
    return (int(number),)


def _found(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise FileNotFoundError(f"{name}: no such program")
    return str(Path(program).absolute())


def _forward_signals(pid: int) -> None:
    """Give the program the signals that people mean for it."""

    def forward(number: int, _: object) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
