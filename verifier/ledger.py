"""What the append-only record says: a row for every decision, issue and revocation.

A row is written in the transaction of the change that it records (`Transaction.append`), and
the database refuses to change or delete one.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from evidence import Malformed
from verifier.reasons import Finding, Rejected, label


class Kind(StrEnum):
    """What happened. A kind is stored: never rename one."""

    NODE_ENROLLED = "node.enrolled"
    NODE_PENDING = "node.pending"
    NODE_ENROLMENT_REFUSED = "node.enrolment-refused"
    NODE_APPROVED = "node.approved"
    NODE_REMOVED = "node.removed"
    NODE_FORGOTTEN = "node.forgotten"
    NODE_LABELLED = "node.labelled"
    INSTANCE_APPROVED = "instance.approved"
    EVIDENCE_ACCEPTED = "evidence.accepted"
    EVIDENCE_REFUSED = "evidence.refused"
    CREDENTIAL_ISSUED = "credential.issued"
    CREDENTIAL_RENEWED = "credential.renewed"
    CREDENTIAL_REVOKED = "credential.revoked"
    CREDENTIAL_SUSPENDED = "credential.suspended"
    CREDENTIAL_REINSTATED = "credential.reinstated"
    GRANT_ASKED = "grant.asked"
    GRANT_APPROVED = "grant.approved"
    GRANT_CLOSED = "grant.closed"
    TOKEN_MISUSED = "token.misused"  # noqa: S105 - a kind, not a password
    USE_ACCEPTED = "use.accepted"
    USE_REFUSED = "use.refused"
    """What a relying party has decided about one request, as it says."""
    POLICY_PUT = "policy.put"
    POLICY_REMOVED = "policy.removed"
    RELYING_PARTY_ADDED = "relying-party.added"
    RELYING_PARTY_REMOVED = "relying-party.removed"


USES = (Kind.USE_ACCEPTED, Kind.USE_REFUSED)
STATUS_CHANGES = (Kind.CREDENTIAL_REVOKED, Kind.CREDENTIAL_SUSPENDED, Kind.CREDENTIAL_REINSTATED)
"""What changes a status list."""


class Cause(StrEnum):
    """Why a credential ended. A cause is stored and told: never rename one."""

    EXITED = "process.exited"
    EXECUTED = "process.executed"
    CHANGED = "process.changed"
    REFUSED = "process.drift"
    LEVEL_FELL = "process.level-fell"
    """The tokens ended, and one that says the lower level was issued."""
    NOT_REPORTED = "process.not-reported"
    PARENT_ENDED = "parent.ended"
    """The credential of the process that had it launched has ended, whatever for."""
    JOB_ENDED = "job.ended"
    """That process, or whoever it gave the job to, has ended the job that it was launched for."""
    WINDOW_CLOSED = "use.window-closed"
    """What it was used for is closed: its tokens ended, and it too, unless it has other uses."""
    GRANT_CLOSED = "grant.closed"
    """By an operator."""
    GRANT_EXPIRED = "grant.expired"
    LABELS_CHANGED = "node.labels-changed"
    """What its tokens said of its node is not true any more, or it may not be on that node."""
    NODE_REFUSED = "node.drift"
    NODE_REBOOTED = "node.rebooted"
    NODE_REMOVED = "node.removed"
    INSTANCE_REPLACED = "instance.replaced"
    LATE = "evidence.late"
    """Suspended, until there is new evidence or it is too old."""
    TOO_OLD = "evidence.too-old"
    WORKLOAD_REMOVED = "workload.removed"
    WORKLOAD_CHANGED = "workload.changed"
    REFERENCE_WITHDRAWN = "reference.withdrawn"
    BOOT_POLICY_CHANGED = "boot-policy.changed"
    """The tokens ended: others are issued if the boot is accepted still, or again."""
    KERNEL_POLICY_WITHDRAWN = "kernel-policy.withdrawn"
    MISUSED = "token.misused"
    RELYING_PARTY = "relying-party"
    OPERATOR = "operator"


TOLD_BY_NODE = (
    Cause.EXITED, Cause.EXECUTED, Cause.CHANGED, Cause.PARENT_ENDED, Cause.JOB_ENDED,
)  # fmt: skip
"""The causes that a node may give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row to be written."""

    kind: Kind
    subject: str
    """Whom it is about: a node, a SPIFFE ID, the name of a policy document."""
    body: Mapping[str, object] = field(default_factory=dict)
    """JSON values. Never holds a secret or a token."""
    evidence: bytes = b""
    """Digest of the case that the decision can be judged again from; empty where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as written."""

    seq: int
    time: int
    """Unix seconds."""
    kind: str
    subject: str
    body: Mapping[str, object]
    evidence: bytes

    def to_json(self) -> dict[str, object]:
        """Return the row as operators read it."""
        return {
            "seq": self.seq,
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(),
            "kind": self.kind,
            "subject": self.subject,
            "body": dict(self.body),
            "evidence": f"sha256:{self.evidence.hex()}" if self.evidence else "",
        }


def to_text(body: Mapping[str, object]) -> str:
    """Return the one text of a body."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def findings_json(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings as a body holds them."""
    return [
        {
            "reason": str(one.reason),
            "what": one.what,
            "expected": one.expected,
            "found": one.found,
        }
        for one in findings
    ]


def refusal_json(refusal: Rejected | Malformed) -> list[dict[str, str]]:
    """Return the findings of a refusal; what is malformed has one."""
    if isinstance(refusal, Rejected):
        return findings_json(refusal.findings)
    reason, found = "malformed.evidence", label(str(refusal))
    return [{"reason": reason, "what": "", "expected": "", "found": found}]
