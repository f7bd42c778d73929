"""What attacks on evidence share: an honest node in memory, and a verifier that appraises it."""

import pytest

from tests.simulated_node import SimulatedNode
from tests.simulated_verifier import SimulatedVerifier


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(node)
