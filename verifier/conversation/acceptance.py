"""Acceptance of a node's evidence: one transaction in which all that follows is recorded."""

from collections.abc import Mapping

from evidence.messages import Result
from verifier.canary import remember_outcome
from verifier.conversation.progress import (
    advance,
    firmware_text,
    forget_known,
    revoke_unreported,
)
from verifier.conversation.settlement import settle
from verifier.conversation.snapshots import Snapshot, keep
from verifier.grants import close_all
from verifier.ledger import Cause, Entry, Kind, findings_json
from verifier.mint import Occasion
from verifier.rows import NodeRow
from verifier.service import Service
from verifier.store import Transaction
from verifier.verdict import Accepted, NodeVerdict, Refused


def accept(service: Service, snapshot: Snapshot, verdict: NodeVerdict) -> Result:
    """Record the verdict with all that follows; raise Stale if it was made from what is past."""
    name, policy_version = snapshot.case.node.name, snapshot.frame.version
    with service.transaction() as transaction:
        node = transaction.demand_unchanged(name, snapshot.version, policy_version)
        digest = keep(transaction, snapshot, verdict)
        _move_on(transaction, node, snapshot, verdict)
        row = _record(transaction, snapshot, verdict, digest)
        occasion = _occasion(service, snapshot, evidence=digest, ledger=row)
        revoke_unreported(transaction, name, verdict)
        outcomes = tuple(
            settle(service, transaction, name, one, occasion) for one in verdict.processes
        )
    return Result(challenge=occasion.challenge, outcomes=outcomes)


def _move_on(
    transaction: Transaction, node: NodeRow, snapshot: Snapshot, verdict: NodeVerdict
) -> None:
    """Have the node's row say what it has shown by now."""
    if verdict.checkpoint.reset_count != node.instance_reset_count:
        close_all(transaction, node=node.name, cause=Cause.NODE_REBOOTED)
    if verdict.forgets_known:
        forget_known(transaction, node, verdict)
    advance(transaction, node, verdict)
    nonce = snapshot.case.challenge.nonce
    node.canary_values = remember_outcome(node.canary_values, nonce=nonce, shown=verdict.canaries)


def _record(
    transaction: Transaction, snapshot: Snapshot, verdict: NodeVerdict, digest: bytes
) -> int:
    """Write the decision into the ledger; return its row's number."""
    case = snapshot.case
    body = {**_verdict_json(verdict), "address": case.address}
    kind = Kind.EVIDENCE_ACCEPTED
    return transaction.append(Entry(kind=kind, subject=case.node.name, body=body, evidence=digest))


def _verdict_json(verdict: NodeVerdict) -> Mapping[str, object]:
    """Return what the ledger says of an accepted node."""
    return {
        "instance": verdict.checkpoint.instance.hex(),
        "reset_count": verdict.checkpoint.reset_count,
        "restart_count": verdict.clock.restart_count,
        "firmware_version": firmware_text(verdict.firmware_version),
        "records": verdict.checkpoint.records,
        "policy_version": verdict.checkpoint.policy_version,
        "boot_policy": verdict.boot_policy,
        "canaries": [{"uid": one.uid, "device": one.device} for one in verdict.canaries],
        "processes": [*map(_judged_json, verdict.processes)],
        "reported": findings_json(verdict.reported),
    }


def _judged_json(judged: Accepted | Refused) -> Mapping[str, object]:
    return {
        "key": judged.key_name.hex(),
        "workload": judged.workload.id if isinstance(judged, Accepted) else "",
        "level": judged.level if isinstance(judged, Accepted) else "",
        "lacks": [*judged.lacks] if isinstance(judged, Accepted) else [],
        "findings": findings_json(judged.findings) if isinstance(judged, Refused) else [],
    }


def _occasion(service: Service, snapshot: Snapshot, *, evidence: bytes, ledger: int) -> Occasion:
    case = snapshot.case
    return Occasion(
        issuer=service.config.issuer,
        ek_public=case.node.ek_public,
        challenge=case.challenge.digest(),
        evidence=evidence,
        ledger=ledger,
        policy_version=snapshot.frame.version,
        now=case.now,
    )
