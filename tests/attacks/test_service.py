"""Attacks on the verifier's state: what is spent stays spent, what is enrolled stays as it is."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Barrier
from typing import Any

import pytest

from evidence import Malformed
from evidence.messages import ActivationAnswer, Enrolled, Evidence, Result, SignedMessage
from tests.running_verifier import Player, RunningVerifier, refusal
from tests.simulated_node import TRUST_DOMAIN, SimulatedNode
from tests.simulated_process import SimulatedProcess
from tests.simulated_tpm import MANUFACTURER, SimulatedManufacturer
from verifier import Reason, Rejected, case, service
from verifier.case import WORKLOAD
from verifier.config import Misconfigured
from verifier.conversation import activations, settlement
from verifier.ledger import Cause, Kind
from verifier.rows import PENDING

NETWORK = "the network"
BENCH = "somebody with another TPM"
ROOT = "root on the node"
NODE = "the node's identity"
VERDICT = "the node's verdict"
CREDENTIAL = "the credential"
AT_ONCE = 8


def at_once(calls: Sequence[Callable[[], object]]) -> list[object]:
    """Make the calls at the same time; return each one's answer or what it raised."""
    barrier = Barrier(len(calls))

    def call(one: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return one()
        except Exception as error:  # noqa: BLE001 - the caller looks
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def reasons(answers: Sequence[object], kind: type) -> list[Reason]:
    """Return the reasons of all answers that are not of this kind, which must be refusals."""
    refused = [one for one in answers if not isinstance(one, kind)]
    assert all(isinstance(one, Rejected) for one in refused), refused
    return [one.findings[0].reason for one in refused if isinstance(one, Rejected)]


def enrolled(verifier: RunningVerifier) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = verifier.operators.node_list()
    return nodes


# 91: answers to activations


@pytest.mark.attack(number=91, attacker=NETWORK, asset=NODE)
def test_091_a_wrong_answer_ends_the_challenge_and_nothing_else(
    verifier: RunningVerifier, player: Player
) -> None:
    before = enrolled(verifier)
    activation = verifier.door.enrol(player.node.enrol_message())
    right = player.node.answer(activation)
    wrong = replace(right, answer=bytes(32))
    assert refusal(lambda: verifier.door.answer_activation(wrong)) == {Reason.ENROL_ANSWER}
    assert refusal(lambda: verifier.door.answer_activation(right)) == {Reason.ENROL_CHALLENGE}
    assert enrolled(verifier) == before
    player.attest()


@pytest.mark.attack(number=91, attacker=NETWORK, asset=NODE)
def test_091_a_wrong_answer_does_not_end_another_challenge(
    verifier: RunningVerifier, node: SimulatedNode
) -> None:
    mine = verifier.door.enrol(node.enrol_message())
    theirs = verifier.door.enrol(node.enrol_message())
    guess = ActivationAnswer(id=theirs.id, answer=bytes(32))
    assert refusal(lambda: verifier.door.answer_activation(guess)) == {Reason.ENROL_ANSWER}
    assert verifier.door.answer_activation(node.answer(mine)).status == "enrolled"


@pytest.mark.attack(number=91, attacker=NETWORK, asset=NODE)
@pytest.mark.parametrize("id_", ["", "0" * 32, "%", "build-7"])
def test_091_an_answer_to_no_challenge(
    verifier: RunningVerifier, node: SimulatedNode, id_: str
) -> None:
    verifier.door.enrol(node.enrol_message())
    answer = ActivationAnswer(id=id_, answer=bytes(32))
    assert refusal(lambda: verifier.door.answer_activation(answer)) == {Reason.ENROL_CHALLENGE}


@pytest.mark.attack(number=91, attacker=NETWORK, asset=NODE)
def test_091_one_answer_counts_once_at_the_same_time(
    verifier: RunningVerifier, node: SimulatedNode
) -> None:
    answer = node.answer(verifier.door.enrol(node.enrol_message()))
    answers = at_once([partial(verifier.door.answer_activation, answer)] * AT_ONCE)
    assert reasons(answers, Enrolled) == [Reason.ENROL_CHALLENGE] * (AT_ONCE - 1)
    assert verifier.kinds().count(Kind.NODE_ENROLLED) == 1


@pytest.mark.attack(number=91, attacker=NETWORK, asset="the verifier's disk")
def test_091_strangers_fill_neither_database_nor_ledger(
    verifier: RunningVerifier, node: SimulatedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations, "MOST_ACTIVATIONS", 5)
    monkeypatch.setattr(service, "STRANGERS_PER_HOUR", 5)
    for _ in range(5):
        verifier.door.enrol(node.enrol_message())
    with pytest.raises(activations.Busy):
        verifier.door.enrol(node.enrol_message())
    verifier.wait(verifier.config.activation_lifetime.total_seconds() + 1)
    verifier.door.enrol(node.enrol_message())
    odd = node.enrol_message(node="NOT A NAME" * 100)
    for _ in range(20):
        assert refusal(lambda: verifier.door.enrol(odd)) == {Reason.ENROL_NAME}
    assert verifier.kinds().count(Kind.NODE_ENROLMENT_REFUSED) == 5


# 92: an enrolled identity does not change


@pytest.mark.attack(number=92, attacker=BENCH, asset=NODE)
def test_092_another_tpm_under_a_known_name(verifier: RunningVerifier, player: Player) -> None:
    before = enrolled(verifier)
    other = SimulatedNode("bench")
    message = other.enrol_message(node="build-7")
    assert refusal(lambda: verifier.door.enrol(message)) == {Reason.ENROL_TAKEN}
    assert enrolled(verifier) == before
    assert verifier.ledger()[-1].kind == Kind.NODE_ENROLMENT_REFUSED
    player.attest()


@pytest.mark.attack(number=92, attacker=ROOT, asset=NODE)
def test_092_another_attestation_key_of_the_same_tpm(
    verifier: RunningVerifier, player: Player
) -> None:
    ak = SimulatedNode("another").tpm.ak.encode()
    message = player.node.enrol_message(ak_public=ak)
    assert refusal(lambda: verifier.door.enrol(message)) == {Reason.ENROL_TAKEN}


@pytest.mark.attack(number=92, attacker=ROOT, asset=NODE)
def test_092_another_certificate(verifier: RunningVerifier, player: Player) -> None:
    """One of a stranger's CA is refused; one more of a trusted CA does not replace the first."""
    key = player.node.tpm.ek_key.public_key()
    stranger = SimulatedManufacturer("Stranger").certify(key)
    message = player.node.enrol_message(ek_certificate=stranger)
    reasons = {Reason.ENROL_EK_CERTIFICATE, Reason.EK_CHAIN}
    assert refusal(lambda: verifier.door.enrol(message)) == reasons
    with verifier.service.transaction() as transaction:
        before = transaction.nodes()[0].certificate
    player.enrol(ek_certificate=MANUFACTURER.certify(key))
    with verifier.service.transaction() as transaction:
        assert transaction.nodes()[0].certificate == before


@pytest.mark.attack(number=92, attacker=BENCH, asset=NODE)
def test_092_many_tpms_want_one_name_at_the_same_time(verifier: RunningVerifier) -> None:
    nodes = [SimulatedNode(f"bench-{number}") for number in range(AT_ONCE)]
    for node in nodes:
        node.name = "build-7"
    answers = [node.answer(verifier.door.enrol(node.enrol_message())) for node in nodes]
    calls = [partial(verifier.door.answer_activation, answer) for answer in answers]
    outcome = at_once(calls)
    assert reasons(outcome, Enrolled) == [Reason.ENROL_TAKEN] * (AT_ONCE - 1)
    (row,) = enrolled(verifier)
    (winner,) = [one for one in outcome if isinstance(one, Enrolled)]
    assert (row["ek_hash"], row["status"]) == (winner.ek_hash, PENDING)


@pytest.mark.attack(number=92, attacker=ROOT, asset=NODE)
def test_092_one_tpm_wants_many_names_at_the_same_time(verifier: RunningVerifier) -> None:
    node = SimulatedNode()
    answers = []
    for number in range(AT_ONCE):
        node.name = f"build-{number}"
        answers.append(node.answer(verifier.door.enrol(node.enrol_message())))
    calls = [partial(verifier.door.answer_activation, answer) for answer in answers]
    outcome = at_once(calls)
    assert reasons(outcome, Enrolled) == [Reason.ENROL_EK_ELSEWHERE] * (AT_ONCE - 1)
    assert len(enrolled(verifier)) == 1


@pytest.mark.attack(number=92, attacker=BENCH, asset=NODE)
def test_092_another_tpm_after_the_deletion(verifier: RunningVerifier, player: Player) -> None:
    """A removed node's name stays its TPM's, and even that one waits for an operator."""
    verifier.operators.node_remove("build-7")
    message = SimulatedNode("bench").enrol_message(node="build-7")
    assert refusal(lambda: verifier.door.enrol(message)) == {Reason.ENROL_TAKEN}
    assert player.enrol().status == PENDING
    assert refusal(player.challenge) == {Reason.NODE_PENDING}


@pytest.mark.attack(number=92, attacker=BENCH, asset=NODE)
def test_092_another_tpm_after_a_failed_activation(
    verifier: RunningVerifier, player: Player
) -> None:
    activation = verifier.door.enrol(player.node.enrol_message())
    wrong = ActivationAnswer(id=activation.id, answer=bytes(32))
    assert refusal(lambda: verifier.door.answer_activation(wrong)) == {Reason.ENROL_ANSWER}
    message = SimulatedNode("bench").enrol_message(node="build-7")
    assert refusal(lambda: verifier.door.enrol(message)) == {Reason.ENROL_TAKEN}
    player.attest()


@pytest.mark.attack(number=120, attacker=BENCH, asset=CREDENTIAL)
def test_120_a_genuine_tpm_that_nobody_ordered(verifier: RunningVerifier) -> None:
    node = SimulatedNode("bench")
    player = Player(node, verifier.service)
    assert player.enrol().status == PENDING
    assert refusal(player.challenge) == {Reason.NODE_PENDING}
    wanted = node.wanted(node.new_process())
    assert refusal(lambda: verifier.door.wanted(wanted)) == {Reason.NODE_PENDING}


# 96: a challenge counts once


@pytest.mark.attack(number=96, attacker=NETWORK, asset=VERDICT)
def test_096_evidence_sent_again(verifier: RunningVerifier, player: Player) -> None:
    message = player.node.evidence(player.challenge())
    verifier.door.evidence(message)
    assert refusal(lambda: verifier.door.evidence(message)) == {Reason.CHALLENGE_UNKNOWN}
    player.challenge()
    assert refusal(lambda: verifier.door.evidence(message)) == {Reason.CHALLENGE_UNKNOWN}


@pytest.mark.attack(number=96, attacker=NETWORK, asset=VERDICT)
def test_096_a_recording_sent_again_harms_nobody(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    message = player.node.evidence(player.challenge(), [], [process])
    verifier.door.evidence(message)
    assert refusal(lambda: verifier.door.evidence(message)) == {Reason.CHALLENGE_UNKNOWN}
    assert set(verifier.statuses().values()) == {"valid"}
    assert verifier.ledger()[-1].kind == Kind.EVIDENCE_REFUSED


@pytest.mark.attack(number=96, attacker=ROOT, asset=VERDICT)
def test_096_spent_even_where_it_was_refused(verifier: RunningVerifier, player: Player) -> None:
    challenge = player.challenge()
    good = player.node.evidence(challenge)
    bad = player.node.unsigned_evidence(challenge, registers=(bytes(32),) * 16)
    assert refusal(lambda: verifier.door.evidence(player.node.signed(bad.encode())))
    assert refusal(lambda: verifier.door.evidence(good)) == {Reason.CHALLENGE_UNKNOWN}


@pytest.mark.attack(number=96, attacker=NETWORK, asset=VERDICT)
def test_096_spent_many_times_at_the_same_time(verifier: RunningVerifier, player: Player) -> None:
    for _ in range(5):
        message = player.node.evidence(player.challenge())
        accepted = verifier.kinds().count(Kind.EVIDENCE_ACCEPTED)
        answers = at_once([partial(verifier.door.evidence, message)] * AT_ONCE)
        assert reasons(answers, Result) == [Reason.CHALLENGE_UNKNOWN] * (AT_ONCE - 1)
        assert verifier.kinds().count(Kind.EVIDENCE_ACCEPTED) == accepted + 1


@pytest.mark.attack(number=96, attacker=ROOT, asset=CREDENTIAL)
def test_096_one_process_accepted_once_at_the_same_time(
    verifier: RunningVerifier, player: Player
) -> None:
    process = player.node.new_process()
    message = player.node.evidence(player.challenge(), [process])
    at_once([partial(verifier.door.evidence, message)] * AT_ONCE)
    assert verifier.kinds().count(Kind.CREDENTIAL_ISSUED) == 1


@pytest.mark.attack(number=96, attacker=NETWORK, asset=VERDICT)
def test_096_expired(verifier: RunningVerifier, player: Player) -> None:
    message = player.node.evidence(player.challenge())
    verifier.wait(verifier.config.challenge_lifetime.total_seconds() + 1)
    assert refusal(lambda: verifier.door.evidence(message)) == {Reason.CHALLENGE_EXPIRED}
    assert refusal(lambda: verifier.door.evidence(message)) == {Reason.CHALLENGE_UNKNOWN}


@pytest.mark.attack(number=96, attacker=ROOT, asset=VERDICT)
def test_096_of_another_node(verifier: RunningVerifier, player: Player) -> None:
    other = SimulatedNode("build-8")
    verifier.allow(other)
    other_player = Player(other, verifier.service)
    other_player.enrol()
    theirs = other_player.challenge()
    stolen = player.node.evidence(theirs)
    assert refusal(lambda: verifier.door.evidence(stolen)) == {Reason.CHALLENGE_UNKNOWN}
    renamed = player.node.unsigned_evidence(theirs, node="build-8")
    signed = player.node.signed(renamed.encode())
    assert refusal(lambda: verifier.door.evidence(signed)) == {Reason.CHALLENGE_UNKNOWN}
    verifier.door.evidence(other.evidence(theirs))


@pytest.mark.attack(number=96, attacker=ROOT, asset=VERDICT)
@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda _digest: b"", id="empty"),
        pytest.param(lambda digest: digest.hex().encode(), id="hexadecimal"),
        pytest.param(lambda digest: digest + b"\0", id="a byte more"),
        pytest.param(lambda digest: digest[:-1], id="a byte less"),
        pytest.param(lambda digest: digest[::-1], id="backwards"),
    ],
)
def test_096_in_another_encoding(
    verifier: RunningVerifier, player: Player, bend: Callable[[bytes], bytes]
) -> None:
    challenge = player.challenge()
    bent = player.node.unsigned_evidence(challenge, challenge=bend(challenge.digest()))
    signed = player.node.signed(bent.encode())
    assert refusal(lambda: verifier.door.evidence(signed)) == {Reason.CHALLENGE_UNKNOWN}


