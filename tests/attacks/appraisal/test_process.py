"""Attacks on processes that are known, and on neighbours in one body."""

from dataclasses import replace
from typing import Any

import pytest

from evidence.messages import KnownProcess
from tests.attacks.asking import IDENTITY, PROCESS, ROOT, SIBLING, why, why_known
from tests.simulated_node import SimulatedNode
from tests.simulated_process import text_of
from tests.simulated_verifier import SimulatedVerifier, accepted, reasons
from verifier import Reason, Refused


@pytest.mark.attack(number=80, attacker=PROCESS, asset=IDENTITY)
def test_080_a_process_that_changed_after_the_quote(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process, other = node.new_process(), node.new_process()
    challenge = verifier.challenge()
    message = node.evidence(challenge, new=[process, other], withdrawn=[process])
    first, second = verifier.judge(message).processes
    assert reasons(first) == {Reason.PROCESS_WITHDRAWN}
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), known=[other])))
    assert not isinstance(second, Refused)


# Known processes


@pytest.mark.attack(number=85, attacker="a process of another boot", asset="the credential")
def test_085_a_key_that_was_never_accepted(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    assert why_known(verifier, node.new_process()) == {Reason.PROCESS_UNKNOWN_KEY}


@pytest.mark.attack(number=85, attacker="a process of another boot", asset="the credential")
def test_085_a_key_accepted_before_the_reboot(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    node.reboot()
    assert why_known(verifier, process) == {Reason.PROCESS_UNKNOWN_KEY}


@pytest.mark.attack(number=85, attacker="a process of another node", asset="the credential")
def test_085_a_key_accepted_on_another_node(node: SimulatedNode) -> None:
    elsewhere = SimulatedNode("build-8")
    process = elsewhere.new_process()
    verifier = SimulatedVerifier(elsewhere)
    verifier.judge(elsewhere.evidence(verifier.challenge(), new=[process]))
    here = SimulatedVerifier(node)
    assert why_known(here, process) == {Reason.PROCESS_UNKNOWN_KEY}
    assert why(here, process) >= {Reason.PROCESS_KEY_CERTIFICATION}


# Neighbours


@pytest.mark.attack(number=130, attacker=PROCESS, asset="the other processes")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"core": b"junk"}, Reason.MALFORMED_PROCESS),
        ({"core": b""}, Reason.MALFORMED_PROCESS),
        ({"public": b"junk"}, Reason.MALFORMED_PROCESS),
        ({"creation_data": b"junk"}, Reason.MALFORMED_PROCESS),
        ({"certification": b"junk"}, Reason.PROCESS_KEY_CERTIFICATION),
        ({"signature": b"junk"}, Reason.MALFORMED_PROCESS),
    ],
)
def test_130_one_malformed_record_among_good_ones(
    node: SimulatedNode, verifier: SimulatedVerifier, change: dict[str, Any], expected: Reason
) -> None:
    before, bad, after = (node.new_process() for _ in range(3))
    bad = replace(bad, new=replace(bad.new, **change))
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[before, bad, after]))
    assert [one.key_name for one in accepted(verdict)] == [before.key_name, after.key_name]
    assert reasons(verdict.processes[1]) == {expected}


@pytest.mark.attack(number=130, attacker=PROCESS, asset="the other processes")
def test_130_one_look_that_points_nowhere(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    good, bad = node.new_process(), node.new_process(look={"mappings": (text_of(2),)})
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[bad, good]))
    assert reasons(verdict.processes[0]) == {Reason.MALFORMED_PROCESS}
    assert [one.key_name for one in accepted(verdict)] == [good.key_name]


@pytest.mark.attack(number=130, attacker=PROCESS, asset="the other processes")
def test_130_one_untrusted_process_among_good_ones(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    known = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[known]))
    good, bad = node.new_process(), node.new_process(look={"tracer": 1})
    message = node.evidence(verifier.challenge(), new=[bad, good], known=[known])
    verdict = verifier.judge(message)
    assert reasons(verdict.processes[0]) == {Reason.PROCESS_TRACED}
    assert [one.key_name for one in accepted(verdict)] == [good.key_name, known.key_name]


@pytest.mark.attack(number=104, attacker=SIBLING, asset="the credential")
def test_104_one_key_for_two_processes(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """Named twice, as new or as known, in one body: neither counts."""
    process, neighbour = node.new_process(), node.new_process()
    message = node.evidence(verifier.challenge(), new=[process, neighbour, process])
    verdict = verifier.judge(message)
    assert reasons(verdict.processes[0]) == {Reason.PROCESS_TWICE}
    assert reasons(verdict.processes[2]) == {Reason.PROCESS_TWICE}
    assert [one.key_name for one in accepted(verdict)] == [neighbour.key_name]
    message = node.evidence(verifier.challenge(), new=[process], known=[process])
    assert accepted(verifier.judge(message)) == []


@pytest.mark.attack(number=95, attacker=ROOT, asset="the credential")
def test_095_no_process_record(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """A body without processes accepts the node, and nobody gets anything."""
    assert verifier.judge(node.evidence(verifier.challenge())).processes == ()
    empty = KnownProcess(key_name=b"", look=node.new_process().look)
    body = replace(node.body(), known=(empty, empty))
    verdict = verifier.judge(node.unsigned_evidence(verifier.challenge(), body=body))
    assert [reasons(one) for one in verdict.processes] == [{Reason.PROCESS_UNKNOWN_KEY}] * 2
