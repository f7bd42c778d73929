"""A TPM for these tests, of the manufacturer that all tests share."""

from collections.abc import Callable, Iterator

import pytest

from attestor.tpm import Tpm
from swtpm import SoftwareTpm


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
