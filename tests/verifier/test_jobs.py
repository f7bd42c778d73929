"""Credentials of a job's steps: what they say, and that they end with the parent's or the job.

A running verifier and its ledger; the nodes are simulated.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from evidence import Malformed
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import SimulatedNode
from tests.simulated_process import IDENTITY, SimulatedProcess
from tests.verifier.test_origin import JOB, STEP, new_step, step_toml
from verifier.case import WORKLOAD
from verifier.ledger import Cause, Kind

BELOW = f"{STEP}/helper"


@pytest.fixture
def node(node: SimulatedNode, verifier: RunningVerifier) -> SimulatedNode:
    """A node whose controller has steps, which have steps."""
    verifier.operators.put(WORKLOAD, step_toml(node))
    verifier.operators.put(WORKLOAD, step_toml(node, parent=STEP, id_=BELOW))
    return node


@pytest.fixture
def controller(player: Player) -> SimulatedProcess:
    return start(player, player.node.new_process())


@pytest.fixture
def step(player: Player, controller: SimulatedProcess) -> SimulatedProcess:
    return start(player, new_step(player.node, controller))


@pytest.fixture
def below(player: Player, step: SimulatedProcess) -> SimulatedProcess:
    """A step of the step's."""
    return start(player, new_step(player.node, step, core={"identity": BELOW}))


def start(player: Player, process: SimulatedProcess) -> SimulatedProcess:
    player.attest([process])
    assert process.key_name in player.tokens
    return process


def status_of(verifier: RunningVerifier, player: Player, process: SimulatedProcess) -> str:
    return verifier.statuses()[player.claims(process).jti]


def test_what_it_says(
    verifier: RunningVerifier, player: Player, step: SimulatedProcess, below: SimulatedProcess
) -> None:
    claims = player.claims(step)
    assert (claims.id, claims.procseal.parent, claims.procseal.job) == (STEP, IDENTITY, JOB)
    assert player.claims(below).procseal.parent == STEP
    issued = {
        row.subject: row.body for row in verifier.ledger() if row.kind == Kind.CREDENTIAL_ISSUED
    }
    assert (issued[STEP]["parent"], issued[STEP]["job"]) == (IDENTITY, JOB)
    assert (issued[IDENTITY]["parent"], issued[IDENTITY]["job"]) == ("", "")


def exits(_: RunningVerifier, player: Player, process: SimulatedProcess) -> None:
    player.door.gone(player.node.gone(process))


def drifts(_: RunningVerifier, player: Player, process: SimulatedProcess) -> None:
    others = [one for one in player.processes if one.key_name != process.key_name]
    player.processes = [*others, process.looking(anonymous_executable=4096)]
    player.attest()


def is_not_reported(_: RunningVerifier, player: Player, process: SimulatedProcess) -> None:
    player.processes = [one for one in player.processes if one.key_name != process.key_name]
    player.attest()


def loses_its_workload(verifier: RunningVerifier, _: Player, process: SimulatedProcess) -> None:
    verifier.operators.remove(WORKLOAD, process.core.identity)


@pytest.mark.parametrize(
    ("happens", "cause"),
    [
        pytest.param(exits, Cause.EXITED, id="exit"),
        pytest.param(drifts, Cause.REFUSED, id="drift"),
        pytest.param(is_not_reported, Cause.NOT_REPORTED, id="not reported"),
        pytest.param(loses_its_workload, Cause.WORKLOAD_REMOVED, id="workload"),
    ],
)
def test_it_ends_with_its_parent(  # noqa: PLR0913, PLR0917
    verifier: RunningVerifier,
    player: Player,
    controller: SimulatedProcess,
    step: SimulatedProcess,
    below: SimulatedProcess,
    happens: Callable[[RunningVerifier, Player, SimulatedProcess], None],
    cause: Cause,
) -> None:
    """Whatever ends the parent's, in the same transaction, and what the step had launched."""
    tokens = [player.claims(one).jti for one in (controller, step, below)]
    happens(verifier, player, controller)
    statuses = verifier.statuses()
    assert [statuses[one] for one in tokens] == [cause, Cause.PARENT_ENDED, Cause.PARENT_ENDED]
    revoked = [row for row in verifier.ledger() if row.kind == Kind.CREDENTIAL_REVOKED]
    assert [row.subject for row in revoked] == [IDENTITY, STEP, BELOW]  # once each, top down


def test_the_end_of_a_step_is_not_its_parents(
    verifier: RunningVerifier,
    player: Player,
    controller: SimulatedProcess,
    step: SimulatedProcess,
    below: SimulatedProcess,
) -> None:
    other = start(player, new_step(player.node, controller))
    player.door.gone(player.node.gone(step, str(Cause.JOB_ENDED)))
    found = [status_of(verifier, player, one) for one in (controller, other, step, below)]
    assert found == ["valid", "valid", Cause.JOB_ENDED, Cause.PARENT_ENDED]


def test_what_happens_to_the_whole_node_has_its_own_cause(
    verifier: RunningVerifier, player: Player, controller: SimulatedProcess, step: SimulatedProcess
) -> None:
    verifier.operators.node_remove(player.node.name)
    found = [status_of(verifier, player, one) for one in (controller, step)]
    assert found == [Cause.NODE_REMOVED] * 2


@pytest.mark.parametrize("cause", [Cause.OPERATOR, Cause.NODE_REFUSED, Cause.LATE])
def test_causes_that_no_node_may_give(player: Player, step: SimulatedProcess, cause: Cause) -> None:
    with pytest.raises(Malformed):
        player.door.gone(player.node.gone(step, str(cause)))


def test_a_token_ends_no_later_than_its_parents(
    verifier: RunningVerifier, player: Player, controller: SimulatedProcess
) -> None:
    """And is renewed for as long as that is, no more often than its own workload says."""
    verifier.wait(200)
    step = start(player, new_step(player.node, controller))
    assert player.claims(step).expires == player.claims(controller).expires
    seen = set()
    for _ in range(40):
        verifier.wait(30)
        player.attest()
        mine, parents = player.claims(step), player.claims(controller)
        assert verifier.now() < mine.expires <= parents.expires
        seen.add(mine.jti)
    assert mine.expires - mine.issued <= timedelta(minutes=10)
    assert len(seen) <= 5
