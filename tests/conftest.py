"""What tests of more than one room share: software TPMs and virtual machines."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from swtpm import Firmware, Manufacturer, SoftwareTpm, VirtualMachine
from tests.postgresql import PostgreSql
from tests.switches import switch_off, switched_on

pytest_plugins = ["tests.asked_fixtures"]

settings.register_profile(  # machines are shared: no test fails for having waited
    "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say which kernels `tests/kernels` boots; see `make kernels`."""
    say = {"action": "append", "default": [], "metavar": "NAME"}
    parser.addoption("--kernel", help="of `python -m swtpm kernels`; newest; all", **say)
    parser.addoption("--ima-template", help="by default those of tests/kernels/choice.py", **say)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give each worker the tests of one machine, or all that need none."""
    from tests.workers import ByMachine  # noqa: PLC0415 - where there are workers

    return ByMachine(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """Switch the machines of a worker's group off when it begins another."""
    yield
    if nextitem is None or not hasattr(item.config, "workerinput"):
        return
    from tests.workers import group_of  # noqa: PLC0415 - where there are workers

    if group_of(item.nodeid) != group_of(nextitem.nodeid):
        switch_off(item.config)


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
def vm_measured(
    request: pytest.FixtureRequest, boot_vm_measured: Callable[..., VirtualMachine]
) -> Iterator[VirtualMachine]:
    """A machine booted through firmware, kernel 6.12, shared: leave nothing that others can see."""
    with switched_on(request.config, boot_vm_measured()) as machine:
        yield machine


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    """A database server of our own."""
    with PostgreSql.running() as server:
        yield server


@pytest.fixture
def shared_database(postgresql: PostgreSql) -> Iterator[str]:
    """The URL of an empty database that any number of verifiers may share."""
    with postgresql.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'verifier.sqlite'}"
    return str(request.getfixturevalue("shared_database"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent
