"""Grants: what processes ask for, and what operators approve and close."""

from evidence import Malformed
from verifier.grants import LONGEST, approve, close
from verifier.ledger import Cause
from verifier.operations.answers import Json, Unfit, time_text
from verifier.operations.words import read_words
from verifier.reasons import label
from verifier.rows import GrantRow
from verifier.service import Service
from verifier.store import Transaction


def list_grants(service: Service) -> list[Json]:
    """Return what waits for an operator, and what one has approved, oldest first."""
    with service.transaction() as transaction:
        return [_grant_json(row) for row in transaction.grants()]


def approve_grant(service: Service, grant: str, seconds: int, reason: str = "") -> Json:
    """Approve what waits, for so long from now."""
    longest = int(LONGEST.total_seconds())
    if not 0 < seconds <= longest:
        raise Malformed(f"expected 1 to {longest} seconds")
    with service.transaction() as transaction:
        row = _grant(transaction, grant)
        if row.is_open:
            expected, found = "one that waits; close it first", "open"
            raise Unfit("grant.open-already", row.id, expected=expected, found=found)
        approve(transaction, row, seconds=seconds, reason=read_words(reason))
        return _grant_json(row)


def close_grant(service: Service, grant: str, reason: str = "") -> Json:
    """Close what is open, and end at once what rests on it; or refuse what waits."""
    with service.transaction() as transaction:
        row = _grant(transaction, grant)
        told = _grant_json(row)
        revoked = close(transaction, row, Cause.GRANT_CLOSED, reason=read_words(reason))
        return {**told, "state": "closed", "revoked": revoked}


def _grant(transaction: Transaction, id_: str) -> GrantRow:
    row = transaction.grant(id_)
    if row is None or row.until <= transaction.now:
        expected = "a grant that waits or is open: verifier grant list"
        raise Unfit("grant.unknown", label(id_), expected=expected)
    return row


def _grant_json(row: GrantRow) -> Json:
    errand = row.errand_value
    return {
        "grant": row.id,
        "state": "open" if row.is_open else "waits",
        "workload": row.workload,
        "node": row.node,
        "pid": row.pid,
        "audience": errand.audience,
        "scopes": list(errand.scopes),
        "context": list(errand.context),
        "job": errand.job,
        "asked": time_text(row.asked),
        "until": time_text(row.until),
    }
