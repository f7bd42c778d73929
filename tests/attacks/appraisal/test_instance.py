"""Attacks on the claim which attestor speaks: the one that register 15 names, or nobody."""

from dataclasses import replace

import pytest

from evidence import Malformed
from evidence.messages import INSTANCE_REGISTER, MOST_HAND_OVERS, HandOver
from tests.simulated_keys import point_bytes, private_key, sha256
from tests.simulated_node import SimulatedNode
from tests.simulated_tpm import ZERO
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason, Rejected, verify_signed

ROOT = "root on the node, with a known interpreter"
ASSET = "the attestor's voice"


@pytest.mark.attack(number=121, attacker=ROOT, asset=ASSET)
def test_121_everything_forged_but_the_instance_key(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The AK is no secret, so the quote and the certification are genuine."""
    process = node.new_process()
    evidence = node.unsigned_evidence(verifier.challenge(), body=node.body([process]))
    forged = node.signed(evidence.encode(), private_key("forger"))
    assert verifier.refusal(forged) == {Reason.INSTANCE_SIGNER}


@pytest.mark.attack(number=121, attacker=ROOT, asset=ASSET)
def test_121_a_body_that_names_the_forgers_key(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    forger = private_key("forger")
    body = node.body(instances=(sha256(point_bytes(forger)),))
    evidence = node.unsigned_evidence(verifier.challenge(), body=body)
    forged = node.signed(evidence.encode(), forger)
    assert verifier.refusal(forged) == {Reason.INSTANCE_REGISTER}


@pytest.mark.attack(number=121, attacker="the network", asset=ASSET)
@pytest.mark.parametrize("part", ["payload", "key", "signature"])
def test_121_a_message_changed_on_the_way(
    node: SimulatedNode, verifier: SimulatedVerifier, part: str
) -> None:
    message = node.evidence(verifier.challenge())
    other = node.signed(b"another", private_key("forger"))
    with pytest.raises(Rejected) as rejection:
        verify_signed(replace(message, **{part: getattr(other, part)}))
    assert [one.reason for one in rejection.value.findings] == [Reason.MESSAGE_SIGNATURE]


@pytest.mark.attack(number=121, attacker="the network", asset=ASSET)
@pytest.mark.parametrize(
    ("key", "signature"),
    [
        pytest.param(b"", b"", id="empty"),
        pytest.param(b"\x04" + bytes(64), bytes(64), id="zeros"),
        pytest.param(b"\x02" + bytes(32), bytes(64), id="compressed"),
        pytest.param(None, bytes(64), id="r and s zero"),
        pytest.param(None, b"\xff" * 64, id="r and s beyond the order"),
        pytest.param(None, b"", id="no signature"),
    ],
)
def test_121_keys_and_signatures_that_are_none(
    node: SimulatedNode, key: bytes | None, signature: bytes
) -> None:
    message = node.signed(b"payload")
    with pytest.raises(Rejected) as rejection:
        verify_signed(
            replace(message, key=message.key if key is None else key, signature=signature)
        )
    assert [one.reason for one in rejection.value.findings] == [Reason.MESSAGE_SIGNATURE]


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_a_second_attestor_beside_the_first(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Whichever of the two speaks: the second is not approved, the first is no longer the last."""
    verifier.judge(node.evidence(verifier.challenge()))
    first_key = node.instance_key
    node.start_again()
    challenge = verifier.challenge()
    assert challenge.first_record == 0
    evidence = node.unsigned_evidence(challenge)
    assert verifier.refusal(node.signed(evidence.encode())) == {Reason.INSTANCE_SECOND}
    evidence = node.unsigned_evidence(verifier.challenge())
    refused = verifier.refusal(node.signed(evidence.encode(), first_key))
    assert refused == {Reason.INSTANCE_SECOND, Reason.INSTANCE_SIGNER}


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_a_second_start_that_an_operator_has_approved(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Accepted; the processes of the instance before are not known any longer."""
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    node.start_again()
    verifier.node = replace(verifier.node, approved_instances=(node.instance,))
    verdict = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    assert verdict.forgets_known
    assert verdict.starts_over
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_UNKNOWN_KEY}
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[node.new_process()]))
    assert not verdict.forgets_known
    assert accepted(verdict)


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_an_approval_of_another_start(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    node.start_again()
    approved = node.instance
    node.start_again()
    verifier.node = replace(verifier.node, approved_instances=(approved,))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_SECOND}


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_a_register_that_was_not_zero_at_the_start(verifier: SimulatedVerifier) -> None:
    node = SimulatedNode()
    node.tpm.registers[INSTANCE_REGISTER] = ZERO
    node.tpm.extend(INSTANCE_REGISTER, sha256(b"somebody"))
    node.tpm.extend(INSTANCE_REGISTER, node.instance)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_REGISTER}
    told = node.body(instances=(sha256(b"somebody"), node.instance))
    evidence = node.unsigned_evidence(verifier.challenge(), body=told)
    assert verifier.refusal(evidence) == {Reason.INSTANCE_SECOND}


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
@pytest.mark.parametrize("by", [b"somebody", None])
def test_122_a_register_extended_once_more(
    node: SimulatedNode, verifier: SimulatedVerifier, by: bytes | None
) -> None:
    extension = node.instance if by is None else sha256(by)
    node.tpm.extend(INSTANCE_REGISTER, extension)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_REGISTER}
    told = node.body(instances=(node.instance, extension))
    evidence = node.unsigned_evidence(verifier.challenge(), body=told)
    expected = {Reason.INSTANCE_SECOND} if by is None else {
        Reason.INSTANCE_SECOND, Reason.INSTANCE_SIGNER,
    }  # fmt: skip
    assert verifier.refusal(evidence) == expected


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
@pytest.mark.parametrize("instances", [(), (b"",), (b"short",)])
def test_122_a_register_that_no_attestor_has_extended(
    node: SimulatedNode, verifier: SimulatedVerifier, instances: tuple[bytes, ...]
) -> None:
    node.tpm.registers[INSTANCE_REGISTER] = ZERO
    evidence = node.unsigned_evidence(verifier.challenge(), body=node.body(instances=instances))
    assert verifier.refusal(evidence) >= {Reason.INSTANCE_REGISTER, Reason.INSTANCE_SIGNER}


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_an_extension_cut_in_two(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """Digests of other lengths could be joined in another way to the same register."""
    halves = (node.instance[:16], node.instance[16:])
    evidence = node.unsigned_evidence(verifier.challenge(), body=node.body(instances=halves))
    assert verifier.refusal(evidence) >= {Reason.INSTANCE_REGISTER}


@pytest.mark.attack(number=14, attacker="whoever resets the TPM", asset=ASSET)
def test_014_a_tpm_reset_under_a_running_kernel(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Registers extended again as they were; list, keys and instance are of the boot before."""
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    registers = list(node.tpm.registers)
    node.tpm.reset()
    node.tpm.registers = registers
    rest = verifier.challenge()
    assert verifier.refusal(node.evidence(rest, known=[process])) == {Reason.INSTANCE_BOOT}
    whole = verifier.challenge()
    assert whole.first_record == 0
    assert verifier.refusal(node.evidence(whole, known=[process])) == {Reason.INSTANCE_BOOT}


def test_another_instance_in_the_same_boot_without_a_second_extension(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Register 15 shows one start, and yet not the start that was accepted: somebody lies."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.tpm.registers[INSTANCE_REGISTER] = ZERO
    node.instances = []
    node.start_again()
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_SECOND}


# Hand-overs


def test_a_successor_speaks(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """No operator is needed; the processes of the instance before are not known any longer."""
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    node.hand_over()
    verdict = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    assert verdict.forgets_known
    assert verdict.starts_over
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_UNKNOWN_KEY}
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[node.new_process()])))


