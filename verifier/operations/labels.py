"""Labels of nodes, and what ends when they change."""

import re
from collections.abc import Mapping

from credential import wit
from evidence import Malformed
from verifier.endings import revoke_all, void_tokens
from verifier.ledger import Cause, Entry, Kind, to_text
from verifier.operations.answers import Json, Unfit
from verifier.operations.nodes import node_json, node_row
from verifier.operations.words import read_words
from verifier.policy import Policy
from verifier.reasons import label
from verifier.rows import NodeRow, ProcessRow
from verifier.service import Service
from verifier.store import Transaction
from verifier.whereabouts import has_labels


def label_node(service: Service, node: str, labels: list[str], reason: str = "") -> Json:
    """Change labels of a node: `NAME=VALUE` each, without a value for one that goes.

    Credentials that no longer fit end at once, and tokens that are no longer true.
    """
    changes = dict(map(_label_change, labels))
    if len(changes) != len(labels):
        raise Malformed("expected no label twice")
    with service.transaction() as transaction:
        row = node_row(transaction, node)
        before = dict(row.label_values)
        after = {name: value for name, value in (before | changes).items() if value}
        if len(after) > wit.MOST_LABELS:
            raise Unfit("node.too-many-labels", node, expected=f"at most {wit.MOST_LABELS}")
        revoked = 0
        if after != before:
            row.labels = to_text(after)
            row.version += 1
            body = {"before": before, "labels": after, "reason": read_words(reason)}
            transaction.append(Entry(kind=Kind.NODE_LABELLED, subject=node, body=body))
            policy = service.policy(transaction).policy
            revoked = _end_mislabelled(transaction, row, policy, before)
        return {**node_json(row), "revoked": revoked}


def _label_change(text: str) -> tuple[str, str]:
    """Return name and value, which is empty for a label that goes."""
    name, equals, value = text.partition("=")
    is_label = re.fullmatch(wit.LABEL, name) and (not value or re.fullmatch(wit.LABEL_VALUE, value))
    if not equals or not is_label:
        raise Malformed(f"{label(text)}: expected NAME=VALUE, or NAME= for a label that goes")
    return name, value


def _end_mislabelled(
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
