"""What tests of more than one room share: software TPMs and virtual machines."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swtpm import Firmware, Manufacturer, SoftwareTpm, VirtualMachine
from swtpm.kernels import DEFAULT

MACHINES = ("machine", "closed_machine", "scene")
"""Fixtures that are a machine with a kernel."""
COSTLY = ("test_interpreter", "test_hand_over", "test_levels")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say which kernels `tests/kernels` boots; see `make kernels`."""
    say = {"action": "append", "default": [], "metavar": "NAME"}
    parser.addoption("--kernel", help="of `python -m swtpm kernels`; newest; all", **say)
    parser.addoption("--ima-template", help="by default those of tests/kernels/choice.py", **say)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Play on older kernels what depends on them; all of it where `--kernel` asks for kernels.

    An emulated machine takes its time: launched processes, Python programs, hand-overs and levels
    are played on the lab's own kernel alone.
    """
    if config.getoption("--kernel"):
        return
    left_out = [item for item in items if _is_for_one_kernel(item)]
    items[:] = [item for item in items if not _is_for_one_kernel(item)]
    config.hook.pytest_deselected(items=left_out)


def _is_for_one_kernel(item: pytest.Item) -> bool:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    played_on = {parameters[name] for name in MACHINES if name in parameters}
    is_costly = parameters.get("binding") == "launched" or item.path.stem in COSTLY
    return is_costly and bool(played_on) and DEFAULT not in played_on


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give each worker the tests of one machine, or all that need none."""
    from tests.workers import ByMachine  # noqa: PLC0415 - where there are workers

    return ByMachine(config, log)


@pytest.fixture(scope="session")
def manufacturer(tmp_path_factory: pytest.TempPathFactory) -> Manufacturer:
    """The one whose root the tests' verifiers trust."""
    return Manufacturer.at(tmp_path_factory.mktemp("manufacturer"))


@pytest.fixture(scope="session")
def make_tpm(
    manufacturer: Manufacturer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], SoftwareTpm]:
    """Make one TPM more; it is not running."""

    def make() -> SoftwareTpm:
        return manufacturer.make_tpm(tmp_path_factory.mktemp("tpm"))

    return make


@pytest.fixture
def software_tpm(make_tpm: Callable[[], SoftwareTpm]) -> Iterator[SoftwareTpm]:
    """A new TPM that runs; `software_tpm.tcti` reaches it."""
    tpm = make_tpm()
    with tpm:
        yield tpm


@pytest.fixture(scope="session")
def boot_vm(
    make_tpm: Callable[[], SoftwareTpm],
) -> Callable[[str], VirtualMachine]:
    """Boot one machine more, with a new TPM; use it as a context manager."""

    def boot(kernel: str) -> VirtualMachine:
        return VirtualMachine.boot(tpm=make_tpm(), kernel=kernel)

    return boot


@pytest.fixture(scope="session")
def boot_vm_measured(make_tpm: Callable[[], SoftwareTpm]) -> Callable[..., VirtualMachine]:
    """Boot one machine more, through firmware: (kernel, append=..., tpm=..., partition=...).

    `append` goes to the end of the command line in its image, `partition` holds another image.
    """

    def boot(
        kernel: str = "6.12",
        *,
        append: str = "",
        tpm: SoftwareTpm | None = None,
        partition: Path | None = None,
    ) -> VirtualMachine:
        return VirtualMachine.boot(
            tpm=tpm or make_tpm(),
            kernel=kernel,
            append=append,
            firmware=Firmware.at(),
            partition=partition,
        )

    return boot


@pytest.fixture(scope="session")
def vm_measured(boot_vm_measured: Callable[..., VirtualMachine]) -> Iterator[VirtualMachine]:
    """A machine booted through firmware, kernel 6.12, shared like the two below."""
    with boot_vm_measured() as machine:
        yield machine


@pytest.fixture(scope="session")
def vm_612(boot_vm: Callable[[str], VirtualMachine]) -> Iterator[VirtualMachine]:
    """A machine with kernel 6.12, shared: leave nothing in it that another test can see."""
    with boot_vm("6.12") as machine:
        yield machine


@pytest.fixture(scope="session")
def vm_61(boot_vm: Callable[[str], VirtualMachine]) -> Iterator[VirtualMachine]:
    """A machine with kernel 6.1, shared in the same way."""
    with boot_vm("6.1") as machine:
        yield machine


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent
