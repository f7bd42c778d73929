"""Progress: how far a node's list has been judged, and what of it goes on from there."""

from verifier import plain
from verifier.case import chain, write_measured
from verifier.endings import revoke_all
from verifier.ledger import Cause
from verifier.node import Checkpoint, Measured
from verifier.reasons import ClockSeen
from verifier.rows import BootLogRow, ListPart, NodeRow
from verifier.store import Transaction
from verifier.verdict import NodeVerdict


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
        _begin_list(transaction, node, verdict.boot_log)
    if verdict.measured:
        _append_part(transaction, node, verdict.measured)
    node.checkpoint = plain.encode(Checkpoint, verdict.checkpoint)
    node.clock = plain.encode(ClockSeen, verdict.clock)
    node.firmware = firmware_text(verdict.firmware_version)
    node.instance = verdict.checkpoint.instance
    node.instance_reset_count = verdict.checkpoint.reset_count
    node.accepted = transaction.now
    node.version += 1
    transaction.drop_challenges(node.name)


def _begin_list(transaction: Transaction, node: NodeRow, boot_log: bytes) -> None:
    node.list_number = transaction.next_list_number(node.name)
    node.list_parts, node.list_digest = 0, b""
    transaction.insert(BootLogRow(node=node.name, number=node.list_number, log=boot_log))


def _append_part(transaction: Transaction, node: NodeRow, measured: tuple[Measured, ...]) -> None:
    part = write_measured(measured)
    row = ListPart(node=node.name, number=node.list_number, part=node.list_parts, measured=part)
    transaction.insert(row)
    node.list_parts += 1
    node.list_digest = chain(node.list_digest, part)


def revoke_unreported(transaction: Transaction, node: str, verdict: NodeVerdict) -> None:
    """End the credentials of processes that the accepted evidence does not speak of."""
    reported = {one.key_name for one in verdict.processes}
    processes = transaction.processes(node=node)
    unreported = [one for one in processes if one.key_name not in reported]
    revoke_all(transaction, unreported, Cause.NOT_REPORTED)


def firmware_text(version: int) -> str:
    """Return a TPM's firmware version as people compare it: 16 digits, hexadecimal."""
    return f"{version:#018x}"
