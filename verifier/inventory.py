"""The inventory: which EKs are ours, as an operator pastes them.

# EK hash (`attestor ek`)                                         node
5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9  build-7
"""

import re
from pathlib import Path

from verifier.config import Misconfigured
from verifier.enrolment import Allowed
from verifier.reference import NODE

_HASH = re.compile(r"[0-9a-f]{64}")


def read_inventory(path: Path) -> frozenset[Allowed]:
    """Return the lines of the file; raise Misconfigured where it says anything else."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: {error}") from error
    inventory: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != len(("hash", "node")) or not _fits(*words):
            raise Misconfigured(f"{path}:{number}: expected an EK hash and the name of a node")
        if words[0] in inventory or words[1] in inventory.values():
            raise Misconfigured(f"{path}:{number}: an EK or a node for the second time")
        inventory[words[0]] = words[1]
    return frozenset(Allowed(ek_hash=ek_hash, node=node) for ek_hash, node in inventory.items())


def _fits(ek_hash: str, node: str) -> bool:
    return _HASH.fullmatch(ek_hash) is not None and NODE.fullmatch(node) is not None