@pytest.mark.attack(number=96, attacker=NETWORK, asset=VERDICT)
def test_096_an_older_challenge_of_the_same_node(verifier: RunningVerifier, player: Player) -> None:
    older = player.node.evidence(player.challenge())
    newer = player.challenge()
    assert refusal(lambda: verifier.door.evidence(older)) == {Reason.CHALLENGE_UNKNOWN}
    verifier.door.evidence(player.node.evidence(newer))


# 97: whatever goes wrong is a no


@pytest.mark.attack(number=97, attacker=ROOT, asset=VERDICT)
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, RecursionError, MemoryError])
def test_097_an_exception_in_the_appraisal(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    """The fault is put in by hand: the node is refused, and its last good state is gone."""

    def fail(*_arguments: object, **_more: object) -> None:
        raise error

    message = player.node.evidence(player.challenge(), [], [process])
    with monkeypatch.context() as broken:
        broken.setattr(case, "appraise", fail)
        assert refusal(lambda: verifier.door.evidence(message)) == {Reason.INTERNAL}
    assert set(verifier.statuses().values()) == {Cause.NODE_REFUSED}
    assert verifier.ledger()[-1].body["findings"] == [
        {"reason": Reason.INTERNAL, "what": "", "expected": "", "found": error.__name__}
    ]
    assert player.challenge().first_record == 0


@pytest.mark.attack(number=97, attacker=ROOT, asset=VERDICT)
def test_097_evidence_that_is_malformed_within(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    """Signed by the accepted instance, so it is the node's word, and no good one."""
    challenge = player.challenge()
    body = player.node.body([], [process])
    bent = player.node.unsigned_evidence(challenge, body=body, signature=b"\0")
    with pytest.raises(Malformed):
        verifier.door.evidence(player.node.signed(bent.encode()))
    assert set(verifier.statuses().values()) == {Cause.NODE_REFUSED}
    assert verifier.ledger()[-1].body["findings"][0]["reason"] == "malformed.evidence"  # type: ignore[index]


@pytest.mark.attack(number=97, attacker=ROOT, asset=CREDENTIAL)
def test_097_an_exception_after_the_appraisal_leaves_nothing_behind(
    verifier: RunningVerifier, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise ZeroDivisionError

    process = player.node.new_process()
    message = player.node.evidence(player.challenge(), [process])
    before = verifier.ledger()
    with monkeypatch.context() as broken:
        broken.setattr(settlement, "remember", fail)
        with pytest.raises(ZeroDivisionError):
            verifier.door.evidence(message)
    assert verifier.ledger() == before
    assert not verifier.statuses()
    assert refusal(lambda: verifier.door.evidence(message)) == {Reason.CHALLENGE_UNKNOWN}


# 98: no policy, no trust


@pytest.mark.attack(number=98, attacker=NETWORK, asset=VERDICT)
def test_098_a_verifier_without_a_policy(verifier: RunningVerifier) -> None:
    node = SimulatedNode()
    verifier.allow(node)
    player = Player(node, verifier.service)
    player.enrol()
    assert refusal(player.attest) == {Reason.POLICY_EMPTY}


@pytest.mark.attack(number=98, attacker="an operator's mistake", asset=VERDICT)
def test_098_a_stored_policy_that_cannot_be_read(verifier: RunningVerifier, player: Player) -> None:
    """Nothing is decided, and a verifier with it does not start."""
    challenge = player.challenge()
    message = player.node.evidence(challenge)
    with verifier.service.transaction() as transaction:
        for row in transaction.documents(transaction.policy_version()):
            row.text = "version = 2"
        transaction.next_policy_version()
    with pytest.raises(Misconfigured):
        verifier.door.evidence(message)
    with pytest.raises(Misconfigured):
        verifier.restart()


@pytest.mark.attack(number=98, attacker="an operator's mistake", asset=VERDICT)
@pytest.mark.parametrize("text", ["", "version = 1", "null", "\0", "version = 2\n"])
def test_098_a_workload_that_says_nothing(
    verifier: RunningVerifier, player: Player, text: str
) -> None:
    before = verifier.operators.status()
    assert refusal(lambda: verifier.operators.put(WORKLOAD, text)) == {Reason.POLICY_INVALID}
    assert verifier.operators.status() == before
    player.attest()


# 126: a refusal is sticky


def evidence_without(
    node: SimulatedNode, player: Player, path: bytes, process: SimulatedProcess
) -> SignedMessage:
    """Return an answer in which the list does not name the file."""
    challenge = player.challenge()
    records = [one for one in node.records if path not in one.data]
    shown = b"".join(one.encode() for one in records[challenge.first_record :])
    bent = node.unsigned_evidence(challenge, body=node.body([process]), records=shown)
    return node.signed(bent.encode())


@pytest.mark.attack(number=126, attacker=ROOT, asset=VERDICT)
@pytest.mark.usefixtures("process")
def test_126_only_golden_entries_after_a_refusal(verifier: RunningVerifier, player: Player) -> None:
    node = player.node
    node.measure("usr/bin/evil", b"evil")
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    node.measure("usr/bin/python3.11", b"\x7fELF python")
    again = evidence_without(node, player, b"/usr/bin/evil", node.new_process())
    assert refusal(lambda: verifier.door.evidence(again)) == {Reason.LIST_REPLAY}
    player.processes = []
    for _ in range(2):
        assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    assert set(verifier.statuses().values()) == {Cause.NODE_REFUSED}


@pytest.mark.attack(number=126, attacker=ROOT, asset=VERDICT)
def test_126_the_part_after_the_unknown_entry(verifier: RunningVerifier, player: Player) -> None:
    """A challenge asked before the refusal, for the new part alone, is void after it."""
    node = player.node
    node.measure("usr/bin/evil", b"evil")
    challenge = player.challenge()
    assert challenge.first_record > 0
    verifier_side = node.evidence(challenge)
    assert refusal(lambda: verifier.door.evidence(verifier_side)) == {Reason.LIST_UNKNOWN}
    shown = replace(Evidence.decode(node.evidence(challenge).payload), records=b"")
    resumed = node.signed(shown.encode())
    assert refusal(lambda: verifier.door.evidence(resumed)) == {Reason.CHALLENGE_UNKNOWN}
    assert player.challenge().first_record == 0


@pytest.mark.attack(number=126, attacker=ROOT, asset=VERDICT)
def test_126_a_verifier_or_attestor_that_starts_again(
    verifier: RunningVerifier, player: Player
) -> None:
    node = player.node
    node.measure("usr/bin/evil", b"evil")
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    verifier.restart()
    player.turn_to(verifier)
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    node.start_again()
    verifier.operators.node_approve_instance(node.name, node.instance.hex())
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=126, attacker=ROOT, asset=VERDICT)
def test_126_only_a_reboot_without_it_cures(verifier: RunningVerifier, player: Player) -> None:
    player.node.measure("usr/bin/evil", b"evil")
    assert refusal(player.attest) == {Reason.LIST_UNKNOWN}
    player.node.reboot()
    player.attest([player.node.new_process()])
    assert set(verifier.statuses().values()) == {"valid"}


# 85: after the end of a credential


@pytest.mark.attack(number=85, attacker="a process that has ended", asset=CREDENTIAL)
@pytest.mark.parametrize("end", ["gone", "operator", "workload"])
def test_085_no_renewal_after_a_revocation(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, end: str
) -> None:
    other = player.node.new_process()
    player.attest([other])
    if end == "gone":
        verifier.door.gone(player.node.gone(process))
    elif end == "operator":
        verifier.operators.credential_revoke(player.claims(process).jti)
    else:
        other_id = f"spiffe://{TRUST_DOMAIN}/more"
        more = player.node.workload_toml().replace(player.node.identity, other_id)
        verifier.operators.put(WORKLOAD, more)
        verifier.operators.remove(WORKLOAD, player.node.identity)
    verifier.wait(400)
    outcomes = {one.key_name: one for one in player.attest().outcomes}
    refused = outcomes[process.key_name]
    assert refused.grant == ""
    assert [one.reason for one in refused.findings] == [Reason.PROCESS_UNKNOWN_KEY]
