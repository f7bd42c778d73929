"""The cast of the service's tests: a verifier that runs, a node that it trusts, and who else plays.

A `conftest.py` names those that its tests share. A test file that needs one of them to be
different, another node say, has a fixture of that name; those that rest on it follow.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.open_doors import open_doors
from tests.relying_party import Party, register
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import AUDIENCE, SimulatedNode
from tests.simulated_process import SimulatedProcess


@pytest.fixture
def verifier(tmp_path: Path) -> Iterator[RunningVerifier]:
    running = RunningVerifier(tmp_path)
    yield running
    running.close()


@pytest.fixture
def node(verifier: RunningVerifier) -> SimulatedNode:
    """A node of which everything is known that it needs to be accepted; it is not enrolled."""
    node = SimulatedNode()
    verifier.trust(node)
    return node


@pytest.fixture
def player(node: SimulatedNode, verifier: RunningVerifier) -> Player:
    """The node's side: enrolled, accepted once, without processes."""
    player = Player(node, verifier.service)
    player.enrol()
    player.attest()
    return player


@pytest.fixture
def process(player: Player) -> SimulatedProcess:
    """A process with a credential."""
    process = player.node.new_process()
    player.attest([process])
    return process


@pytest.fixture
def party(verifier: RunningVerifier) -> Iterator[Party]:
    """A relying party, and both doors open."""
    with open_doors(verifier.service) as door:
        yield register(verifier, door, "ledger", AUDIENCE)


__all__ = ["node", "party", "player", "process", "verifier"]
