"""Attacks on the claim that a process runs in its container, and what is in there only."""

from dataclasses import replace

import pytest

from tests.attacks.asking import IDENTITY, OVERLAY, ROOT, SIBLING, image_of, why
from tests.simulated_node import LIBC, SimulatedNode
from tests.simulated_process import PROGRAM, SimulatedProcess
from tests.simulated_verifier import SimulatedVerifier, accepted
from verifier import Reason
from verifier.policy import ReferenceSet
from verifier.workload import read_workload


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(node)


IN_SHOP = 'container = { set = "SET", cgroup = "/shop/*" }'


def in_containers(node: SimulatedNode, image: str, *more: ReferenceSet) -> SimulatedVerifier:
    """A verifier whose workload runs in containers of this image only."""
    text = node.workload_toml().replace('unit = "payments.service"', IN_SHOP.replace("SET", image))
    sets = (*node.policy().sets, *more)
    return SimulatedVerifier(node, sets=sets, workloads=(read_workload(text),))


def in_cgroup(node: SimulatedNode, cgroup: str) -> SimulatedProcess:
    return node.new_process(look={"cgroup": cgroup})


def test_113_a_process_in_its_container(node: SimulatedNode) -> None:
    verifier = in_containers(node, "shop-2.1", image_of(node, PROGRAM, LIBC))
    process = in_cgroup(node, "/shop/one")
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=113, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize(
    "cgroup",
    [
        "/payments.service",
        "/shop",
        "/shop/",
        "/shop/one/below",
        "/user.slice/shop/one",
        "/shopping/one",
        "/shop/..",
        "shop/one",
        "/../shop/one",
        "",
    ],
)
def test_113_the_program_outside_of_its_container(node: SimulatedNode, cgroup: str) -> None:
    verifier = in_containers(node, "shop-2.1", image_of(node, PROGRAM, LIBC))
    assert why(verifier, in_cgroup(node, cgroup)) == {Reason.PROCESS_CGROUP}


@pytest.mark.attack(number=113, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize("files", [(PROGRAM,), (LIBC,)])
def test_113_a_known_file_that_is_not_of_the_image(
    node: SimulatedNode, files: tuple[str, ...]
) -> None:
    verifier = in_containers(node, "shop-2.1", image_of(node, *files))
    assert why(verifier, in_cgroup(node, "/shop/one")) == {Reason.PROCESS_IMAGE}


@pytest.mark.attack(number=72, attacker=ROOT, asset=IDENTITY)
def test_072_an_overlay_in_a_container(node: SimulatedNode) -> None:
    """What lies behind it can be memory, or another's server, and change there unseen."""
    verifier = in_containers(node, "shop-2.1", image_of(node, PROGRAM, LIBC))
    process = in_cgroup(node, "/shop/one")
    program, libc = (replace(one, filesystem=OVERLAY) for one in process.look.files)
    process = process.looking(executable=program, files=(program, libc))
    assert why(verifier, process) == {Reason.PROCESS_FILESYSTEM}
