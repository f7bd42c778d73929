"""Withdrawals: what ends at once with a policy document, or with a part of it."""

from hashlib import sha256

from evidence.process import CoreRecord
from verifier.boot_policy import read_boot_policy
from verifier.case import BOOT_POLICY, KERNEL_POLICY, REFERENCE, read_measured
from verifier.endings import revoke_all, void_tokens
from verifier.grants import close_all
from verifier.ledger import Cause
from verifier.policy import BootPolicy, Policy, ReferenceSet
from verifier.reasons import Rejected
from verifier.reference import read_reference_value
from verifier.rows import DocumentRow, NodeRow, ProcessRow
from verifier.selection import select_workload
from verifier.store import Transaction
from verifier.workload import read_workload


def end_what_changed(
    transaction: Transaction, policy: Policy, held: DocumentRow | None, text: str
) -> int:
    """End at once what no longer fits since `held` has become `text`, empty where it is gone."""
    if held is None:
        return 0
    if held.kind == REFERENCE:
        revoked = _revoke_unfit(transaction, policy, Cause.REFERENCE_WITHDRAWN)
        if not _has_all_of(text, held.text):
            revoked += _revoke_importers(transaction, policy, held.name)
        return revoked
    if held.kind == BOOT_POLICY:
        return _end_boots(transaction, read_boot_policy(held.text), text)
    if held.kind == KERNEL_POLICY:
        # Its name is its digest, so it is the same or gone.
        return _revoke_ruled_by(transaction, sha256(held.text.encode()).digest())
    return _end_workload(transaction, policy, held, text)


def _end_workload(transaction: Transaction, policy: Policy, held: DocumentRow, text: str) -> int:
    if not text:
        close_all(transaction, workload=held.name)
        return _revoke_unfit(transaction, policy, Cause.WORKLOAD_REMOVED)
    revoked = _revoke_unfit(transaction, policy, Cause.WORKLOAD_CHANGED)
    if read_workload(text).allows_all_of(read_workload(held.text)):
        return revoked
    left = transaction.processes(workload=held.name)
    return revoked + void_tokens(transaction, left, Cause.WORKLOAD_CHANGED)


def _end_boots(transaction: Transaction, held: BootPolicy, text: str) -> int:
    """End the tokens on every node whose boot may have been accepted by this policy only."""
    if text and read_boot_policy(text).allows_all_of(held):
        return 0
    ended = [one for one in transaction.processes() if held.counts_on(one.node)]
    return void_tokens(transaction, ended, Cause.BOOT_POLICY_CHANGED)


def _revoke_unfit(transaction: Transaction, policy: Policy, cause: Cause) -> int:
    """End the credentials of processes that the policy, a new one, wants no longer.

    What a process has mapped, and what has run on its node, the next evidence is judged for.
    """
    unfit = [one for one in transaction.processes() if not _is_wanted(one, policy)]
    return revoke_all(transaction, unfit, cause)


def _is_wanted(process: ProcessRow, policy: Policy) -> bool:
    core = CoreRecord.decode(process.core)
    try:
        workload = select_workload(core, node=process.node, policy=policy)
    except Rejected:
        return False
    return workload.id == process.workload


def _revoke_importers(transaction: Transaction, policy: Policy, name: str) -> int:
    """End the credentials of programs whose modules were known by a set that has lost some.

    What they could import was judged when they were new, and is not kept.
    """
    workloads = [one.id for one in policy.workloads if name in one.modules]
    processes = [one for id_ in workloads for one in transaction.processes(workload=id_)]
    return revoke_all(transaction, processes, Cause.REFERENCE_WITHDRAWN)


def _revoke_ruled_by(transaction: Transaction, kernel_policy: bytes) -> int:
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


def _has_all_of(text: str, older: str) -> bool:
    """Say whether a set, empty where it is gone, knows on each node all that the older one did."""
    old = read_reference_value(older)
    if not isinstance(old, ReferenceSet):
        return True
    new = read_reference_value(text) if text else None
    return (
        isinstance(new, ReferenceSet)
        and (not new.nodes or (bool(old.nodes) and set(old.nodes) <= set(new.nodes)))
        and all(set(one) <= set(new.files.get(path, ())) for path, one in old.files.items())
    )
