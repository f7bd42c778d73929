"""What follows from a decision, in the transaction that records it: nothing here decides."""

from collections.abc import Iterable, Mapping, Sequence

from evidence.process import CoreRecord
from verifier import plain
from verifier.case import chain, read_measured, write_measured
from verifier.ledger import Cause, Entry, Kind, findings_json
from verifier.mint import Minted, Occasion, thumbprint_of
from verifier.node import Checkpoint
from verifier.policy import LEVELS, Policy
from verifier.reasons import ClockSeen, Finding, Reason, Rejected
from verifier.rows import BootLogRow, ListPart, NodeRow, ProcessRow, TokenRow
from verifier.selection import select_workload
from verifier.store import Transaction
from verifier.verdict import Accepted, NodeVerdict, Refused
from verifier.whereabouts import has_labels


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


def _overtake(transaction: Transaction, process: ProcessRow) -> None:
    """Have whatever is being decided about the process's node decided again."""
    node = transaction.node(process.node)
    assert node is not None, "a process belongs to a node"
    node.version += 1


def revoke_unfit(transaction: Transaction, policy: Policy, cause: Cause) -> int:
    """End the credentials of processes that the policy, a new one, wants no longer.

    What a process has mapped, and what has run on its node, the next evidence is judged for.
    """
    unfit = [one for one in transaction.processes() if not _is_wanted(one, policy)]
    return revoke_all(transaction, unfit, cause)


def revoke_ruled_by(transaction: Transaction, kernel_policy: bytes) -> int:
    """End the credentials on nodes that have measured the kernel policy of this digest."""
    ended: list[ProcessRow] = []
    for node in transaction.nodes():
        processes = transaction.processes(node=node.name)
        if processes and _has_measured(transaction, node, kernel_policy):
            ended += processes
    return revoke_all(transaction, ended, Cause.KERNEL_POLICY_WITHDRAWN)


def _has_measured(transaction: Transaction, node: NodeRow, digest: bytes) -> bool:
    parts = transaction.list_parts(node.name, node.list_number, node.list_parts)
    return any(one.digest == digest for one in read_measured(parts))


def revoke_importers(transaction: Transaction, policy: Policy, name: str) -> int:
    """End the credentials of programs whose modules were known by a set that has lost some.

    What they could import was judged when they were new, and is not kept.
    """
    workloads = [one.id for one in policy.workloads if name in one.modules]
    processes = [one for id_ in workloads for one in transaction.processes(workload=id_)]
    return revoke_all(transaction, processes, Cause.REFERENCE_WITHDRAWN)


def _is_wanted(process: ProcessRow, policy: Policy) -> bool:
    core = CoreRecord.decode(process.core)
    try:
        workload = select_workload(core, node=process.node, policy=policy)
    except Rejected:
        return False
    return workload.id == process.workload


def void_tokens(transaction: Transaction, processes: Iterable[ProcessRow], cause: Cause) -> int:
    """End the tokens of these processes, which get others if the next evidence is accepted."""
    count = 0
    for process in processes:
        _overtake(transaction, process)
        _void(transaction, process, cause)
        count += 1
    return count


def _void(transaction: Transaction, process: ProcessRow, cause: Cause) -> None:
    transaction.revoke_tokens(process, str(cause))
    process.says = b""  # another one is due, even if it will say the same again
    _record(transaction, Kind.CREDENTIAL_REVOKED, process, cause)


def void_untrue(transaction: Transaction, process: ProcessRow, judged: Accepted) -> None:
    """End the tokens of a process that say what is no longer so.

    They say a higher level than the evidence reaches now, or name another approval.
    """
    if LEVELS.index(judged.level) < LEVELS.index(process.level):
        _void(transaction, process, Cause.LEVEL_FELL)
    elif process.approval not in ("", judged.granted.approval):
        _void(transaction, process, Cause.GRANT_CLOSED)


def end_mislabelled(
    transaction: Transaction, node: NodeRow, policy: Policy, before: Mapping[str, str]
) -> int:
    """End the credentials that no longer fit a node which had other labels before; say how many.

    The tokens of the others end where a label that they say has changed or gone. One that was
    only added they do not say, and the next evidence brings tokens that do.
    """
    labels = node.label_values
    processes = transaction.processes(node=node.name)
    unfit = [one for one in processes if not _is_labelled_for(one, labels, policy)]
    is_untrue = not before.items() <= dict(labels).items()
    others = [one for one in processes if one not in unfit and is_untrue]
    cause = Cause.LABELS_CHANGED
    # In this order: what ends with a parent is not touched again.
    return void_tokens(transaction, others, cause) + revoke_all(transaction, unfit, cause)


def _is_labelled_for(
    process: ProcessRow, labels: tuple[tuple[str, str], ...], policy: Policy
) -> bool:
    workload = policy.workload(process.workload)
    return workload is not None and has_labels(workload, labels)


_CAUSES = {
    Reason.USE_WINDOW: Cause.WINDOW_CLOSED,
    Reason.USE_GRANT: Cause.GRANT_EXPIRED,
    Reason.PROCESS_LABELS: Cause.LABELS_CHANGED,
}


def cause_of(findings: Sequence[Finding]) -> Cause:
    """Return why the credential of a process ends that was refused for these findings."""
    told = (_CAUSES.get(one.reason) for one in findings)
    return next((one for one in told if one), Cause.REFUSED)


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


def start_over(node: NodeRow) -> None:
    """Have the node's whole list judged again, from its first record on."""
    node.checkpoint = b""
    node.accepted = 0
    node.version += 1


