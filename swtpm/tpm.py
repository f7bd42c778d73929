"""A software TPM: a state directory, and a swtpm process while somebody uses it."""

import contextlib
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from swtpm.programs import Failed, need

START_SECONDS = 60
"""How long swtpm may take to listen or to end: after that it hangs."""

SHUTDOWN_CLEAR = bytes.fromhex("80010000000c000001450000")
"""TPM2_Shutdown(CLEAR), TPM 2.0 Part 3 r1.59 9.4: without it the clock is no longer `safe`."""


class SoftwareTpm:
    """One TPM. As a context manager it is on TCP and gives the TCTI to reach it.

    Its keys, counters and PCRs' banks live in `state` and outlive the process. A process start
    is a reset of the TPM, as a machine's power-on is.
    """

    def __init__(self, state: Path) -> None:
        self.state = state.resolve()
        self.tcti = ""
        """How tpm2-tss reaches it while it is on TCP."""
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> str:
        """Start it on TCP, loopback only, powered on and started up; return the TCTI."""
        pid_file = self.state / "swtpm.pid"
        for _ in range(5):  # somebody else may take the port between our look and our use
            port = _free_port_pair()
            pid_file.unlink(missing_ok=True)
            with contextlib.suppress(Failed):
                self._launch(
                    "--server", f"type=tcp,port={port},bindaddr=127.0.0.1",
                    "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1",
                    "--flags", "not-need-init,startup-clear",
                    "--pid", f"file={pid_file}",
                    # Written once it listens on both. Who asked the port might ask another's TPM.
                    is_up=pid_file.exists,
                )  # fmt: skip
                self._port = port
                self.tcti = f"swtpm:host=127.0.0.1,port={port}"
                return self.tcti
        raise Failed(f"swtpm does not start; see {self.log}")

    def start_for_machine(self, control: Path) -> None:
        """Start it on a UNIX control socket; the machine powers it on."""
        control.unlink(missing_ok=True)
        self._launch("--ctrl", f"type=unixio,path={control}", is_up=control.exists)

    def stop(self) -> None:
        """End it as an orderly machine does."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._port:
            with contextlib.suppress(OSError):
                _command(self._port, SHUTDOWN_CLEAR)
        self._port, self.tcti = 0, ""
        process.terminate()
        process.wait(timeout=START_SECONDS)

    def cut_power(self) -> None:
        """End it at once, as a power cut does: nothing tells it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(timeout=START_SECONDS)
        self._port, self.tcti = 0, ""

    @property
    def is_running(self) -> bool:
        """Whether a process serves it now."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """What swtpm has to say."""
        return self.state / "swtpm.log"

    def _launch(self, *words: str, is_up: Callable[[], bool]) -> None:
        if self._process is not None:
            raise Failed(f"the TPM in {self.state} is already running")
        need("swtpm")
        self.state.mkdir(parents=True, exist_ok=True)
        argv = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.state}", *words]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not is_up():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise Failed(f"swtpm does not start; see {self.log}")
            time.sleep(0.01)
        self._process = process


def _free_port_pair() -> int:
    """Return a port that is free now, as is the next one."""
    while True:
        port = 20000 + secrets.randbelow(12000)  # below the range of outgoing connections
        if not _is_taken(port) and not _is_taken(port + 1):
            return port


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _command(port: int, command: bytes) -> bytes:
    """Send one TPM command and return the response."""
    with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as connection:
        connection.sendall(command)
        return connection.recv(4096)
