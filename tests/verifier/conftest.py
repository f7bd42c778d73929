"""What tests of the verifier share: the cast of its service."""

from tests.cast import node, party, player, process, verifier

__all__ = ["node", "party", "player", "process", "verifier"]
