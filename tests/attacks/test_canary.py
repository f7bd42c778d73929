"""Attacks on the kernel's measuring: a list under which something is not measured.

In the virtual machine root has the boot loader start another first program, which makes the kernel
read the accepted kernel policy, so that it is in the list, and gives it weaker rules directly.
Debian's kernels take one policy in a boot (IMA_WRITE_POLICY is off), so a policy that is in force
cannot be replaced on them; the one that is built in can.
"""

import json
from dataclasses import replace

import pytest

from credential import local
from evidence.canary import CanaryReport, Place, digests
from evidence.messages import Challenge
from tests.attacks.machine import ID, SECOND, SOCKET, Machine, MachinePuppet
from tests.simulated_node import SimulatedNode
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason
from verifier.canary import remember_missing

ROOT = "root on the node, with a known interpreter"
ASSET = "the completeness of the list"
HERE = Place(uid=1001, device=0xFE00)


class Careless(SimulatedNode):
    """A node whose kernel measures what it wants of canaries; its attestor does not know."""

    register = 10
    uses: tuple[int, ...] = (0, 1)

    def let_loose(self, challenge: Challenge) -> tuple[CanaryReport, ...]:
        for place in challenge.canaries:
            made = digests(challenge.nonce, place)
            for use in self.uses:
                self.measure_record("#12345", made[use], register=self.register)
        return tuple(CanaryReport(place=one, failure="") for one in challenge.canaries)


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode(needs_canary=True)


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    """It has accepted the node once: before that it wants no canary."""
    one = SimulatedVerifier(node)
    one.judge(node.evidence(one.challenge()))
    return one


def careless(**changes: object) -> tuple[SimulatedNode, SimulatedVerifier]:
    node = Careless(needs_canary=True)
    for name, value in changes.items():
        setattr(node, name, value)
    verifier = SimulatedVerifier(node)
    verifier.judge(node.evidence(verifier.challenge()))
    return node, verifier


def test_a_canary_in_the_list(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """It is asked for once; the next process of that place needs none."""
    challenge = verifier.challenge(canaries=(HERE,))
    verdict = verifier.judge(node.evidence(challenge, new=[node.new_process()]))
    assert accepted(verdict)
    assert verdict.canaries == (HERE,)
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[node.new_process()]))
    assert accepted(verdict)
    assert verdict.canaries == ()


@pytest.mark.attack(number=46, attacker=ROOT, asset=ASSET)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"uses": ()}, id="nothing is measured"),
        pytest.param({"uses": (0,)}, id="what is mapped is not measured"),
        pytest.param({"uses": (1,)}, id="what is executed is not measured"),
        pytest.param({"register": 12}, id="root's files go to the users' register"),
    ],
)
def test_046_a_kernel_that_measures_too_little(changes: dict[str, object]) -> None:
    node, verifier = careless(**changes)
    process = node.new_process()
    challenge = verifier.challenge(canaries=(HERE,))
    assert verifier.refusal(node.evidence(challenge, new=[process])) == {
        Reason.KERNEL_POLICY_CANARY
    }


