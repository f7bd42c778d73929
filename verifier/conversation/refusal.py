"""Refusal of a node's evidence: what it ends, and what it leaves as it was."""

import logging

from evidence import Malformed
from verifier import plain
from verifier.appraisal import highest
from verifier.canary import remember_missing
from verifier.conversation.progress import start_over
from verifier.conversation.snapshots import Snapshot, keep
from verifier.endings import revoke_all
from verifier.ledger import Cause, Entry, Kind, refusal_json
from verifier.reasons import ClockSeen, Reason, Rejected, label
from verifier.rows import NodeRow
from verifier.service import Service
from verifier.store import Transaction

log = logging.getLogger("verifier")


def refuse(
    service: Service, snapshot: Snapshot, signer: bytes, refusal: Malformed | Rejected
) -> None:
    """Record the refusal. If it is the node's, its credentials end and its list starts over.

    What another key says in the same boot is refused and changes nothing: else anybody could end
    a node's credentials.
    """
    log.warning("%s: evidence refused: %s", snapshot.case.node.name, label(str(refusal)))
    seen = refusal.clock_seen if isinstance(refusal, Rejected) else None
    with service.transaction() as transaction:
        node = transaction.node(snapshot.case.node.name)
        if node is None:
            return
        cause = _cause(node, signer, seen)
        if cause is not None:
            _end_all(transaction, node, cause)
        if cause == Cause.NODE_REFUSED and _misses_canary(refusal):
            nonce = snapshot.case.challenge.nonce
            node.canary_values = remember_missing(node.canary_values, nonce=nonce)
        if seen is not None:
            _advance_clock(node, seen)
        if cause is None and not service.has_room_for_stranger():
            return
        digest = keep(transaction, snapshot, refusal) if cause is not None else b""
        body = {"findings": refusal_json(refusal), "signer": signer.hex()}
        kind = Kind.EVIDENCE_REFUSED
        transaction.append(Entry(kind=kind, subject=node.name, body=body, evidence=digest))


def _cause(node: NodeRow, signer: bytes, seen: ClockSeen | None) -> Cause | None:
    """Return why the node's credentials end, None if it is not the node that was refused.

    It is if the accepted instance has signed, or if the TPM has, in a later boot.
    """
    if signer == node.instance:
        return Cause.NODE_REFUSED
    is_rebooted = seen is not None and _is_later_boot(seen, node)
    return Cause.NODE_REBOOTED if is_rebooted else None


def _is_later_boot(seen: ClockSeen, node: NodeRow) -> bool:
    return bool(node.instance) and seen.reset_count > node.instance_reset_count


def _end_all(transaction: Transaction, node: NodeRow, cause: Cause) -> None:
    revoke_all(transaction, transaction.processes(node=node.name), cause)
    start_over(node)
    transaction.drop_challenges(node.name)


def _misses_canary(refusal: Malformed | Rejected) -> bool:
    findings = refusal.findings if isinstance(refusal, Rejected) else ()
    return any(one.reason == Reason.KERNEL_POLICY_CANARY for one in findings)


def _advance_clock(node: NodeRow, seen: ClockSeen) -> None:
    if seen != node.clock_value:
        node.clock = plain.encode(ClockSeen, highest(seen, node.clock_value))
        node.version += 1