@pytest.mark.parametrize("is_heard", [True, False], ids=["heard of", "never heard of"])
def test_a_chain_of_successors(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    is_heard: bool,  # noqa: FBT001
) -> None:
    """Some of them may have ended before they had said anything to the verifier, or all."""
    if is_heard:
        verifier.judge(node.evidence(verifier.challenge()))
    for _ in range(4):
        node.hand_over()
    assert verifier.judge(node.evidence(verifier.challenge())).starts_over


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"node": "another"}, id="on another node"),
        pytest.param({"boot": "41c0d9a2-0000-4000-8000-000000000001"}, id="of another boot"),
        pytest.param({"earlier": bytes(32)}, id="by another instance, it says"),
    ],
)
def test_122_a_hand_over_that_says_something_else(
    node: SimulatedNode, verifier: SimulatedVerifier, changes: dict[str, object]
) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    node.hand_over(**changes)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_HAND_OVER}


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_a_hand_over_to_somebody_else(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    node.hand_over(later=sha256(b"somebody"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_SECOND}


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
@pytest.mark.parametrize("part", ["payload", "key", "signature"])
def test_122_a_hand_over_signed_by_another_key(
    node: SimulatedNode, verifier: SimulatedVerifier, part: str
) -> None:
    """By the successor's own, for one."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.hand_over()
    (true,) = node.hand_overs
    own = node.signed(true.payload)
    forged = own if part == "payload" else replace(true, **{part: getattr(own, part)})
    node.hand_overs = [forged]
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_HAND_OVER}


@pytest.mark.attack(number=102, attacker=ROOT, asset=ASSET)
@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_an_instance_that_has_handed_over_names_another(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Its word ended with the hand-over, whoever has its key now."""
    first_key, first = node.instance_key, node.instance
    node.hand_over()
    verifier.judge(node.evidence(verifier.challenge()))
    node.start_again()
    again = HandOver(node=node.name, boot=node.boot_id, earlier=first, later=node.instance)
    node.hand_overs.append(node.signed(again.encode(), first_key))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_HAND_OVER}


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_a_hand_over_replayed_after_a_third_start(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The second instance extends the register once more, behind somebody who was not asked."""
    node.hand_over()
    second_key = node.instance_key
    verifier.judge(node.evidence(verifier.challenge()))
    node.start_again()
    node.instance_key = second_key
    node.instances.append(node.instance)
    node.tpm.extend(INSTANCE_REGISTER, node.instance)
    found = verifier.refusal(node.evidence(verifier.challenge()))
    assert found == {Reason.INSTANCE_SECOND, Reason.INSTANCE_HAND_OVER}


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_a_successor_of_one_that_nobody_approved(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    node.start_again()
    node.hand_over()
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.INSTANCE_SECOND}
    verifier.node = replace(verifier.node, approved_instances=(node.instances[1],))
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_more_hand_overs_than_anybody_reads(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.hand_over()
    node.hand_overs *= MOST_HAND_OVERS + 1
    with pytest.raises(Malformed):
        verifier.judge(node.evidence(verifier.challenge()))
