"""Nodes, as operators see and change them."""

import re

from evidence import Malformed
from verifier.endings import revoke_all
from verifier.grants import close_all
from verifier.ledger import Cause, Entry, Kind
from verifier.operations.answers import Json, Unfit, time_text
from verifier.reasons import Reason, label
from verifier.rows import ENROLLED, PENDING, REMOVED, NodeRow
from verifier.service import Service
from verifier.store import Transaction


def list_nodes(service: Service) -> list[Json]:
    """Return the nodes by name."""
    with service.transaction() as transaction:
        return [node_json(row) for row in transaction.nodes()]


def approve_node(service: Service, node: str, ek_hash: str = "") -> Json:
    """Approve the EK of a pending node; with `ek_hash`, only if it is that one."""
    with service.transaction() as transaction:
        row = node_row(transaction, node)
        if ek_hash and ek_hash != row.ek_hash:
            raise Unfit("node.of-another-ek", node, expected=ek_hash, found=row.ek_hash)
        if row.status == PENDING:
            row.status, row.is_barred = ENROLLED, False
            row.version += 1
            body = {"ek_hash": row.ek_hash}
            transaction.append(Entry(kind=Kind.NODE_APPROVED, subject=node, body=body))
        elif row.status == REMOVED:
            raise Unfit("node.removed", node, expected="the node to enrol again first")
        return node_json(row)


def remove_node(service: Service, node: str) -> Json:
    """Remove a node and end its credentials; its name and EK stay together.

    What has been seen of it is forgotten: if it enrols again and is approved, its counters
    start anew.
    """
    with service.transaction() as transaction:
        row = node_row(transaction, node)
        revoke_all(transaction, transaction.processes(node=node), Cause.NODE_REMOVED)
        transaction.drop_challenges(node)
        close_all(transaction, node=node)
        row.status, row.is_barred = REMOVED, True
        row.instance = row.approved = row.clock = row.checkpoint = b""
        row.instance_reset_count = row.accepted = 0
        row.firmware = ""
        row.version += 1
        transaction.append(Entry(kind=Kind.NODE_REMOVED, subject=node))
        return node_json(row)


def forget_node(service: Service, node: str) -> Json:
    """Give the name and the EK of a removed node free."""
    with service.transaction() as transaction:
        row = node_row(transaction, node)
        if row.status != REMOVED:
            raise Unfit("node.not-removed", node, expected=REMOVED, found=row.status)
        body = {"ek_hash": row.ek_hash}
        transaction.append(Entry(kind=Kind.NODE_FORGOTTEN, subject=node, body=body))
        transaction.forget_node(node)
        return {"node": node}


def approve_instance(service: Service, node: str, instance: str) -> Json:
    """Approve a later start of the node's attestor, until the node's next boot."""
    digest = _digest(instance)
    with service.transaction() as transaction:
        row = node_row(transaction, node)
        if digest not in row.approved_instances:
            row.approved += digest
            row.version += 1
            body = {"instance": instance}
            transaction.append(Entry(kind=Kind.INSTANCE_APPROVED, subject=node, body=body))
        return node_json(row)


def node_row(transaction: Transaction, name: str) -> NodeRow:
    """Return the node of this name; raise Unfit if there is none."""
    row = transaction.node(name)
    if row is None:
        raise Unfit(Reason.NODE_UNKNOWN, label(name), expected="the name of a node")
    return row


def _digest(text: str) -> bytes:
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise Malformed("expected the SHA-256 of an instance key, 64 hexadecimal digits")
    return bytes.fromhex(text)


def node_json(row: NodeRow) -> Json:
    """Return what an operator is told of a node."""
    return {
        "node": row.name,
        "status": row.status,
        "ek_hash": row.ek_hash,
        "ak": row.ak_name.hex(),
        "firmware_version": row.firmware,
        "instance": row.instance.hex(),
        "approved_instances": [one.hex() for one in row.approved_instances],
        "enrolled": time_text(row.enrolled),
        "accepted": time_text(row.accepted),
        "labels": dict(row.label_values),
    }
