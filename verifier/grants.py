"""What operators approve for a while: asked for, approved, closed; each with a row in the ledger.

Only a process that lacks nothing else asks. What it asks for waits an hour for an operator; from
then on processes of that workload on that node may do it, and nothing beside it, until it closes,
at the latest with the node's boot.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from evidence.process import CoreRecord
from verifier import plain
from verifier.endings import revoke_all, void_tokens
from verifier.ledger import Cause, Entry, Kind
from verifier.mint import Random
from verifier.node import Errand
from verifier.policy import Policy
from verifier.purpose import decide
from verifier.reasons import Rejected
from verifier.rows import GrantRow, NodeRow, ProcessRow
from verifier.store import Transaction

ID_BYTES = 8
MOST_WAITING = 16
"""Of one workload on one node, at a time: what its processes can make operators read."""
MOST_OF_PROCESS = 4
"""Of those, for one process: no single one keeps the others from being heard."""
WAITING = timedelta(hours=1)
"""How long what was asked for waits, from when it was asked for last."""
LONGEST = timedelta(hours=24)
"""How long an operator can approve something for."""


def ask(transaction: Transaction, core: CoreRecord, errand: Errand, *, random: Random) -> str:
    """Have an operator asked; return the grant's id, empty where too many wait already.

    The process that asked first counts as the one that a request is of.
    """
    held = transaction.grant_for(core.node, errand)
    if held is not None and held.until <= transaction.now:
        close(transaction, held, Cause.GRANT_EXPIRED)
        held = None
    until = transaction.now + int(WAITING.total_seconds())
    if held is not None:
        held.until = held.until if held.is_open else until
        return held.id
    waiting = transaction.grants(node=core.node, workload=errand.workload, is_open=False)
    of_process = [one for one in waiting if one.pid == core.pid]
    if len(waiting) >= MOST_WAITING or len(of_process) >= MOST_OF_PROCESS:
        return ""
    row = GrantRow(
        id=random(ID_BYTES).hex(),
        node=core.node,
        workload=errand.workload,
        errand=plain.encode(Errand, errand),
        pid=core.pid,
        asked=transaction.now,
        is_open=False,
        until=until,
    )
    transaction.insert(row)
    _record(transaction, Kind.GRANT_ASKED, row)
    return row.id


def approve(transaction: Transaction, row: GrantRow, *, seconds: int, reason: str) -> None:
    """Let processes do what was asked for, for so long."""
    row.is_open = True
    row.until = transaction.now + seconds
    _node(transaction, row).version += 1
    _record(transaction, Kind.GRANT_APPROVED, row, until=row.until, reason=reason)


def close(transaction: Transaction, row: GrantRow, cause: Cause, *, reason: str = "") -> int:
    """End the grant, and at once the credentials that rest on it; say how many."""
    count = revoke_all(transaction, transaction.processes(approval=row.id), cause)
    _node(transaction, row).version += 1
    _record(transaction, Kind.GRANT_CLOSED, row, cause=str(cause), reason=reason)
    transaction.remove(row)
    return count


def close_all(
    transaction: Transaction,
    *,
    node: str = "",
    workload: str = "",
    cause: Cause = Cause.GRANT_CLOSED,
) -> None:
    """End the grants of a node or a workload that is removed, or of a boot that is over."""
    for row in transaction.grants(node=node, workload=workload):
        close(transaction, row, cause)


def end_over(transaction: Transaction, policy: Policy) -> int:
    """End what rests on a grant or a window that has closed by now; say how many credentials."""
    now = transaction.now
    over = transaction.grants(over_by=now)
    count = sum(close(transaction, row, Cause.GRANT_EXPIRED) for row in over)
    return count + _end_uses(transaction, transaction.processes(over_by=now), policy)


def _end_uses(transaction: Transaction, processes: Sequence[ProcessRow], policy: Policy) -> int:
    """End the processes' tokens, and the credentials of those that are granted nothing now."""
    others = [one for one in processes if _is_granted(transaction, one, policy)]
    for process in others:
        process.until = 0
    ended = [one for one in processes if one not in others]
    cause = Cause.WINDOW_CLOSED
    # In this order: what ends with a parent is not touched again.
    return void_tokens(transaction, others, cause) + revoke_all(transaction, ended, cause)


def _is_granted(transaction: Transaction, process: ProcessRow, policy: Policy) -> bool:
    workload = policy.workload(process.workload)
    if workload is None:
        return False
    opened = transaction.grants(node=process.node, is_open=True)
    core = CoreRecord.decode(process.core)
    try:
        decide(
            workload,
            core.purpose,
            job=core.origin.job,
            approvals=tuple(row.approval for row in opened),
            now=datetime.fromtimestamp(transaction.now, UTC),
            what="",
        )
    except Rejected:
        return False
    return True


def _record(transaction: Transaction, kind: Kind, row: GrantRow, **more: object) -> None:
    errand = row.errand_value
    body = {
        "grant": row.id,
        "node": row.node,
        "pid": row.pid,
        "audience": errand.audience,
        "scopes": list(errand.scopes),
        "context": list(errand.context),
        "job": errand.job,
        **more,
    }
    transaction.append(Entry(kind=kind, subject=row.workload, body=body))


def _node(transaction: Transaction, row: GrantRow) -> NodeRow:
    node = transaction.node(row.node)
    assert node is not None, "a grant belongs to a node"
    return node
