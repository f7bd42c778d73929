"""Attacks on the claim that a workload wants this very process."""

from dataclasses import replace
from typing import Any

import pytest

from tests.attacks.asking import IDENTITY, PROCESS, SIBLING, USER, image_of, why, why_known
from tests.simulated_node import SYSTEM_FILES, SimulatedNode
from tests.simulated_process import PROGRAM, mapped_file, text_of
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


@pytest.mark.attack(number=63, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=64, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=65, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize(
    "name",
    ["python3.11", "perl", "perl5.36.0", "dash", "sh", "busybox", "java", "ld-linux-x86-64.so.2"],
)
def test_063_an_interpreter_whatever_it_is_given(node: SimulatedNode, name: str) -> None:
    """Neither its script (`s.py`, -c, stdin) nor its modules (.pyc, PYTHONPATH) are shown."""
    digests = image_of(node, PROGRAM).files[PROGRAM]
    tools = ReferenceSet(name="tools", files={f"usr/bin/{name}": digests, "usr/bin/x": digests})
    verifier = SimulatedVerifier(node, sets=(*node.policy().sets, tools))
    assert why(verifier, node.new_process()) == {Reason.PROCESS_INTERPRETER}


@pytest.mark.parametrize("name", ["payments", "libpython3.11.so.1.0", "pythonic", "shop", "lsof"])
def test_a_program_that_is_no_interpreter(node: SimulatedNode, name: str) -> None:
    files = {f"usr/bin/{name}": image_of(node, PROGRAM).files[PROGRAM]}
    tools = ReferenceSet(name="tools", files=files)
    verifier = SimulatedVerifier(node, sets=(*node.policy().sets, tools))
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[node.new_process()])))


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize(
    "core",
    [
        pytest.param({"cgroup": "/system.slice/user@1001.service"}, id="from his own session"),
        pytest.param({"cgroup": "/system.slice/session-3.scope"}, id="from a shell"),
        pytest.param({"cgroup": "/"}, id="from nowhere"),
        pytest.param(
            {
                "cgroup": "/system.slice/session-3.scope",
                "binding": "launched",
                "peer_proof": "child",
            },
            id="by the attestor, as he asked",
        ),
    ],
)
def test_125_the_golden_program_started_by_somebody_else(
    node: SimulatedNode, verifier: SimulatedVerifier, core: dict[str, Any]
) -> None:
    assert why(verifier, node.new_process(core=core)) == {Reason.PROCESS_UNIT}
    anyone = node.workload_toml().replace('unit = "payments.service"', "any_starter = true")
    verifier.policy = node.policy(version=2, workloads=(read_workload(anyone),))
    process = node.new_process(core=core)
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
def test_125_a_workload_that_does_not_say_who_may_start_it(node: SimulatedNode) -> None:
    """None is read from TOML; one that exists all the same lets nobody attach."""
    open_door = replace(node.policy().workloads[0], unit="")
    verifier = SimulatedVerifier(node, workloads=(open_door,))
    assert why(verifier, node.new_process()) == {Reason.PROCESS_STARTER}


@pytest.mark.attack(number=113, attacker="another program of the same user", asset=IDENTITY)
def test_113_a_sibling_that_is_itself_known(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    python = mapped_file("usr/bin/python3.11", SYSTEM_FILES["usr/bin/python3.11"])
    looks = {"executable": python, "files": (python,), "mappings": (text_of(0),)}
    process = node.new_process(core={"executable": python.digest}, look=looks)
    assert why(verifier, process) == {Reason.PROCESS_EXECUTABLE}
    unnamed = {"executable": python.digest, "identity": ""}
    process = node.new_process(core=unnamed, look=looks)
    assert why(verifier, process) == {Reason.PROCESS_NOT_WANTED, Reason.PROCESS_EXECUTABLE}


@pytest.mark.attack(number=113, attacker="another user", asset=IDENTITY)
@pytest.mark.parametrize("user", ["root", "", "payments2", "payments\n"])
def test_113_another_user(node: SimulatedNode, verifier: SimulatedVerifier, user: str) -> None:
    assert why(verifier, node.new_process(core={"user": user})) == {Reason.PROCESS_USER}


@pytest.mark.attack(number=113, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.parametrize("identity", ["spiffe://example.org/other", "payments", "spiffe://x/y\n"])
def test_113_an_identity_that_no_workload_has(
    node: SimulatedNode, verifier: SimulatedVerifier, identity: str
) -> None:
    process = node.new_process(core={"identity": identity})
    assert why(verifier, process) == {Reason.PROCESS_NOT_WANTED}


def test_a_workload_that_was_removed_or_changed(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Judged with the policy of now, whatever was accepted under another."""
    process = node.new_process(core={"identity": ""})
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    other = read_workload(node.workload_toml().replace("org/payments", "org/other"))
    verifier.policy = node.policy(version=2, workloads=(other,))
    assert why_known(verifier, process) == {Reason.PROCESS_NOT_WANTED}
    stricter = read_workload(node.workload_toml().replace("payments.service", "pay.service"))
    verifier.policy = node.policy(version=3, workloads=(stricter,))
    assert why_known(verifier, process) == {Reason.PROCESS_UNIT}
    higher = replace(node.policy().workloads[0], minimum="L1")
    verifier.policy = node.policy(version=4, workloads=(higher,))
    assert why_known(verifier, process) == {Reason.PROCESS_LEVEL}


@pytest.mark.attack(number=134, attacker="a node whose boot nobody judged", asset=IDENTITY)
@pytest.mark.parametrize("minimum", ["L1", "L2", "L3", "L4"])
def test_134_a_level_that_the_evidence_does_not_reach(node: SimulatedNode, minimum: str) -> None:
    workload = replace(node.policy().workloads[0], minimum=minimum)
    verifier = SimulatedVerifier(node, workloads=(workload,))
    assert why(verifier, node.new_process()) == {Reason.PROCESS_LEVEL}


def test_a_process_that_two_workloads_want(node: SimulatedNode) -> None:
    """It has to say which: an identity is never guessed."""
    second = read_workload(node.workload_toml().replace("org/payments", "org/other"))
    verifier = SimulatedVerifier(node, workloads=(*node.policy().workloads, second))
    process = node.new_process(core={"identity": ""})
    assert why(verifier, process) == {Reason.PROCESS_AMBIGUOUS}
    named = node.new_process(core={"identity": second.id})
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[named]))
    assert [one.workload.id for one in accepted(verdict)] == [second.id]
