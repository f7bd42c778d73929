"""Who attacks by asking, what they are after, and why a process is refused."""

from tests.simulated_node import SimulatedNode
from tests.simulated_process import SimulatedProcess
from tests.simulated_verifier import SimulatedVerifier, only, reasons
from verifier import Reason
from verifier.policy import ReferenceSet

PROCESS = "the process itself"
SIBLING = "a process of the same user"
USER = "an ordinary user of the node"
ROOT = "root on the node"
IDENTITY = "the identity"

OVERLAY = 0x794C7630
"""f_type of an overlay file system (Linux include/uapi/linux/magic.h)."""


def why(verifier: SimulatedVerifier, process: SimulatedProcess) -> set[Reason]:
    """Return why the new process is refused, on a node that is not."""
    verdict = verifier.judge(verifier.peer.evidence(verifier.challenge(), new=[process]))
    return reasons(only(verdict.processes))


def why_known(verifier: SimulatedVerifier, process: SimulatedProcess) -> set[Reason]:
    """Return why the process, accepted as it was, is refused as it is now."""
    verdict = verifier.judge(verifier.peer.evidence(verifier.challenge(), known=[process]))
    return reasons(only(verdict.processes))


def image_of(node: SimulatedNode, *files: str) -> ReferenceSet:
    """The image of a container, with these files of the node's."""
    known = {path: digests for one in node.policy().sets for path, digests in one.files.items()}
    return ReferenceSet(name="shop-2.1", files={path: known[path] for path in files})
