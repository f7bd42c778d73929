"""The verbs of a node, one after the other and at the same time, on a real database."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from evidence import Malformed
from evidence.messages import Gone, GoneProcess
from tests.running_verifier import Player, RunningVerifier, refusal
from tests.simulated_node import SimulatedNode
from tests.simulated_process import IDENTITY, SimulatedProcess
from verifier import Reason
from verifier.case import REFERENCE, WORKLOAD
from verifier.ledger import Cause, Kind
from verifier.operations.answers import Unfit
from verifier.rows import ENROLLED, PENDING, REMOVED


@pytest.fixture
def verifier(tmp_path: Path, database: str) -> Iterator[RunningVerifier]:
    running = RunningVerifier(tmp_path, database=database)
    yield running
    running.close()


# Enrolment


def test_a_node_in_the_inventory_is_enrolled(
    verifier: RunningVerifier, node: SimulatedNode
) -> None:
    assert Player(node, verifier.service).enrol().status == ENROLLED
    assert verifier.kinds()[-1] == Kind.NODE_ENROLLED


def test_a_certificate_alone_leaves_it_pending_with_nothing_issued(
    verifier: RunningVerifier,
) -> None:
    player = Player(SimulatedNode(), verifier.service)
    assert player.enrol().status == PENDING
    assert refusal(player.challenge) == {Reason.NODE_PENDING}
    assert verifier.kinds() == [Kind.NODE_PENDING]
    assert verifier.operators.node_approve("build-7")["status"] == ENROLLED
    assert player.challenge().node == "build-7"
    assert verifier.kinds()[-1] == Kind.NODE_APPROVED


def test_an_approval_can_name_the_ek(verifier: RunningVerifier) -> None:
    enrolled = Player(SimulatedNode(), verifier.service).enrol()
    with pytest.raises(Unfit):
        verifier.operators.node_approve("build-7", "00" * 32)
    assert verifier.operators.node_approve("build-7", enrolled.ek_hash)["status"] == ENROLLED


def test_enrolling_again_changes_nothing(verifier: RunningVerifier, player: Player) -> None:
    before = verifier.operators.node_list()
    assert player.enrol().status == ENROLLED
    assert verifier.operators.node_list() == before
    player.attest()


def test_the_firmwares_version_is_recorded(
    verifier: RunningVerifier, node: SimulatedNode, player: Player
) -> None:
    """With the node, as it was signed last, and with every decision in the ledger."""
    first = f"{node.tpm.firmware_version:#018x}"
    assert verifier.operators.node_list()[0]["firmware_version"] == first
    node.tpm.firmware_version += 1
    player.attest()
    second = f"{node.tpm.firmware_version:#018x}"
    assert verifier.operators.node_list()[0]["firmware_version"] == second
    told = [row["body"] for row in verifier.operators.ledger_tail(most=20)]
    versions = [body["firmware_version"] for body in told if "firmware_version" in body]
    assert set(versions) == {first, second}


def test_the_inventory_is_read_anew(verifier: RunningVerifier) -> None:
    node = SimulatedNode()
    player = Player(node, verifier.service)
    player.enrol()
    verifier.allow(node)
    assert player.enrol().status == ENROLLED


def test_an_activation_expires(verifier: RunningVerifier, node: SimulatedNode) -> None:
    activation = verifier.door.enrol(node.enrol_message())
    verifier.wait(verifier.config.activation_lifetime.total_seconds() + 1)
    answer = node.answer(activation)
    assert refusal(lambda: verifier.door.answer_activation(answer)) == {Reason.ENROL_CHALLENGE}


def test_an_rsa_ek_works_as_well(verifier: RunningVerifier) -> None:
    node = SimulatedNode("rsa-1", ek="rsa")
    verifier.trust(node)
    player = Player(node, verifier.service)
    assert player.enrol().status == ENROLLED
    player.attest()
    process = node.new_process()
    player.attest([process])
    assert player.claims(process).id == IDENTITY


def test_a_removed_node_waits_for_an_operator(verifier: RunningVerifier, player: Player) -> None:
    process = player.node.new_process()
    player.attest([process])
    verifier.operators.node_remove("build-7")
    assert set(verifier.statuses().values()) == {Cause.NODE_REMOVED}
    assert refusal(player.challenge) == {Reason.NODE_UNKNOWN}
    assert player.enrol().status == PENDING
    verifier.operators.node_approve("build-7")
    player.processes = []
    player.attest()


def test_a_forgotten_node_frees_its_name_and_its_ek(
    verifier: RunningVerifier, player: Player
) -> None:
    with pytest.raises(Unfit):
        verifier.operators.node_forget("build-7")
    assert verifier.operators.node_remove("build-7")["status"] == REMOVED
    verifier.operators.node_forget("build-7")
    assert player.enrol().status == ENROLLED
    player.attest()


# Attestation and credentials


def test_a_new_process_gets_a_token_that_only_its_tpm_opens(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    claims = player.claims(process)
    assert claims.id == IDENTITY
    assert claims.use_key == process.core.use_key
    assert claims.expires - claims.issued == timedelta(minutes=10)
    decision = verifier.ledger()[claims.procseal.ledger - 1]
    assert decision.kind == Kind.EVIDENCE_ACCEPTED
    assert claims.procseal.evidence == f"sha256:{decision.evidence.hex()}"
    assert verifier.statuses() == {claims.jti: "valid"}


def test_the_second_challenge_asks_for_new_records_only(player: Player) -> None:
    challenge = player.challenge()
    assert challenge.first_record == len(player.node.records)
    assert not challenge.wants_boot_log


def test_half_a_life_later_the_token_is_renewed(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    first = player.claims(process)
    verifier.wait(299)
    player.attest()
    assert player.claims(process) == first
    verifier.wait(2)
    player.attest()
    second = player.claims(process)
    assert second.jti != first.jti
    assert second.expires > first.expires
    assert player.tokens[process.key_name][1] == 1
    assert verifier.kinds()[-1] == Kind.CREDENTIAL_RENEWED


def test_a_newer_policy_renews_at_once(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    text = player.node.workload_toml().replace('["post"]', '["read"]')
    verifier.operators.put(WORKLOAD, text)
    player.attest()
    assert player.claims(process).procseal.scopes == ("read",)


def test_a_lost_answer_costs_nothing(verifier: RunningVerifier, player: Player) -> None:
    """The attestor that never got the grant brings the process as new again."""
    process = player.node.new_process()
    lost = player.challenge()
    verifier.door.evidence(player.node.evidence(lost, [process]))
    player.attest([process])
    assert player.claims(process).id == IDENTITY
    assert player.tokens[process.key_name][1] == 0


def test_a_lost_renewal_is_made_up_for_by_the_next(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    verifier.wait(301)
    verifier.door.evidence(player.node.evidence(player.challenge(), [], [process]))
    verifier.wait(301)
    player.attest()
    assert player.tokens[process.key_name][1] == 2
    assert player.claims(process).expires > verifier.time


def test_the_process_that_exits_is_revoked_and_its_neighbour_is_not(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    other = player.node.new_process()
    player.attest([other])
    answer = verifier.door.gone(player.node.gone(process))
    assert answer.key_names == (process.key_name,)
    assert sorted(verifier.statuses().values()) == [Cause.EXITED, "valid"]
    assert verifier.door.gone(player.node.gone(process)).key_names == (process.key_name,)
    assert verifier.kinds().count(Kind.CREDENTIAL_REVOKED) == 1
    result = player.attest()
    revoked = {one.key_name: {f.reason for f in one.findings} for one in result.outcomes}
    assert revoked[process.key_name] == {Reason.PROCESS_UNKNOWN_KEY}
    assert not revoked[other.key_name]


def test_a_node_cannot_give_a_cause_of_its_own(player: Player, process: SimulatedProcess) -> None:
    with pytest.raises(Malformed):
        player.door.gone(player.node.gone(process, "operator"))


def test_a_process_that_is_not_reported_is_revoked(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    player.processes.remove(process)
    player.attest()
    assert set(verifier.statuses().values()) == {Cause.NOT_REPORTED}


def test_a_process_that_drifts_is_revoked_and_its_neighbour_is_not(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    other = player.node.new_process()
    player.attest([other])
    player.processes = [process.looking(anonymous_executable=4096), other]
    player.attest()
    assert sorted(verifier.statuses().values()) == [Cause.REFUSED, "valid"]


def test_wanted_is_a_question_without_consequences(
    verifier: RunningVerifier, player: Player
) -> None:
    process = player.node.new_process()
    before = verifier.kinds()
    assert verifier.door.wanted(player.node.wanted(process)).core == process.core.digest()
    odd = player.node.new_process(core={"user": "root"})
    assert refusal(lambda: verifier.door.wanted(player.node.wanted(odd))) == {Reason.PROCESS_USER}
    assert verifier.kinds() == before


# The node that is refused


@pytest.mark.usefixtures("process")
def test_a_node_that_drifts_loses_every_credential_until_all_of_its_list_passes(
    verifier: RunningVerifier, player: Player
) -> None:
    player.node.measure("usr/bin/odd", b"odd")
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    assert set(verifier.statuses().values()) == {Cause.NODE_REFUSED}
    assert verifier.ledger()[-1].kind == Kind.EVIDENCE_REFUSED
    player.processes = []
    assert player.challenge().first_record == 0
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    debian, _ = player.node.reference_toml()
    digest = sha256(b"odd").hexdigest()
    more = debian.replace("[files]", f'[files]\n"usr/bin/odd" = "sha256:{digest}"')
    verifier.operators.put(REFERENCE, more)
    player.attest()
    assert player.challenge().first_record == len(player.node.records)


@pytest.mark.usefixtures("process")
def test_a_withdrawn_reference_takes_effect_at_the_next_appraisal(
    verifier: RunningVerifier, player: Player
) -> None:
    debian, _ = player.node.reference_toml()
    lines = [line for line in debian.splitlines() if "python3" not in line]
    verifier.operators.put(REFERENCE, "\n".join(lines))
    assert set(verifier.statuses().values()) == {"valid"}
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    assert set(verifier.statuses().values()) == {Cause.NODE_REFUSED}


@pytest.mark.usefixtures("process")
def test_a_removed_workload_takes_its_credentials_with_it(
    verifier: RunningVerifier, player: Player
) -> None:
    assert verifier.operators.remove(WORKLOAD, IDENTITY)["revoked"] == 1
    assert set(verifier.statuses().values()) == {Cause.WORKLOAD_REMOVED}
    assert refusal(player.attest) == {Reason.POLICY_EMPTY}


def test_a_set_that_a_workload_names_cannot_be_removed(
    verifier: RunningVerifier, player: Player
) -> None:
    before = verifier.operators.status()
    assert refusal(lambda: verifier.operators.remove(REFERENCE, "debian-12")) == {
        Reason.POLICY_INVALID
    }
    assert verifier.operators.status() == before
    player.attest()


def test_an_operator_revokes_one_credential(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    jti = player.claims(process).jti
    assert verifier.operators.credential_revoke(jti)["was_valid"]
    assert verifier.statuses() == {jti: Cause.OPERATOR}
    assert not verifier.operators.credential_revoke(jti)["was_valid"]
    with pytest.raises(Unfit):
        verifier.operators.credential_revoke("no-such-token")


# Boots and instances


@pytest.mark.usefixtures("process")
def test_a_reboot_ends_the_credentials_and_starts_over(
    verifier: RunningVerifier, player: Player
) -> None:
    player.node.reboot()
    player.processes = []
    assert player.challenge().first_record == 0
    player.attest()
    assert set(verifier.statuses().values()) == {Cause.NODE_REBOOTED}
    player.attest([player.node.new_process()])


@pytest.mark.usefixtures("process")
def test_a_reboot_into_drift_ends_the_credentials(
    verifier: RunningVerifier, player: Player
) -> None:
    player.node.reboot()
    player.node.measure("usr/bin/odd", b"odd")
    player.processes = []
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    assert set(verifier.statuses().values()) == {Cause.NODE_REBOOTED}


@pytest.mark.usefixtures("process")
def test_a_later_instance_waits_for_an_operator(verifier: RunningVerifier, player: Player) -> None:
    player.node.start_again()
    player.processes = []
    assert refusal(player.attest) == {Reason.INSTANCE_SECOND}
    assert set(verifier.statuses().values()) == {"valid"}, "the refused one speaks for nobody"
    verifier.operators.node_approve_instance("build-7", player.node.instance.hex())
    player.attest()
    assert set(verifier.statuses().values()) == {Cause.INSTANCE_REPLACED}
    player.attest()
    player.node.reboot()
    player.attest()
    assert verifier.operators.node_list()[0]["approved_instances"] == []


def test_only_the_accepted_instance_is_heard(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    gone, wanted = player.node.gone(process), player.node.wanted(process)
    player.node.start_again()
    gone_by_other = player.node.gone(process)
    wanted_by_other = player.node.wanted(process)
    assert refusal(lambda: verifier.door.gone(gone_by_other)) == {Reason.MESSAGE_INSTANCE}
    assert refusal(lambda: verifier.door.wanted(wanted_by_other)) == {Reason.MESSAGE_INSTANCE}
    verifier.door.wanted(wanted)
    verifier.door.gone(gone)
    forged = replace(gone, signature=bytes(64))
    assert refusal(lambda: verifier.door.gone(forged)) == {Reason.MESSAGE_SIGNATURE}


def test_before_the_first_accepted_evidence_a_key_may_only_be_challenged(
    verifier: RunningVerifier, node: SimulatedNode
) -> None:
    Player(node, verifier.service).enrol()
    process = node.new_process()
    assert refusal(lambda: verifier.door.wanted(node.wanted(process))) == {Reason.MESSAGE_INSTANCE}


def test_a_stranger_displaces_no_challenge_and_ends_no_credential(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    challenge = player.challenge()
    stranger = SimulatedNode("build-7")
    stranger.start_again()
    refused = Player(stranger, verifier.service)
    assert refusal(refused.attest)
    verifier.door.evidence(player.node.evidence(challenge, [], [process]))
    assert set(verifier.statuses().values()) == {"valid"}


# Silence


@pytest.mark.usefixtures("process")
def test_a_silent_node_loses_its_credentials(verifier: RunningVerifier) -> None:
    assert verifier.watch(90) == 0
    assert verifier.watch(1) == 1
    assert set(verifier.statuses().values()) == {Cause.LATE}
    assert verifier.watch(209) == 0
    assert verifier.watch(1) == 1
    assert set(verifier.statuses().values()) == {Cause.TOO_OLD}
    assert verifier.watch(100) == 0


def test_the_verifiers_own_absence_is_not_the_nodes_silence(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    verifier.wait(3600)
    verifier.restart()
    player.turn_to(verifier)
    assert verifier.watch(80) == 0
    player.attest()
    assert verifier.watch(80) == 0
    assert player.claims(process).expires > verifier.time


@pytest.mark.usefixtures("process")
def test_neither_is_the_sleep_of_the_verifiers_host(verifier: RunningVerifier) -> None:
    assert verifier.watch(80) == 0
    verifier.wait(3600)
    assert verifier.watch(90) == 0
    assert verifier.watch(2) == 1
    assert set(verifier.statuses().values()) == {Cause.LATE}


# Restart


def test_a_restart_loses_nothing(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    challenge = player.challenge()
    before = verifier.ledger()
    verifier.restart()
    player.turn_to(verifier)
    assert verifier.ledger() == before
    player.door.evidence(player.node.evidence(challenge, [], [process]))
    assert player.claims(process).id == IDENTITY


def test_gone_with_many_processes_is_one_transaction(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    other = player.node.new_process()
    player.attest([other])
    ended = [(process, "process.exited"), (other, "no such cause")]
    processes = tuple(GoneProcess(key_name=one.key_name, cause=cause) for one, cause in ended)
    message = player.node.signed(Gone(node="build-7", processes=processes).encode())
    with pytest.raises(Malformed):
        verifier.door.gone(message)
    assert set(verifier.statuses().values()) == {"valid"}