@pytest.mark.attack(number=46, attacker=ROOT, asset=ASSET)
def test_046_what_was_missing_once_is_missing_until_the_node_reboots(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    challenge = verifier.challenge(canaries=(HERE,))
    kept = remember_missing(verifier.node.canaries, nonce=challenge.nonce)
    verifier.node = replace(verifier.node, canaries=kept)
    later = node.evidence(verifier.challenge())
    assert verifier.refusal(later) == {Reason.KERNEL_POLICY_CANARY}
    node.reboot()
    assert not verifier.judge(node.evidence(verifier.challenge())).processes


@pytest.mark.attack(number=46, attacker=ROOT, asset=ASSET)
@pytest.mark.parametrize(
    "reports",
    [
        pytest.param((), id="nothing is said"),
        pytest.param(
            (CanaryReport(place=replace(HERE, uid=1002), failure=""),), id="another uid's"
        ),
        pytest.param((CanaryReport(place=HERE, failure=""),) * 2, id="twice"),
    ],
)
def test_046_an_answer_to_another_question(
    node: SimulatedNode, verifier: SimulatedVerifier, reports: tuple[CanaryReport, ...]
) -> None:
    challenge = verifier.challenge(canaries=(HERE,))
    node.let_loose(challenge)
    evidence = node.unsigned_evidence(challenge, body=node.body(canaries=reports))
    assert Reason.KERNEL_POLICY_CANARY in verifier.refusal(evidence)


@pytest.mark.attack(number=46, attacker=ROOT, asset=ASSET)
def test_046_a_canary_of_an_earlier_challenge(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """It is in the list, and known; it says nothing about now."""
    verifier.judge(node.evidence(verifier.challenge(canaries=(HERE,))))
    challenge = verifier.challenge(canaries=(HERE,))
    reports = (CanaryReport(place=HERE, failure=""),)
    evidence = node.unsigned_evidence(challenge, body=node.body(canaries=reports))
    assert verifier.refusal(evidence) == {Reason.KERNEL_POLICY_CANARY}


@pytest.mark.attack(number=46, attacker="the process itself", asset="the identity")
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(replace(HERE, uid=1002), id="another uid"),
        pytest.param(replace(HERE, device=0xFE01), id="another file system"),
    ],
)
def test_046_a_process_where_no_canary_was(
    node: SimulatedNode, verifier: SimulatedVerifier, place: Place
) -> None:
    challenge = verifier.challenge(canaries=(place,))
    verdict = verifier.judge(node.evidence(challenge, new=[node.new_process()]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_CANARY}


def test_a_canary_that_cannot_be_used_refuses_the_process_alone(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    challenge = verifier.challenge(canaries=(HERE,))
    reports = (CanaryReport(place=HERE, failure="/srv: Read-only file system"),)
    body = node.body(new=[node.new_process()], canaries=reports)
    verdict = verifier.judge(node.unsigned_evidence(challenge, body=body))
    refused = only(verdict.processes)
    assert reasons(refused) == {Reason.PROCESS_CANARY}
    (finding,) = refused.findings  # type: ignore[union-attr]
    assert finding.found == "/srv: Read-only file system"


@pytest.mark.attack(number=46, attacker=ROOT, asset=ASSET)
@pytest.mark.parametrize(
    "place", [HERE, pytest.param(replace(HERE, uid=0), id="of a place that nobody asked about")]
)
def test_046_a_canary_that_nobody_asked_for(
    node: SimulatedNode, verifier: SimulatedVerifier, place: Place
) -> None:
    """An unknown file like any other."""
    for digest in digests(b"a nonce of somebody else's", place):
        node.measure_record("#1", digest)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


def test_canaries_are_known_when_the_whole_list_is_judged_again(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """One whose evidence was lost on the way too."""
    verifier.judge(node.evidence(verifier.challenge(canaries=(HERE,))))
    node.let_loose(verifier.challenge(canaries=(replace(HERE, uid=1002),)))
    again = verifier.challenge(first_record=0)
    assert verifier.judge(node.evidence(again)).starts_over
    verifier.policy = replace(verifier.policy, version=verifier.policy.version + 1)
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=46, attacker=ROOT, asset=ASSET)
def test_046_a_canary_of_the_boot_before(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """It is neither known nor good for anything in another boot."""
    challenge = verifier.challenge(canaries=(HERE,))
    verifier.judge(node.evidence(challenge, new=[node.new_process()]))
    node.reboot()
    for digest in digests(challenge.nonce, HERE):
        node.measure_record("#1", digest)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
    node.reboot()
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[node.new_process()]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_CANARY}


# On a real kernel; test_live_node.py ends with one that measures too little


def canaries(machine: Machine) -> int:
    """Return how many the attestor has let loose in this boot."""
    status = machine.world.machine.run("attestor status --json").check().output
    return int(json.loads(status)["canaries"])


@pytest.mark.vm
@pytest.mark.swtpm
@pytest.mark.timeout(400)
def test_a_kernel_shows_that_it_measures(machine: Machine) -> None:
    """Once for all processes of one uid and file system; the files have no name afterwards."""
    with machine.puppet() as first, machine.puppet() as second:
        first.obtain_granted()
        count = canaries(machine)
        assert count >= 1
        second.obtain_granted()
        assert canaries(machine) == count
        assert first.is_proven()


@pytest.mark.vm
@pytest.mark.swtpm
@pytest.mark.timeout(400)
def test_another_file_system_has_canaries_of_its_own(machine: Machine) -> None:
    """None where nothing may be executed: that refuses the process, and not the node."""
    with machine.puppet() as first:
        first.obtain_granted()
    with machine.second_disk() as path, machine.puppet(path) as puppet:
        count = canaries(machine)
        machine.run(f"mount -o remount,noexec {SECOND}")
        told = puppet.obtain(SOCKET, ID)
        assert isinstance(told, local.Refusal), told
        (finding,) = told.findings
        assert finding.reason == Reason.PROCESS_CANARY
        assert finding.found.startswith("no directory there")
        assert machine.is_accepted()
        machine.run(f"mount -o remount,exec {SECOND}")
        machine.world.wait_for(lambda: is_granted(puppet), "a canary on the second file system")
        assert canaries(machine) > count
        assert puppet.is_proven()


def is_granted(puppet: MachinePuppet) -> bool:
    """Say whether it gets its credential now: places where canaries fail are asked again later."""
    return isinstance(puppet.obtain(SOCKET, ID), local.Credential)
