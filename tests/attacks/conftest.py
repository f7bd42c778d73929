"""What attacks share: the cast of the verifier's service; and one boot of each kernel."""

from collections.abc import Iterator
from functools import partial

import pytest

from demo.world import World
from swtpm.kernels import DEFAULT
from tests.attacks.machine import ATTACHED_MODE, CLOSED, Machine, MachinePuppet, Programs, Start
from tests.cast import node, party, player, process, verifier
from tests.kernels.choice import choose_to_live_in
from tests.switches import switched_on

__all__ = ["node", "party", "player", "process", "verifier"]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs.build(tmp_path_factory.mktemp("programs"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give what plays in a machine its kernels."""
    for one in {"machine", "closed_machine"} & {*metafunc.fixturenames}:
        names = choose_to_live_in(metafunc.config.getoption("--kernel"))
        metafunc.parametrize(one, names, indirect=True, scope="session")
    if "sealed_machine" in metafunc.fixturenames:  # newer ones do not reach L4
        metafunc.parametrize("sealed_machine", [DEFAULT], indirect=True, scope="session")


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Machine]:
    """A machine whose verifier accepts puppets; leave it as it was, and the node accepted."""
    booting = Machine.boot(request.param, programs)
    with switched_on(request.config, booting) as one:
        yield one


@pytest.fixture(scope="session")
def closed_machine(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Machine]:
    """One with such a kernel, booted through firmware."""
    booting = Machine.boot(request.param, programs, firmware=True, append=CLOSED)
    with switched_on(request.config, booting) as one:
        yield one


@pytest.fixture(scope="session")
def sealed_machine(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Machine]:
    """One whose disk is read through dm-verity, and whose TPM SELinux gives to the attestor."""
    booting = Machine.boot(request.param, programs, firmware=True, append=CLOSED, is_sealed=True)
    with switched_on(request.config, booting) as one:
        yield one


@pytest.fixture
def world(machine: Machine) -> World:
    return machine.world


@pytest.fixture(params=[ATTACHED_MODE])
def binding(request: pytest.FixtureRequest) -> str:
    """How the puppet comes to the attestor; `in_both_modes` has them all."""
    return str(request.param)


@pytest.fixture
def start(machine: Machine, binding: str) -> Start:
    """Start a puppet that comes to the attestor in this test's way."""
    return partial(machine.puppet, binding=binding)


@pytest.fixture
def puppet(start: Start) -> Iterator[MachinePuppet]:
    with start() as one:
        yield one
