"""Attacks on the quote: fresh, of this TPM, over these registers, or refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evidence import Malformed, tpm
from evidence.messages import QUOTED_REGISTERS
from tests.simulated_keys import ecc_public, sha256
from tests.simulated_node import NOW, SimulatedNode
from tests.simulated_tpm import SimulatedTpm
from tests.simulated_verifier import SimulatedVerifier
from verifier import Reason, Rejected, appraise


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(node)


@pytest.mark.attack(number=1, attacker="the network", asset="the node's verdict")
def test_001_a_quote_with_an_old_nonce(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    recorded = node.unsigned_evidence(verifier.challenge())
    fresh = verifier.challenge()
    relabelled = replace(recorded, challenge=fresh.digest())
    assert verifier.refusal(relabelled) == {Reason.QUOTE_BINDING}
    assert verifier.refusal(recorded) >= {Reason.CHALLENGE_UNKNOWN, Reason.QUOTE_BINDING}


@pytest.mark.attack(number=2, attacker="the network", asset="the node's verdict")
@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda bound: bound[:20], id="cut short"),
        pytest.param(lambda bound: bound + b"\0", id="a byte more"),
        pytest.param(lambda bound: b"\0" + bound, id="a byte before"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_002_a_nonce_that_only_begins_alike(
    node: SimulatedNode, verifier: SimulatedVerifier, bend: Callable[[Any], Any]
) -> None:
    challenge = verifier.challenge()
    honest = tpm.Attest.decode(node.unsigned_evidence(challenge).quote)
    bent = node.unsigned_evidence(challenge, quote={"extra_data": bend(honest.extra_data)})
    assert verifier.refusal(bent) == {Reason.QUOTE_BINDING}


@pytest.mark.attack(number=3, attacker="root on the node", asset="the node's verdict")
def test_003_another_attestation_than_a_quote(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    creation = tpm.Creation(name=node.tpm.ak.name(), creation_hash=sha256(b""))
    evidence = node.unsigned_evidence(verifier.challenge(), quote={"attested": creation})
    assert verifier.refusal(evidence) == {Reason.QUOTE_TYPE}


@pytest.mark.attack(number=3, attacker="root on the node", asset="the node's verdict")
@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(slice(0, 4), b"\xff\x54\x43\x48", id="wrong magic"),
        pytest.param(slice(4, 6), b"\x80\x17", id="certify"),
        pytest.param(slice(4, 6), b"\x80\x19", id="time"),
        pytest.param(slice(4, 6), b"\x80\x14", id="NV"),
    ],
)
def test_003_a_structure_that_is_no_quote(
    node: SimulatedNode, verifier: SimulatedVerifier, place: slice, value: bytes
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    forged = bytearray(evidence.quote)
    forged[place] = value
    signature = node.tpm.signature(bytes(forged))
    with pytest.raises(Malformed):
        verifier.judge(replace(evidence, quote=bytes(forged), signature=signature))


@pytest.mark.attack(number=4, attacker="root on the node", asset="the node's verdict")
def test_004_a_key_that_was_never_enrolled(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    impostor = SimulatedTpm("another")
    node.tpm.ak_key, node.tpm.ak = impostor.ak_key, impostor.ak
    evidence = node.unsigned_evidence(verifier.challenge())
    assert verifier.refusal(evidence) == {Reason.QUOTE_SIGNATURE}


@pytest.mark.attack(number=5, attacker="root on the node", asset="the node's verdict")
@pytest.mark.attack(number=93, attacker="root on the node", asset="the node's verdict")
@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param(0x40072, id="not restricted"),
        pytest.param(0x10072, id="does not sign"),
        pytest.param(0x70072, id="decrypts"),
        pytest.param(0x50070, id="leaves its TPM"),
        pytest.param(0x50062, id="leaves its parent"),
        pytest.param(0x50052, id="made outside"),
        pytest.param(0x50872, id="duplicated encrypted"),
        pytest.param(0xD0072, id="signs certificates"),
    ],
)
def test_005_a_key_that_signs_whatever_it_is_given(
    node: SimulatedNode, verifier: SimulatedVerifier, attributes: int
) -> None:
    """It was enrolled by some mistake: its attributes are looked at again at every use."""
    weak = ecc_public(node.tpm.ak_key, attributes=attributes)
    verifier.node = replace(verifier.node, ak_public=weak.encode())
    node.tpm.ak = weak
    evidence = node.unsigned_evidence(verifier.challenge())
    assert verifier.refusal(evidence) == {Reason.QUOTE_AK}


def _selection(*registers: int, bank: int = tpm.ALG_SHA256) -> tpm.PcrSelection:
    return tpm.PcrSelection(bank=bank, registers=registers)


def _without(register: int) -> tuple[tpm.PcrSelection, ...]:
    return (_selection(*(one for one in QUOTED_REGISTERS if one != register)),)


ALL = _selection(*QUOTED_REGISTERS)
SELECTIONS = [
    pytest.param(_without(10), id="without 10", marks=pytest.mark.attack(
        number=6, attacker="root on the node", asset="the node's verdict")),
    pytest.param(_without(7), id="without 7", marks=pytest.mark.attack(
        number=6, attacker="root on the node", asset="the node's verdict")),
    pytest.param(_without(13), id="without 13", marks=pytest.mark.attack(
        number=6, attacker="root on the node", asset="the node's verdict")),
    pytest.param(_without(10), id="no list register", marks=pytest.mark.attack(
        number=95, attacker="root on the node", asset="the node's verdict")),
    pytest.param(
        (_selection(*QUOTED_REGISTERS, bank=tpm.ALG_SHA1),), id="only SHA-1",
        marks=pytest.mark.attack(
            number=7, attacker="root on the node", asset="the node's verdict")),
    pytest.param(
        (_selection(*range(10), bank=tpm.ALG_SHA1), _selection(*range(10, 16))),
        id="two banks mixed", marks=pytest.mark.attack(
            number=8, attacker="root on the node", asset="the node's verdict")),
    *(
        pytest.param(selections, id=name, marks=pytest.mark.attack(
            number=94, attacker="root on the node", asset="the node's verdict"))
        for name, selections in {
            "empty": (),
            "no register": (_selection(),),
            "one more": (_selection(*QUOTED_REGISTERS, 16),),
            "16 for 10": (_selection(*(16 if one == 10 else one for one in QUOTED_REGISTERS)),),
            "twice": (ALL, ALL),
            "a bank more": (ALL, _selection(0, bank=tpm.ALG_SHA1)),
            "in two parts": (_selection(*range(8)), _selection(*range(8, 16))),
        }.items()
    ),
]  # fmt: skip


@pytest.mark.parametrize("selections", SELECTIONS)
def test_094_registers_other_than_the_requested(
    node: SimulatedNode, verifier: SimulatedVerifier, selections: tuple[tpm.PcrSelection, ...]
) -> None:
    """The unsigned values still claim to be all sixteen, and their hash is the signed one."""
    quote = tpm.Quote(selections=selections, digest=sha256(b"".join(node.tpm.registers)))
    evidence = node.unsigned_evidence(verifier.challenge(), quote={"attested": quote})
    assert verifier.refusal(evidence) == {Reason.QUOTE_SELECTION}


@pytest.mark.attack(number=9, attacker="root on the node", asset="the node's verdict")
def test_009_register_values_that_suit_the_list(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The values and the list without its last record agree; the signed digest does not."""
    node.measure("usr/bin/evil", b"evil")
    evidence = node.unsigned_evidence(verifier.challenge())
    clean = SimulatedNode()
    assert clean.tpm.registers[15] == node.tpm.registers[15]
    swapped = replace(
        evidence,
        registers=tuple(clean.tpm.registers),
        records=b"".join(record.encode() for record in clean.records),
    )
    assert verifier.refusal(swapped) == {Reason.QUOTE_DIGEST}


