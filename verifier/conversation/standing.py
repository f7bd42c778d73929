"""The standing of a node: whether it is enrolled, and which key is its accepted instance's."""

from verifier.reasons import Reason, label, reject
from verifier.rows import ENROLLED, REMOVED, NodeRow
from verifier.store import Transaction


def demand_enrolled(transaction: Transaction, name: str) -> NodeRow:
    """Return the node of this name; raise Rejected unless it is enrolled."""
    node = transaction.node(name)
    if node is None or node.status == REMOVED:
        raise reject(Reason.NODE_UNKNOWN, label(name), expected="an enrolled node")
    if node.status != ENROLLED:
        raise reject(Reason.NODE_PENDING, node.name, expected="an operator's approval of its EK")
    return node


def demand_instance(transaction: Transaction, name: str, signer: bytes) -> NodeRow:
    """Return the enrolled node of this name; raise Rejected unless its instance has signed."""
    node = demand_enrolled(transaction, name)
    if signer != node.instance:
        expected = "the instance key of the last accepted quote"
        raise reject(Reason.MESSAGE_INSTANCE, node.name, expected=expected, found=signer.hex())
    return node
