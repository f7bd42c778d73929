"""A TPM for these tests: swtpm on loopback, one directory for each test."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attestor.tpm import Tpm


def free_ports() -> tuple[int, int]:
    """Return a free port whose successor is free too: libtss2 derives one from the other."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port, port + 1


def set_up(state: Path) -> Path:
    """Make the state of a TPM as its manufacturer delivers it, with an EK certificate."""
    subprocess.run(
        ["swtpm_setup", "--tpm2", "--tpmstate", state, "--create-ek-cert"],
        check=True,
        capture_output=True,
    )
    return state


@contextmanager
def running(state: Path) -> Iterator[str]:
    """Run swtpm on two loopback ports and end it with the block."""
    port, control = free_ports()
    process = subprocess.Popen(
        [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}",
            "--server", f"type=tcp,port={port},bindaddr=127.0.0.1",
            "--ctrl", f"type=tcp,port={control},bindaddr=127.0.0.1",
            "--flags", "not-need-init,startup-clear",
        ],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(control)
        yield f"swtpm:host=127.0.0.1,port={port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_for(port: int) -> None:
    """Return when something listens on a loopback port."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}")


@pytest.fixture(scope="session")
def manufactured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return set_up(tmp_path_factory.mktemp("manufactured"))


@pytest.fixture
def tcti(manufactured: Path, tmp_path: Path) -> Iterator[str]:
    """A running TPM, of which each test has its own copy."""
    state = tmp_path / "tpm"
    state.mkdir()
    for path in manufactured.iterdir():
        if path.is_file() and path.name != ".lock":
            (state / path.name).write_bytes(path.read_bytes())
    with running(state) as name:
        yield name


@pytest.fixture
def tpm(tcti: str) -> Iterator[Tpm]:
    with Tpm(tcti) as one:
        yield one


@pytest.fixture
def other_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    """A TPM of the same make in another machine."""
    with running(set_up(tmp_path_factory.mktemp("other"))) as name, Tpm(name) as one:
        yield one