@pytest.mark.attack(number=9, attacker="root on the node", asset="the node's verdict")
@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda values: values[:15], id="one less"),
        pytest.param(lambda values: (*values, bytes(32)), id="one more"),
        pytest.param(lambda values: (b"".join(values),), id="all in one"),
        pytest.param(lambda values: (values[0] + values[1][:1], values[1][1:], *values[2:]),
                     id="another border"),
        pytest.param(lambda _: (), id="none"),
    ],
)  # fmt: skip
def test_009_register_values_of_other_lengths(
    node: SimulatedNode, verifier: SimulatedVerifier, bend: Callable[[Any], Any]
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    bent = replace(evidence, registers=bend(evidence.registers))
    assert verifier.refusal(bent) == {Reason.QUOTE_DIGEST}


@pytest.mark.attack(number=10, attacker="root on the node", asset="the node's verdict")
def test_010_another_boot_between_challenge_and_answer(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The rest of a list that another boot began: the whole list is asked for again."""
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    challenge = verifier.challenge()
    assert challenge.first_record > 0
    node.reboot()
    assert verifier.refusal(node.evidence(challenge)) == {Reason.BOOT_CHANGED}
    again = verifier.challenge()
    assert again.first_record == 0
    verdict = verifier.judge(node.evidence(again, known=[process]))
    assert verdict.forgets_known


@pytest.mark.attack(number=11, attacker="root on the node", asset="the node's verdict")
def test_011_a_clock_that_went_back(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    seen = verifier.node.clock
    assert seen is not None
    node.tpm.clock = seen.clock - 5_000
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.QUOTE_CLOCK}
    node.tpm.clock = seen.clock - 1_000
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.QUOTE_CLOCK}
    assert verifier.node.clock == seen


@pytest.mark.attack(number=11, attacker="root on the node", asset="the node's verdict")
def test_011_a_reset_count_that_went_back(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """Refused until an operator enrols the same EK again, which forgets the clock."""
    node.tpm.reset_count = 40
    verifier.judge(node.evidence(verifier.challenge()))
    node.tpm.reset_count = 39
    node.reboot()
    node.tpm.reset_count = 39
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.QUOTE_RESET}
    verifier.node = replace(verifier.node, clock=None)
    verifier.checkpoint = None
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=11, attacker="root on the node", asset="the node's verdict")
@pytest.mark.parametrize(("first", "then"), [(2, 1), (0, 1)], ids=["went back", "grew"])
def test_011_a_restart_count_that_changed_within_a_boot(
    node: SimulatedNode, verifier: SimulatedVerifier, first: int, then: int
) -> None:
    """A TPM that restarts, and is no machine that resumes, has empty registers to extend anew.

    Refused until the next boot, which starts with the count that it has then.
    """
    node.tpm.restart_count = first
    verifier.judge(node.evidence(verifier.challenge()))
    node.tpm.restart_count = then
    for _ in range(2):
        assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.QUOTE_RESTART}
    assert verifier.node.clock is not None
    assert verifier.node.clock.restart_count == first
    node.reboot()
    node.tpm.restart_count = 3
    assert verifier.judge(node.evidence(verifier.challenge())).clock.restart_count == 3


@pytest.mark.attack(number=11, attacker="a power cut", asset="the node's verdict")
def test_011_an_unclean_shutdown_is_reported_and_refuses_nothing(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.tpm.safe = False
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert [finding.reason for finding in verdict.reported] == [Reason.QUOTE_CLOCK_UNSAFE]


@pytest.mark.attack(number=11, attacker="a power cut", asset="the node's verdict")
def test_011_a_clock_that_repeats_after_a_power_cut(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A higher reset count is another boot, whatever its clock says."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.reboot()
    node.tpm.clock = 5
    assert verifier.judge(node.evidence(verifier.challenge())).forgets_known


def test_a_tpm_that_has_never_been_reset(verifier: SimulatedVerifier) -> None:
    node = verifier.peer
    node.tpm.reset_count = 0
    assert verifier.judge(node.evidence(verifier.challenge())).forgets_known
    assert not verifier.judge(node.evidence(verifier.challenge())).forgets_known


@pytest.mark.attack(number=12, attacker="root on another node", asset="the node's verdict")
def test_012_an_honest_quote_of_another_node(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    other = SimulatedNode("build-8")
    evidence = other.unsigned_evidence(verifier.challenge(), node=node.name)
    assert verifier.refusal(other.signed(evidence.encode())) == {Reason.QUOTE_SIGNATURE}


@pytest.mark.attack(number=12, attacker="root on another node", asset="the node's verdict")
def test_012_evidence_for_another_name(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    evidence = node.unsigned_evidence(verifier.challenge(), node="build-8")
    assert verifier.refusal(evidence) == {Reason.NODE_ANOTHER}


@pytest.mark.attack(number=13, attacker="root on the node", asset="the node's verdict")
def test_013_a_signature_by_another_scheme(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    signature = tpm.Signature.decode(evidence.signature)
    weak = replace(signature, hash=tpm.ALG_SHA1).encode()
    assert verifier.refusal(replace(evidence, signature=weak)) == {Reason.QUOTE_SCHEME}


def test_a_key_of_another_hierarchy(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """The same template under owner is the same public area, with an obfuscated clock."""
    owner = node.tpm.ak.qualified_name(tpm.hierarchy_name(tpm.RH_OWNER))
    evidence = node.unsigned_evidence(verifier.challenge(), quote={"qualified_signer": owner})
    assert verifier.refusal(evidence) == {Reason.QUOTE_SIGNER}


@pytest.mark.attack(number=96, attacker="the network", asset="the node's verdict")
def test_096_a_challenge_that_has_expired(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    challenge = verifier.challenge(expires=int(NOW.timestamp()))
    assert verifier.refusal(node.evidence(challenge)) == {Reason.CHALLENGE_EXPIRED}


@pytest.mark.attack(number=96, attacker="another node", asset="the node's verdict")
def test_096_a_challenge_of_another_node(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    challenge = verifier.challenge(node="build-8")
    assert verifier.refusal(node.evidence(challenge)) == {Reason.NODE_ANOTHER}


@pytest.mark.attack(number=96, attacker="another verifier", asset="the node's verdict")
def test_096_a_challenge_of_another_trust_domain(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    challenge = verifier.challenge(trust_domain="example.net")
    assert verifier.refusal(node.evidence(challenge)) == {Reason.CHALLENGE_TRUST_DOMAIN}


@pytest.mark.attack(number=96, attacker="the network", asset="the node's verdict")
@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda digest: digest.hex().encode(), id="hexadecimal"),
        pytest.param(lambda digest: digest[:31], id="cut short"),
    ],
)
def test_096_a_challenge_written_otherwise(
    node: SimulatedNode, verifier: SimulatedVerifier, bend: Callable[[Any], Any]
) -> None:
    challenge = verifier.challenge()
    evidence = node.unsigned_evidence(challenge, challenge=bend(challenge.digest()))
    assert verifier.refusal(evidence) == {Reason.CHALLENGE_UNKNOWN}


@pytest.mark.attack(number=96, attacker="the network", asset="the node's verdict")
def test_096_the_same_answer_twice(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """A verifier spends its challenge first; even where it did not, the clock stands still."""
    message = node.evidence(verifier.challenge())
    verifier.judge(message)
    assert verifier.refusal(message) >= {Reason.QUOTE_CLOCK}


@pytest.mark.attack(number=97, attacker="whoever finds a bug", asset="the node's verdict")
@pytest.mark.parametrize(
    "step",
    [
        "require_policy",
        "verify_signature",
        "verify_quote",
        "verify_instance",
        "replay_list",
        "verify_boot",
        "verify_kernel_policy",
        "judge_records",
        "judge_processes",
    ],
)
@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), MemoryError(), ValueError()])
def test_097_an_exception_in_any_step(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: Exception,
) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    before = verifier.checkpoint

    def fail(*_: object, **__: object) -> None:
        raise error

    message = node.evidence(verifier.challenge(), new=[node.new_process()])
    with monkeypatch.context() as patch:
        patch.setattr(f"verifier.appraisal.{step}", fail)
        assert verifier.refusal(message) == {Reason.INTERNAL}
    assert verifier.checkpoint == before


@pytest.mark.attack(number=97, attacker="whoever finds a bug", asset="the node's verdict")
def test_097_a_time_without_zone_is_no_accept(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    challenge = verifier.challenge()
    evidence = node.unsigned_evidence(challenge)
    with pytest.raises(Rejected) as rejection:
        appraise(
            evidence,
            signer=node.instance,
            challenge=challenge,
            node=verifier.node,
            checkpoint=None,
            measured=(),
            boot_log=b"",
            policy=verifier.policy,
            address="",
            now=None,  # type: ignore[arg-type]
        )
    assert [finding.reason for finding in rejection.value.findings] == [Reason.INTERNAL]
    assert rejection.value.clock_seen is not None


@pytest.mark.attack(number=127, attacker="root on the node", asset="the node's verdict")
def test_127_evidence_held_back(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """Made while the node was good, kept, and shown after worse evidence had been refused."""
    held_challenge = verifier.challenge()
    held = node.evidence(held_challenge)
    node.measure("usr/bin/evil", b"evil")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
    assert verifier.refusal(held, challenge=held_challenge) == {Reason.QUOTE_CLOCK}
