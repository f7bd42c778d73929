"""When canaries are asked for, and what is remembered of them."""

import base64
from datetime import timedelta
from pathlib import Path

import pytest

from evidence.canary import MOST_CANARIES, CanaryReport, Place
from evidence.messages import Challenge, ChallengeRequest
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_keys import private_key
from tests.simulated_node import SimulatedNode
from verifier import Reason, Rejected
from verifier.canary import MOST_IN_A_BOOT, choose_places
from verifier.case import Exported, judge, outcome_of
from verifier.explanation import explain
from verifier.node import ASKED, FAILED, MISSING, SHOWN, Canary

DAY = 24 * 60 * 60
HERE = Place(uid=1001, device=0xFE00)
THERE = Place(uid=1001, device=0xFE01)


def canary(asked: int, state: str, place: Place = HERE) -> Canary:
    return Canary(nonce=b"nonce %d" % asked, place=place, asked=asked, state=state)


def is_due(now: int, *canaries: Canary) -> bool:
    return HERE in choose_places([HERE], canaries, now=now, every=DAY)


# Pure


def test_a_place_is_due_the_first_time_and_a_day_later() -> None:
    assert is_due(1000)
    assert not is_due(1001, canary(1000, SHOWN))
    assert not is_due(999 + DAY, canary(1000, SHOWN))
    assert is_due(1000 + DAY, canary(1000, SHOWN))
    assert is_due(1001, canary(1000, SHOWN, THERE))


@pytest.mark.parametrize("state", [ASKED, FAILED])
def test_a_place_that_shows_none_waits_twice_as_long_each_time(state: str) -> None:
    times = [1000]
    for pause in (1, 2, 4, 8, 16):
        asked = [canary(one, state) for one in times]
        assert not is_due(times[-1] + pause - 1, *asked)
        assert is_due(times[-1] + pause, *asked)
        times.append(times[-1] + pause)
    many = [canary(one, state) for one in range(50)]
    assert not is_due(49 + (1 << 16) - 1, *many)
    assert is_due(49 + (1 << 16), *many)


def test_pauses_begin_anew_once_one_was_shown() -> None:
    failed = [canary(one, FAILED) for one in range(50)]
    assert is_due(50 + DAY + 1, *failed, canary(50, SHOWN), canary(50 + DAY, FAILED))


def test_nothing_is_asked_for_where_one_was_missing() -> None:
    assert choose_places([THERE], [canary(0, MISSING)], now=DAY * 2, every=DAY) == ()


def test_a_challenge_and_a_boot_have_room_for_so_many() -> None:
    places = [Place(uid=uid, device=1) for uid in range(MOST_CANARIES + 9)]
    assert choose_places([*places, *places], [], now=0, every=DAY) == tuple(places[:MOST_CANARIES])
    held = [canary(one, SHOWN) for one in range(MOST_IN_A_BOOT - 2)]
    assert len(choose_places(places, held, now=0, every=DAY)) == 2
    held += [canary(one, SHOWN) for one in range(9)]
    assert choose_places(places, held, now=DAY * 1000, every=DAY) == ()


# The service


@pytest.fixture
def node(verifier: RunningVerifier) -> SimulatedNode:
    node = SimulatedNode(needs_canary=True)
    verifier.trust(node)
    return node


def states(verifier: RunningVerifier) -> list[str]:
    with verifier.service.reading() as reading:
        row = reading.node("build-7")
        assert row is not None
        return [one.state for one in row.canary_values]


def test_a_process_is_wanted_and_its_place_is_due(player: Player) -> None:
    process = player.node.new_process()
    assert player.door.wanted(player.node.wanted(process)).wants_canary
    assert player.challenge([process]).canaries == (process.place,)


def test_once_a_day_for_all_processes_of_a_place(player: Player, verifier: RunningVerifier) -> None:
    first, second = player.node.new_process(), player.node.new_process()
    player.attest([first])
    assert states(verifier) == [SHOWN]
    player.attest([second])
    assert len(player.tokens) == 2
    assert states(verifier) == [SHOWN]
    verifier.wait(DAY)
    player.attest()
    assert states(verifier) == [SHOWN, SHOWN]


def test_a_restart_of_the_verifier_forgets_nothing(
    player: Player, verifier: RunningVerifier
) -> None:
    player.attest([player.node.new_process()])
    verifier.restart()
    again = Player(player.node, verifier.service)
    process = player.node.new_process()
    assert again.challenge([process]).canaries == ()
    again.processes = player.processes
    again.tokens = player.tokens
    again.attest([process])
    assert process.key_name in again.tokens


def test_strangers_are_asked_for_none(player: Player, verifier: RunningVerifier) -> None:
    """They would fill the kernel's list, and what is remembered of the node."""
    request = ChallengeRequest(node="build-7", places=(HERE,))
    stranger = player.node.signed(request.encode(), private_key("stranger"))
    assert player.door.challenge(stranger).canaries == ()
    assert states(verifier) == []


def test_a_canary_whose_evidence_was_lost_is_known_later(
    player: Player, verifier: RunningVerifier
) -> None:
    process = player.node.new_process()
    player.node.let_loose(player.challenge([process]))
    verifier.wait(1)
    player.attest([process])
    assert states(verifier) == [ASKED, SHOWN]
    assert process.key_name in player.tokens


class Blind(SimulatedNode):
    """Its kernel does not measure what workloads run."""

    def let_loose(self, challenge: Challenge) -> tuple[CanaryReport, ...]:
        return tuple(CanaryReport(place=one, failure="") for one in challenge.canaries)


def test_a_missing_canary_ends_everything_until_the_node_reboots(
    verifier: RunningVerifier,
) -> None:
    """What the node's other places ran may be missing from the list as well."""
    node = Blind(needs_canary=True)
    verifier.trust(node)
    player = Player(node, verifier.service)
    player.enrol()
    player.attest()
    for _ in range(2):
        with pytest.raises(Rejected) as rejection:
            player.attest([node.new_process()])
        assert [one.reason for one in rejection.value.findings] == [Reason.KERNEL_POLICY_CANARY]
        verifier.wait(60)
    assert states(verifier) == [MISSING]
    node.reboot()
    player.attest()
    assert states(verifier) == []


def test_the_decision_can_be_judged_again_and_explained(
    player: Player, verifier: RunningVerifier
) -> None:
    player.attest([player.node.new_process()])
    last = [row.seq for row in verifier.ledger() if row.kind == "evidence.accepted"][-1]
    file = base64.b64decode(verifier.operators.ledger_evidence(last)["case"])
    case, recorded = Exported.decode(file).open()
    verdict = judge(case)
    assert outcome_of(verdict) == recorded
    links = explain(verdict, node=case.node, ek_hash="ab", policy=case.policy)
    (link,) = (one for one in links if one.number == 4)
    assert link.detail.endswith("the kernel measures for uid 1001, file system 0xfe00")


def test_how_often_is_configuration(tmp_path: Path) -> None:
    verifier = RunningVerifier(tmp_path, canary_every=timedelta(minutes=1))
    node = SimulatedNode(needs_canary=True)
    verifier.trust(node)
    player = Player(node, verifier.service)
    player.enrol()
    player.attest()
    player.attest([node.new_process()])
    verifier.wait(61)
    player.attest()
    assert states(verifier) == [SHOWN, SHOWN]
    verifier.close()
