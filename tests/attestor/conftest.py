"""A TPM for these tests, of the manufacturer that all tests share."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from attestor.tpm import Tpm
from swtpm import SoftwareTpm
from tests.attestor.puppets import build

Server = tuple[subprocess.Popen[str], Path]
"""A file server, and a program on it."""


@pytest.fixture
def tcti(software_tpm: SoftwareTpm) -> str:
    """How to reach a running TPM."""
    return software_tpm.tcti


@pytest.fixture
def tpm(tcti: str) -> Iterator[Tpm]:
    with Tpm(tcti) as one:
        yield one


@pytest.fixture
def other_tpm(make_tpm: Callable[[], SoftwareTpm]) -> Iterator[Tpm]:
    """A TPM of the same make in another machine."""
    with make_tpm() as name, Tpm(name) as one:
        yield one


def _open_directory() -> Path:
    path = Path(mkdtemp(prefix="procseal-"))
    path.chmod(0o755)
    return path


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own are root's."""
    path = _open_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def puppet_path() -> Iterator[Path]:
    """The puppet's program, where every user can execute it."""
    path = _open_directory()
    yield build(path / "puppet")
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("programs") / "served", source="served.c")


@pytest.fixture
def server(served: Path, puppet_path: Path, open_directory: Path) -> Iterator[Server]:
    """A file server of a user's own, which answers nothing any more after SIGUSR1."""
    process = subprocess.Popen(
        [served, open_directory, puppet_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        process.communicate()
        pytest.skip("no FUSE here")
    yield process, open_directory / "program"
    process.kill()  # whoever waits for it goes on
    process.communicate()
    subprocess.run(["umount", "-l", open_directory], check=True)