def forget_known(transaction: Transaction, node: NodeRow, verdict: NodeVerdict) -> None:
    """End what was known under another boot or instance; approvals end with their boot."""
    is_rebooted = verdict.checkpoint.reset_count != node.instance_reset_count
    cause = Cause.NODE_REBOOTED if is_rebooted else Cause.INSTANCE_REPLACED
    revoke_all(transaction, transaction.processes(node=node.name), cause)
    if is_rebooted:
        node.approved = node.canaries = b""


def advance(transaction: Transaction, node: NodeRow, verdict: NodeVerdict) -> None:
    """Move the node's checkpoint, and void what was asked from the last one."""
    if verdict.starts_over:
        node.list_number = transaction.next_list_number(node.name)
        node.list_parts, node.list_digest = 0, b""
        log = BootLogRow(node=node.name, number=node.list_number, log=verdict.boot_log)
        transaction.insert(log)
    if verdict.measured:
        part = write_measured(verdict.measured)
        row = ListPart(node=node.name, number=node.list_number, part=node.list_parts, measured=part)
        transaction.insert(row)
        node.list_parts += 1
        node.list_digest = chain(node.list_digest, part)
    node.checkpoint = plain.encode(Checkpoint, verdict.checkpoint)
    node.clock = plain.encode(ClockSeen, verdict.clock)
    node.firmware = firmware_text(verdict.firmware_version)
    node.instance = verdict.checkpoint.instance
    node.instance_reset_count = verdict.checkpoint.reset_count
    node.accepted = transaction.now
    node.version += 1
    transaction.drop_challenges(node.name)


def revoke_unreported(transaction: Transaction, node: str, verdict: NodeVerdict) -> None:
    """End the credentials of processes that the accepted evidence does not speak of."""
    reported = {one.key_name for one in verdict.processes}
    processes = transaction.processes(node=node)
    unreported = [one for one in processes if one.key_name not in reported]
    revoke_all(transaction, unreported, Cause.NOT_REPORTED)


def remember(
    transaction: Transaction, node: str, accepted: Accepted, minted: Minted, occasion: Occasion
) -> None:
    """Store what the process holds now, and record what is new."""
    token, granted = minted.token, accepted.granted
    issued, expires = int(token.issued.timestamp()), int(token.expires.timestamp())
    transaction.add(
        ProcessRow(
            node=node,
            key_name=accepted.key_name,
            core=accepted.core.encode(),
            workload=accepted.workload.id,
            parent_key=accepted.core.origin.parent_key,
            chain_key=token.chain_key,
            step=token.step,
            jti=token.jti,
            issued=issued,
            expires=expires,
            policy_version=token.policy_version,
            level=token.level,
            says=token.says,
            until=int(granted.until.timestamp()) if granted.until else 0,
            approval=granted.approval,
            accepted=transaction.now,
        )
    )
    if minted.slot is None:
        return
    thumbprint = thumbprint_of(accepted)
    transaction.insert(
        TokenRow(
            jti=token.jti,
            node=node,
            key_name=accepted.key_name,
            workload=accepted.workload.id,
            thumbprint=thumbprint,
            step=token.step,
            level=token.level,
            issued=issued,
            expires=expires,
            ledger=occasion.ledger,
            status_list=minted.slot.number,
            status_index=minted.slot.index,
        )
    )
    body = {
        "node": node,
        "key": accepted.key_name.hex(),
        "jti": token.jti,
        "step": token.step,
        "expires": expires,
        "level": accepted.level,
        "audiences": granted.audiences,
        "scopes": granted.scopes,
        "context": accepted.core.purpose.context,
        "grant": granted.approval,
        "labels": dict(accepted.labels),
        "core": accepted.core_digest.hex(),
        "executable": f"sha256:{accepted.core.executable.hex()}",
        "pid": accepted.core.pid,
        "cgroup": accepted.core.cgroup,
        "parent": accepted.core.origin.parent,
        "job": accepted.core.origin.job,
        "namespaces": accepted.core.namespaces,
        "use_key": thumbprint,
        "decision": occasion.ledger,
    }
    kind = Kind.CREDENTIAL_RENEWED if token.step else Kind.CREDENTIAL_ISSUED
    transaction.append(
        Entry(kind=kind, subject=accepted.workload.id, body=body, evidence=occasion.evidence)
    )


def firmware_text(version: int) -> str:
    """Return a TPM's firmware version as people compare it: 16 digits, hexadecimal."""
    return f"{version:#018x}"


def verdict_json(verdict: NodeVerdict) -> Mapping[str, object]:
    """Return what the ledger says of an accepted node."""
    processes = [
        {
            "key": one.key_name.hex(),
            "workload": one.workload.id if isinstance(one, Accepted) else "",
            "level": one.level if isinstance(one, Accepted) else "",
            "lacks": [*one.lacks] if isinstance(one, Accepted) else [],
            "findings": findings_json(one.findings) if isinstance(one, Refused) else [],
        }
        for one in verdict.processes
    ]
    return {
        "instance": verdict.checkpoint.instance.hex(),
        "reset_count": verdict.checkpoint.reset_count,
        "restart_count": verdict.clock.restart_count,
        "firmware_version": firmware_text(verdict.firmware_version),
        "records": verdict.checkpoint.records,
        "policy_version": verdict.checkpoint.policy_version,
        "boot_policy": verdict.boot_policy,
        "canaries": [{"uid": one.uid, "device": one.device} for one in verdict.canaries],
        "processes": processes,
        "reported": findings_json(verdict.reported),
    }
