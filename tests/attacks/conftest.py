"""What attacks in the virtual machine share: one boot of each kernel."""

from collections.abc import Iterator
from functools import partial

import pytest

from demo.world import World
from tests.attacks.machine import ATTACHED_MODE, Machine, MachinePuppet, Programs, Start


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs.build(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session", params=["6.12", "6.1"])
def machine(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Machine]:
    """A machine whose verifier accepts puppets; leave it as it was, and the node accepted."""
    with Machine.boot(request.param, programs) as one:
        yield one


CLOSED = "sysctl.kernel.yama.ptrace_scope=3 lockdown=integrity module.sig_enforce=1"
"""Command line of a kernel that lets nobody into it or into another process."""


@pytest.fixture(scope="session", params=["6.12", "6.1"])
def closed_machine(request: pytest.FixtureRequest, programs: Programs) -> Iterator[Machine]:
    """One with such a kernel, booted through firmware as a boot policy accepts it."""
    with Machine.boot(request.param, programs, firmware=True, append=CLOSED) as one:
        one.world.trust_boot()
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
