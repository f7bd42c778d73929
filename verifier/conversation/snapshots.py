"""Snapshots: a case, with the state of the database that it was taken from."""

from dataclasses import dataclass
from hashlib import sha256

from evidence import Malformed
from evidence.messages import Challenge, SignedMessage
from verifier.case import Case, Frame, Head, outcome_of, read_measured
from verifier.conversation.standing import demand_enrolled
from verifier.reasons import Rejected
from verifier.rows import EvidenceRow
from verifier.service import Service
from verifier.store import Transaction
from verifier.verdict import NodeVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a decision is made from, and what has to be so still when it is recorded."""

    case: Case
    version: int
    """Of the node's row."""
    list_number: int
    list_parts: int
    list_digest: bytes
    frame: Frame
    documents: bytes
    """`verifier.case.digest_of` the policy's."""

    def is_overtaken_by(self, other: "Snapshot") -> bool:
        """Say whether other evidence of the node has been decided on since."""
        mine, its = self.case, other.case
        return (mine.node.clock, mine.checkpoint) != (its.node.clock, its.checkpoint)


def take_snapshot(
    service: Service,
    transaction: Transaction,
    message: SignedMessage,
    challenge: Challenge,
    address: str,
) -> Snapshot:
    """Return the case that this evidence makes now; raise Rejected if its node is not enrolled."""
    row = demand_enrolled(transaction, challenge.node)
    processes = transaction.processes(node=row.name)
    parts = transaction.list_parts(row.name, row.list_number, row.list_parts)
    approvals = [one.approval for one in transaction.grants(node=row.name, is_open=True)]
    in_force = service.policy(transaction)
    case = Case(
        message=message,
        challenge=challenge,
        node=row.value(processes, approvals),
        checkpoint=row.checkpoint_value,
        measured=read_measured(parts),
        boot_log=transaction.boot_log(row.name, row.list_number, row.list_parts),
        policy=in_force.policy,
        address=address,
        now=service.now(),
    )
    return Snapshot(
        case=case,
        version=row.version,
        list_number=row.list_number,
        list_parts=row.list_parts,
        list_digest=row.list_digest,
        frame=service.frame(in_force.policy.version),
        documents=in_force.documents,
    )


def keep(
    transaction: Transaction, snapshot: Snapshot, decision: NodeVerdict | Rejected | Malformed
) -> bytes:
    """Store what the decision was made from, and return its digest."""
    case = snapshot.case
    message = case.message.encode()
    head = Head(
        message=sha256(message).digest(),
        challenge=case.challenge.encode(),
        node=case.node,
        checkpoint=case.checkpoint,
        measured=snapshot.list_digest,
        boot_log=sha256(case.boot_log).digest(),
        frame=snapshot.frame,
        documents=snapshot.documents,
        address=case.address,
        now=case.now,
        outcome=outcome_of(decision),
    ).encode()
    row = EvidenceRow(
        digest=sha256(head).digest(),
        head=head,
        message=message,
        node=case.node.name,
        list_number=snapshot.list_number,
        list_parts=snapshot.list_parts,
        policy_version=snapshot.frame.version,
    )
    transaction.insert(row)
    return row.digest
