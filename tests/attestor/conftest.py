"""A TPM for these tests, of the manufacturer that all tests share."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from attestor.tpm import Tpm
from swtpm import SoftwareTpm
from tests.attestor.puppets import build


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
