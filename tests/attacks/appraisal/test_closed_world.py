"""Attacks on the measurement list: nothing in it is unknown, or happens to be left out."""

import time
from dataclasses import replace

import pytest

from evidence.ima import Record
from tests.simulated_keys import sha256
from tests.simulated_node import (
    LIBC,
    SYSTEM_FILES,
    SimulatedNode,
    encoded,
    make_record,
    record_of,
)
from tests.simulated_tpm import ZERO
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason, Rejected
from verifier.reasons import MOST_FINDINGS
from verifier.records import MOST_EXAMPLES

ROOT = "root on the node"
USER = "an ordinary user of the node"
NODE = "the node's verdict"


@pytest.mark.attack(number=82, attacker=ROOT, asset="the attestor")
@pytest.mark.parametrize(
    ("path", "register", "expected"),
    [
        ("usr/lib/procseal/attestor/__main__.py", 13, Reason.LIST_UNKNOWN_ATTESTOR),
        ("usr/lib/procseal/attestor/__main__.cpython-311.pyc", 13, Reason.LIST_UNKNOWN_ATTESTOR),
        ("usr/lib/procseal/_cffi_backend.so", 10, Reason.LIST_UNKNOWN),
        ("usr/bin/python3.11", 10, Reason.LIST_UNKNOWN),
    ],
)
def test_082_another_attestor(
    node: SimulatedNode, verifier: SimulatedVerifier, path: str, register: int, expected: Reason
) -> None:
    node.measure(path, b"patched", register=register)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {expected}


@pytest.mark.attack(number=87, attacker=USER, asset=NODE)
def test_087_ten_thousand_programs_of_a_user(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Reported, at a bounded length; the node stays accepted, and so does its process."""
    for number in range(10_000):
        node.measure(f"home/user/{number}", b"%d" % number, register=12)
    process = node.new_process()
    message = node.evidence(verifier.challenge(), new=[process])
    start = time.process_time()
    verdict = verifier.judge(message)
    assert time.process_time() - start < 5
    assert accepted(verdict)
    assert {finding.reason for finding in verdict.reported} == {Reason.LIST_USER}
    assert len(verdict.reported) == MOST_EXAMPLES + 1
    assert verdict.reported[-1].found == "10000 unknown entries"


@pytest.mark.attack(number=87, attacker=USER, asset="the identity")
def test_087_a_program_of_a_user_is_nobodys_workload(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A golden file in the users' register alone has not been executed as a system file."""
    node.relist([one for one in node.records if b"payments" not in one.data])
    node.measure("home/user/payments", b"\x7fELF payments", register=12)
    process = node.new_process()
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_NOT_MEASURED}


def test_a_known_program_of_a_user_is_not_reported(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.measure("home/user/libc.so.6", SYSTEM_FILES[LIBC], register=12)
    assert verifier.judge(node.evidence(verifier.challenge())).reported == ()


@pytest.mark.attack(number=88, attacker=USER, asset=NODE)
def test_088_a_user_who_writes_what_he_runs(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.violate("/home/user/x", register=12)
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=88, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", [10, 13])
def test_088_a_violation_where_nothing_may_be_uncertain(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    node.violate("/usr/lib/libx.so", register=register)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_VIOLATION}


@pytest.mark.attack(number=95, attacker=ROOT, asset=NODE)
def test_095_no_list(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    evidence = node.unsigned_evidence(verifier.challenge(), records=b"")
    assert verifier.refusal(evidence) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=95, attacker=ROOT, asset=NODE)
def test_095_a_kernel_that_has_measured_nothing(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Registers at zero and an empty list agree with each other, and prove nothing."""
    node.relist([])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_MISSING}


@pytest.mark.attack(number=99, attacker=ROOT, asset=NODE)
def test_099_a_template_hash_that_is_not_its_datas(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    bent = replace(node.records[4], template_hash=b"\1" * 20)
    forged = replace(evidence, records=encoded([*node.records[:4], bent, *node.records[5:]]))
    assert verifier.refusal(forged) == {Reason.LIST_TEMPLATE_HASH}


@pytest.mark.attack(number=126, attacker=ROOT, asset=NODE)
def test_126_an_unknown_program_is_not_forgotten(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Refused until the node reboots: the checkpoint stays before the unknown record."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure("usr/bin/evil", b"evil")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
    node.measure("usr/bin/good", SYSTEM_FILES[LIBC])
    process = node.new_process()
    message = node.evidence(verifier.challenge(), new=[process])
    assert verifier.refusal(message) == {Reason.LIST_UNKNOWN}
    message = node.evidence(verifier.challenge(first_record=0))
    assert verifier.refusal(message) == {Reason.LIST_UNKNOWN}
    node.reboot()
    verifier.judge(node.evidence(verifier.challenge()))


def test_findings_name_file_and_both_digests(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.measure(LIBC, b"patched libc")
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.evidence(verifier.challenge()))
    (finding,) = rejection.value.findings
    assert finding.what.startswith(f"/{LIBC}")
    assert finding.expected == f"sha256:{sha256(SYSTEM_FILES[LIBC]).hex()} (debian-12)"
    assert finding.found == f"sha256:{sha256(b'patched libc').hex()}"


def test_findings_are_not_all_looked_for(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    for number in range(1000):
        node.measure(f"usr/bin/{number}", b"%d" % number)
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.evidence(verifier.challenge()))
    assert len(rejection.value.findings) == MOST_FINDINGS + 1
    assert rejection.value.findings[-1].what == "and more"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        pytest.param(
            Record(register=10, template_hash=bytes(20), template="x", data=b""),
            Reason.LIST_VIOLATION,
            id="violations",
        ),
        pytest.param(record_of(b"", template="x"), Reason.LIST_TEMPLATE, id="templates"),
        pytest.param(record_of(b"", register=11), Reason.LIST_REGISTER, id="registers"),
        pytest.param(
            replace(make_record("/a", ZERO), template_hash=b"\1" * 20),
            Reason.LIST_TEMPLATE_HASH,
            id="template hashes",
        ),
    ],
)
def test_a_list_that_is_past_hope_is_not_read_on(
    node: SimulatedNode, verifier: SimulatedVerifier, record: Record, reason: Reason
) -> None:
    """What follows is no list at all, and nobody notices: it would cost, and change nothing."""
    node.relist([node.records[0], *[record] * (MOST_FINDINGS + 1), *node.records[1:]])
    challenge = verifier.challenge()
    evidence = node.unsigned_evidence(challenge)
    noise = replace(evidence, records=evidence.records + b"\xff" * 1000)
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.signed(noise.encode()))
    assert {one.reason for one in rejection.value.findings} == {reason}
    assert rejection.value.findings[-1].what == "and more"


def test_weak_digests_past_hope_are_refused_before_anything_else_is_asked(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A second boot aggregate refuses by itself; it is not looked for any more."""
    for number in range(MOST_FINDINGS + 1):
        node.measure_record(f"/usr/bin/{number}", bytes([1]) * 16, algorithm="md5")
    node.measure_record("boot_aggregate", sha256(b"another"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_DIGEST}
