"""Endings: how credentials end, or do not count for a while, with all that rests on them.

Nothing here decides.
"""

from collections.abc import Iterable, Sequence

from verifier.ledger import Cause, Entry, Kind, findings_json
from verifier.reasons import Finding
from verifier.rows import ProcessRow
from verifier.store import Transaction


def revoke(
    transaction: Transaction,
    process: ProcessRow,
    cause: Cause,
    findings: Sequence[Finding] = (),
    *,
    by: str = "",
) -> None:
    """End the credential of one process, and of those that it had launched for its jobs.

    `by` is who asked for it, if not the verifier itself.
    """
    _end(transaction, process, cause, findings=findings, by=by)
    _end_steps(transaction, [process])


def revoke_all(
    transaction: Transaction, processes: Iterable[ProcessRow], cause: Cause, *, by: str = ""
) -> int:
    """End the credentials of these processes, and let no decision in the making overlook it."""
    ended = [*processes]
    for process in ended:
        _overtake(transaction, process)
        _end(transaction, process, cause, by=by)
    _end_steps(transaction, ended)
    return len(ended)


def _end(
    transaction: Transaction,
    process: ProcessRow,
    cause: Cause,
    *,
    findings: Sequence[Finding] = (),
    by: str = "",
) -> None:
    transaction.revoke_tokens(process, str(cause))
    _record(transaction, Kind.CREDENTIAL_REVOKED, process, cause, findings=findings, by=by)
    transaction.remove(process)


def _end_steps(transaction: Transaction, ended: Sequence[ProcessRow]) -> None:
    """End what these processes had launched, and what that had, from the top down."""
    while ended:
        ended = [step for parent in ended for step in transaction.steps(parent)]
        for step in ended:
            _overtake(transaction, step)
            _end(transaction, step, Cause.PARENT_ENDED)


def _overtake(transaction: Transaction, process: ProcessRow) -> None:
    """Have whatever is being decided about the process's node decided again."""
    node = transaction.node(process.node)
    assert node is not None, "a process belongs to a node"
    node.version += 1


def void_tokens(transaction: Transaction, processes: Iterable[ProcessRow], cause: Cause) -> int:
    """End the tokens of these processes, which get others if the next evidence is accepted."""
    count = 0
    for process in processes:
        _overtake(transaction, process)
        void(transaction, process, cause)
        count += 1
    return count


def void(transaction: Transaction, process: ProcessRow, cause: Cause) -> None:
    """End the tokens of a process, which is about to get another one."""
    transaction.revoke_tokens(process, str(cause))
    process.says = b""  # another one is due, even if it will say the same again
    _record(transaction, Kind.CREDENTIAL_REVOKED, process, cause)


def suspend_all(transaction: Transaction, processes: Iterable[ProcessRow], cause: Cause) -> int:
    """Let the credentials of these processes not count until they are accepted again."""
    count = 0
    for process in processes:
        transaction.suspend_tokens(process, str(cause))
        _record(transaction, Kind.CREDENTIAL_SUSPENDED, process, cause)
        count += 1
    return count


def reinstate(transaction: Transaction, process: ProcessRow) -> None:
    """Let the credential of a process that was accepted again count again."""
    if process.is_suspended:
        transaction.reinstate_tokens(process)
        _record(transaction, Kind.CREDENTIAL_REINSTATED, process, "")


def _record(  # noqa: PLR0913 - what a row says
    transaction: Transaction,
    kind: Kind,
    process: ProcessRow,
    cause: Cause | str,
    *,
    findings: Sequence[Finding] = (),
    by: str = "",
) -> None:
    body = {
        "node": process.node,
        "key": process.key_name.hex(),
        "jti": process.jti,
        "cause": str(cause),
        "findings": findings_json(findings),
        **({"by": by} if by else {}),
    }
    transaction.append(Entry(kind=kind, subject=process.workload, body=body))
