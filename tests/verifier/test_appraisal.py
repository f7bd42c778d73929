"""What an appraisal accepts and hands back; what it refuses is in tests/attacks."""

import itertools
from dataclasses import replace

import pytest

from tests.simulated_keys import sha256
from tests.simulated_node import BOOT_REGISTERS, NOW, SimulatedNode, make_challenge, make_record
from tests.simulated_verifier import SimulatedVerifier, accepted
from verifier import Reason, Rejected, appraise, verify_signed
from verifier.appraisal import highest
from verifier.reasons import MOST_FINDINGS, Finding, capped, label
from verifier.replay import EMPTY_ROOT, first_record_wanted, fold_root
from verifier.selection import select_workload


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(node)


def test_a_first_verdict(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = node.new_process()
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert verdict.starts_over
    assert verdict.forgets_known
    assert verdict.judged_at == NOW
    assert verdict.firmware_version == node.tpm.firmware_version
    assert verdict.clock.reset_count == node.tpm.reset_count
    assert verdict.clock.clock == node.tpm.clock
    assert verdict.reported == ()
    (one,) = accepted(verdict)
    assert (one.key_name, one.core) == (process.key_name, process.core)
    assert one.core_digest == process.core.digest()
    assert (one.level, one.is_new) == ("lab", True)
    checkpoint = verdict.checkpoint
    assert checkpoint.ak_name == node.tpm.ak.name()
    assert checkpoint.instance == node.instance
    assert checkpoint.records == len(node.records) == len(verdict.measured)
    assert checkpoint.registers == tuple((one, node.tpm.registers[one]) for one in (10, 12, 13))
    assert checkpoint.root == fold_root(EMPTY_ROOT, verdict.measured)


def test_a_later_verdict_adds_what_is_new(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    first = verifier.judge(node.evidence(verifier.challenge()))
    node.measure("usr/bin/python3", b"\x7fELF python")
    node.measure("home/user/x", b"x", register=12)
    later = verifier.judge(node.evidence(verifier.challenge()))
    assert not later.starts_over
    assert not later.forgets_known
    assert [one.path for one in later.measured] == [b"/usr/bin/python3", b"/home/user/x"]
    assert later.checkpoint.root == fold_root(first.checkpoint.root, later.measured)
    assert [one.reason for one in later.reported] == [Reason.LIST_USER] * 2


def test_judging_the_whole_list_again_ends_where_judging_its_parts_does(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    node.measure("usr/bin/python3", b"\x7fELF python")
    parts = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    whole = verifier.judge(node.evidence(verifier.challenge(first_record=0), known=[process]))
    assert whole.starts_over
    assert not whole.forgets_known
    assert whole.checkpoint == parts.checkpoint
    assert accepted(whole)


def test_appraising_is_a_function_of_its_arguments(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    challenge = verifier.challenge()
    evidence = node.unsigned_evidence(challenge, body=node.body([node.new_process()]))
    verdicts = [
        appraise(
            evidence,
            signer=node.instance,
            challenge=challenge,
            node=node.enrolled(),
            checkpoint=None,
            measured=(),
            boot_log=b"",
            policy=verifier.policy,
            address="",
            now=NOW,
        )
        for _ in range(2)
    ]
    assert verdicts[0] == verdicts[1]


def test_a_process_that_names_no_identity(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = node.new_process(core={"identity": ""})
    (one,) = accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))
    assert one.workload.id == node.identity


def test_an_executable_need_not_be_among_the_mapped_files(node: SimulatedNode) -> None:
    workload = replace(node.policy().workloads[0], mapped=("debian-12",))
    verifier = SimulatedVerifier(node, workloads=(workload,))
    process = node.new_process()
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.parametrize(
    ("binding", "peer_proof"), [("attached", "pidfd"), ("attached", "pid"), ("launched", "child")]
)
def test_a_kernel_without_pidfs(
    node: SimulatedNode, verifier: SimulatedVerifier, binding: str, peer_proof: str
) -> None:
    core = {"binding": binding, "peer_proof": peer_proof, "pidfs_inode": 0}
    process = node.new_process(core=core, look={"pidfs_inode": 0})
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


def test_a_new_boot_and_a_new_policy_at_once(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    node.reboot()
    verifier.policy = node.policy(version=7)
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert verdict.starts_over
    assert verdict.checkpoint.policy_version == 7


def test_other_registers_by_configuration(node: SimulatedNode) -> None:
    records = [replace(one, register=11) if one.register == 13 else one for one in node.records]
    for register in (10, 11, 13):
        node.tpm.registers[register] = bytes(32)
    node.records = []
    for record in records:
        node.append(record)
    verifier = SimulatedVerifier(node, attestor_register=11)
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert [register for register, _ in verdict.checkpoint.registers] == [10, 11, 12]


def test_which_record_is_asked_for_first(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    policy, me = verifier.policy, node.instance
    assert first_record_wanted(verifier.node, None, signer=me, policy=policy) == 0
    checkpoint = verifier.judge(node.evidence(verifier.challenge())).checkpoint
    known = verifier.node
    records = len(node.records)
    assert first_record_wanted(known, checkpoint, signer=me, policy=policy) == records
    forgotten = replace(known, clock=None)
    assert first_record_wanted(forgotten, checkpoint, signer=me, policy=policy) == records
    other = sha256(b"another instance")
    assert first_record_wanted(known, checkpoint, signer=other, policy=policy) == 0
    moved = replace(policy, user_register=11)
    assert first_record_wanted(known, checkpoint, signer=me, policy=moved) == 0
    assert known.clock is not None
    rebooted = replace(known, clock=replace(known.clock, reset_count=known.clock.reset_count + 1))
    assert first_record_wanted(rebooted, checkpoint, signer=me, policy=policy) == 0


def test_what_a_process_may_ask_before_anything_is_proven(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    core = node.new_process().core
    wanted = select_workload(core, node=node.name, policy=verifier.policy)
    assert wanted.id == node.identity
    for change in ({"executable": bytes(32)}, {"user": "x"}, {"binding": "x"}, {"use_key": b""}):
        with pytest.raises(Rejected):
            select_workload(replace(core, **change), node=node.name, policy=verifier.policy)


def test_the_clock_of_a_rejection_is_the_highest(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Also where the evidence is older than what has been seen."""
    verifier.judge(node.evidence(verifier.challenge()))
    seen = verifier.node.clock
    assert seen is not None
    node.tpm.clock = 5
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.evidence(verifier.challenge()))
    assert rejection.value.clock_seen == seen
    later = replace(seen, reset_count=seen.reset_count + 1, clock=0)
    assert highest(later, seen) == highest(seen, later) == later


def test_a_rejection_before_the_signature_held_says_nothing_of_time(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    with pytest.raises(Rejected) as rejection:
        verifier.judge(replace(evidence, signature=node.tpm.signature(b"another")))
    assert rejection.value.clock_seen is None


def test_a_signed_message_names_its_key(node: SimulatedNode) -> None:
    signed = verify_signed(node.challenge_request())
    assert signed.signer == node.instance


def test_the_boot_aggregate_of_the_simulated_kernel(node: SimulatedNode) -> None:
    values = b"".join(node.tpm.registers[one] for one in BOOT_REGISTERS)
    assert node.records[0] == make_record("boot_aggregate", sha256(values))
    assert make_challenge(node.name).first_record == 0


def test_findings_for_people() -> None:
    finding = Finding(reason=Reason.LIST_UNKNOWN, what="x")
    assert capped([finding] * 3) == (finding,) * 3
    assert capped([finding] * MOST_FINDINGS) == (finding,) * MOST_FINDINGS
    endless = capped(itertools.repeat(finding))
    assert endless[:-1] == (finding,) * MOST_FINDINGS
    assert (endless[-1].reason, endless[-1].what) == (finding.reason, "and more")
    assert finding.text().reason == "ima-list.entry-unknown"
    assert label(b"a\nb\x1b[31m\xff") == "a\\nb\\x1b[31m\\xff"
    assert label("x" * 300) == "x" * 256 + "…"
    with pytest.raises(ValueError, match="needs a finding"):
        Rejected([])


def test_reason_codes_are_dotted_and_different() -> None:
    codes = [str(reason) for reason in Reason]
    assert len(set(codes)) == len(codes)
    assert all(code.count(".") == 1 and code == code.lower() for code in codes)
