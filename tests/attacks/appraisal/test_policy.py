"""Attacks on what evidence is compared with: nothing to compare with never means accepted."""

from dataclasses import replace
from typing import Any

import pytest

from tests.simulated_keys import sha256
from tests.simulated_node import LIBC, SYSTEM_FILES, SimulatedNode
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason, Rejected
from verifier.policy import ReferenceSet
from verifier.policy.kernel import KernelPolicy
from verifier.reference import encode_reference, read_reference
from verifier.workload import read_workload

OPERATOR = "an operator's mistake"
ROOT = "root on the node"
POLICY = "the policy"


@pytest.mark.attack(number=98, attacker=OPERATOR, asset=POLICY)
@pytest.mark.parametrize(
    "empty",
    [
        pytest.param({"workloads": ()}, id="no workload"),
        pytest.param({"kernel_policies": ()}, id="no kernel policy"),
        pytest.param({"sets": ()}, id="no reference set"),
        pytest.param({"sets": (), "workloads": (), "kernel_policies": ()}, id="nothing at all"),
    ],
)
def test_098_an_empty_policy(
    node: SimulatedNode, verifier: SimulatedVerifier, empty: dict[str, Any]
) -> None:
    """Even one that was never built: whatever stands in the verifier's memory."""
    verifier.policy = replace(verifier.policy, **empty)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.POLICY_EMPTY}


@pytest.mark.attack(number=98, attacker=OPERATOR, asset=POLICY)
def test_098_reference_sets_of_other_nodes_only(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    sets = tuple(replace(one, nodes=("build-8",)) for one in verifier.policy.sets)
    verifier.policy = node.policy(sets=sets)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.POLICY_EMPTY}


@pytest.mark.attack(number=98, attacker=OPERATOR, asset=POLICY)
def test_098_an_older_policy_than_the_last(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    verifier.policy = node.policy(version=2)
    verifier.judge(node.evidence(verifier.challenge()))
    verifier.policy = node.policy(version=1)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.POLICY_OLDER}
    again = node.evidence(verifier.challenge(first_record=0))
    assert verifier.refusal(again) == {Reason.POLICY_OLDER}


@pytest.mark.attack(number=98, attacker=OPERATOR, asset=POLICY)
def test_098_a_newer_policy_judges_what_was_judged_before(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A withdrawn digest refuses the node that has run it, though nothing new was measured."""
    verifier.judge(node.evidence(verifier.challenge()))
    system, program = verifier.policy.sets
    files = {path: one for path, one in system.files.items() if path != LIBC}
    verifier.policy = node.policy(
        version=2, sets=(ReferenceSet(name=system.name, files=files), program)
    )
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=98, attacker=OPERATOR, asset=POLICY)
def test_098_a_kernel_policy_that_was_withdrawn(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    verifier.policy = node.policy(version=2, kernel_policies=(KernelPolicy.of(b"another"),))
    expected = {Reason.KERNEL_POLICY_UNKNOWN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=97, attacker="whoever writes to the database", asset="the stored set")
@pytest.mark.parametrize("bend", ["dropped", "cut", "changed", "moved", "added"])
def test_097_a_stored_set_that_is_not_what_was_judged(
    node: SimulatedNode, verifier: SimulatedVerifier, bend: str
) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    stored = verifier.measured
    verifier.measured = {
        "dropped": (),
        "cut": stored[:-1],
        "changed": (*stored[:-1], replace(stored[-1], digest=sha256(b"x"))),
        "moved": (stored[0], stored[2], stored[1], *stored[3:]),
        "added": (*stored, stored[-1]),
    }[bend]
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_STORED}


@pytest.mark.attack(number=40, attacker="whoever writes to the database", asset="the stored set")
def test_040_a_part_of_the_list_that_nothing_leads_to(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Asked for the rest where no checkpoint is kept, or for another rest than its own."""
    verifier.judge(node.evidence(verifier.challenge()))
    other = verifier.challenge(first_record=len(node.records) - 1)
    assert verifier.refusal(node.evidence(other)) == {Reason.BOOT_CHANGED}
    rest = verifier.challenge()
    verifier.checkpoint = None
    assert verifier.refusal(node.evidence(rest)) == {Reason.BOOT_CHANGED}


@pytest.mark.attack(number=40, attacker="whoever writes to the database", asset="the stored set")
def test_040_registers_that_are_not_the_checkpoints(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Another register number by configuration: the whole list is judged again."""
    verifier.judge(node.evidence(verifier.challenge()))
    rest = verifier.challenge()
    verifier.policy = node.policy(version=2, user_register=11)
    assert verifier.refusal(node.evidence(rest)) == {Reason.LIST_STORED}
    assert verifier.challenge().first_record == 0


@pytest.mark.attack(number=112, attacker=OPERATOR, asset=POLICY)
@pytest.mark.parametrize(
    "path",
    ["/usr/bin/x", "../x", "usr/../x", "usr/./x", ".", "usr//x", "usr/", "", "a\nb", "a\0b"],
)
def test_112_a_path_that_could_mean_another_file(path: str) -> None:
    files = {path: (sha256(b"x"),)}
    with pytest.raises(Rejected) as rejection:
        read_reference(encode_reference(ReferenceSet(name="x", files=files)))
    assert {one.reason for one in rejection.value.findings} == {Reason.POLICY_INVALID}


@pytest.mark.attack(number=98, attacker=OPERATOR, asset=POLICY)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("null", id="no TOML"),
        pytest.param("version = 1", id="nothing but a version"),
        pytest.param("[" * 5000, id="deeply nested"),
    ],
)
def test_098_a_policy_that_cannot_be_read(text: str) -> None:
    for read in (read_reference, read_workload):
        with pytest.raises(Rejected) as rejection:
            read(text)
        assert {one.reason for one in rejection.value.findings} == {Reason.POLICY_INVALID}


def test_a_set_counts_only_where_it_says(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """A file that rightly differs per node is known on that node alone."""
    cache = ReferenceSet(name="cache-8", files={"etc/x": (sha256(b"x"),)}, nodes=("build-8",))
    verifier.policy = node.policy(sets=(*verifier.policy.sets, cache))
    node.measure("etc/x", b"x")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
    here = replace(cache, nodes=("build-7",))
    verifier.policy = node.policy(sets=(*node.policy().sets, here))
    verifier.judge(node.evidence(verifier.challenge()))


def test_a_workload_of_a_set_that_does_not_count_here(node: SimulatedNode) -> None:
    system, program = node.policy().sets
    verifier = SimulatedVerifier(node, sets=(system, replace(program, nodes=("build-8",))))
    node.relist([one for one in node.records if b"payments" not in one.data])
    process = node.new_process()
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_EXECUTABLE}


def test_a_file_of_two_digests_is_known_by_either(node: SimulatedNode) -> None:
    system, program = node.policy().sets
    both = {**system.files, LIBC: (sha256(SYSTEM_FILES[LIBC]), sha256(b"libc 2"))}
    verifier = SimulatedVerifier(node, sets=(replace(system, files=both), program))
    node.measure(LIBC, b"libc 2")
    process = node.new_process()
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))
