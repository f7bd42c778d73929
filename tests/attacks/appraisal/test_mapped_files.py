"""Attacks with files that are not in the list, or not allowed for the workload."""

import pytest

from tests.attacks.asking import IDENTITY, PROCESS, ROOT, USER, why
from tests.simulated_keys import sha256
from tests.simulated_node import SimulatedNode
from tests.simulated_process import PROGRAM, PROGRAM_FILES, mapped_file, text_of
from tests.simulated_verifier import SimulatedVerifier, only
from verifier import Reason, Refused
from verifier.policy import ReferenceSet


@pytest.mark.attack(number=54, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.attack(number=62, attacker=PROCESS, asset=IDENTITY)
def test_054_a_file_that_became_executable_unmeasured(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    files = (*process.look.files, mapped_file("tmp/plugin.so", b"plugin"))
    process = process.looking(files=files, mappings=(*process.look.mappings, text_of(2)))
    assert why(verifier, process) == {Reason.PROCESS_NOT_MEASURED, Reason.PROCESS_MAPPED}


@pytest.mark.attack(number=61, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=62, attacker=USER, asset=IDENTITY)
def test_062_a_library_that_is_known_but_not_the_workloads(node: SimulatedNode) -> None:
    library = mapped_file("usr/lib/libinject.so", b"inject")
    other = ReferenceSet(name="tools", files={"usr/lib/libinject.so": (library.digest,)})
    verifier = SimulatedVerifier(node, sets=(*node.policy().sets, other))
    node.measure("usr/lib/libinject.so", b"inject")
    process = node.new_process()
    files = (*process.look.files, library)
    process = process.looking(files=files, mappings=(*process.look.mappings, text_of(2)))
    assert why(verifier, process) == {Reason.PROCESS_MAPPED}


@pytest.mark.attack(number=60, attacker=ROOT, asset=IDENTITY)
def test_060_a_program_of_which_one_byte_was_changed(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The refusal names the file and both digests."""
    golden, patched = PROGRAM_FILES[PROGRAM], b"\x7fELF paymentz"
    process = node.new_process(program=patched)
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    outcome = only(verdict.processes)
    assert isinstance(outcome, Refused)
    (finding,) = outcome.findings
    assert finding.reason == Reason.PROCESS_EXECUTABLE
    assert PROGRAM in finding.what
    assert sha256(golden).hex() in finding.expected
    assert sha256(patched).hex() in finding.found


@pytest.mark.attack(number=54, attacker=USER, asset=IDENTITY)
def test_054_a_golden_program_that_no_record_mentions(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.relist([one for one in node.records if b"payments" not in one.data])
    assert why(verifier, node.new_process()) == {Reason.PROCESS_NOT_MEASURED}


@pytest.mark.attack(number=43, attacker=ROOT, asset=IDENTITY)
def test_043_a_golden_program_that_was_measured_as_data(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Critical data of the same digest does not say that a file was executed."""
    node.relist([one for one in node.records if b"payments" not in one.data])
    node.measure_buffer("payments", PROGRAM_FILES[PROGRAM])
    assert why(verifier, node.new_process()) == {Reason.PROCESS_NOT_MEASURED}
