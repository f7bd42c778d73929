"""The ledger, and what its decisions can be judged again from."""

import base64

from evidence import Malformed
from verifier.case import Exported
from verifier.ledger import USES
from verifier.operations.answers import Json, Unfit
from verifier.service import Service, read_documents

MOST_ROWS = 10_000
"""Ledger rows in one answer."""


def read_ledger(service: Service, after: int = 0, most: int = 100) -> list[Json]:
    """Return rows after this one, in order."""
    with service.transaction() as transaction:
        rows = transaction.ledger(after=after, most=_most(most))
        return [row.to_json() for row in rows]


def read_tail(service: Service, most: int = 20) -> list[Json]:
    """Return the last rows, in order."""
    with service.transaction() as transaction:
        rows = transaction.ledger(most=_most(most), last=True)
        return [row.to_json() for row in rows]


def read_uses(service: Service, most: int = 20, subject: str = "") -> list[Json]:
    """Return the last uses, in order; with `subject`, a SPIFFE ID, those of its processes."""
    with service.transaction() as transaction:
        rows = transaction.ledger(most=_most(most), last=True, kinds=USES, subject=subject)
        return [{"seq": row.seq, "subject": row.subject, **row.body} for row in rows]


def export_evidence(service: Service, seq: int) -> Json:
    """Return, base64, the file that the decision of this row can be judged again from."""
    with service.transaction() as transaction:
        rows = transaction.ledger(after=seq - 1, most=1)
        row = rows[0] if rows and rows[0].seq == seq else None
        kept = transaction.evidence(row.evidence) if row else None
        if kept is None:
            expected = "a row of a decision on evidence"
            raise Unfit("ledger.no-evidence", f"row {seq}", expected=expected)
        exported = Exported.make(
            ledger=seq,
            head=kept.head,
            message=kept.message,
            parts=tuple(transaction.list_parts(kept.node, kept.list_number, kept.list_parts)),
            boot_log=transaction.boot_log(kept.node, kept.list_number, kept.list_parts),
            documents=read_documents(transaction, kept.policy_version),
            key=service.keys.grant,
        )
    return {"seq": seq, "case": base64.b64encode(exported.encode()).decode("ascii")}


def _most(number: int) -> int:
    if not 0 < number <= MOST_ROWS:
        raise Malformed(f"expected 1 to {MOST_ROWS} rows")
    return number
