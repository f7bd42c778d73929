"""Policy documents: each version of the policy is made of those that count in it."""

from hashlib import sha256

from evidence import Malformed
from verifier.boot_policy import read_boot_policy
from verifier.case import BOOT_POLICY, KERNEL_POLICY, KINDS, REFERENCE, WORKLOAD, policy_of
from verifier.confinement import Confinement
from verifier.ledger import Entry, Kind
from verifier.operations.answers import Json, Unfit
from verifier.operations.withdrawals import end_what_changed
from verifier.policy import Policy, ReferenceSet
from verifier.reasons import Reason, label, reject
from verifier.reference import read_reference_value
from verifier.rows import DocumentRow
from verifier.service import Service, read_documents
from verifier.store import Transaction
from verifier.verity import Verity
from verifier.workload import read_workload


def put_document(service: Service, kind: str, text: str) -> Json:
    """Store a policy document in the place of the one of its name."""
    name = _name_of(kind, text)
    with service.transaction() as transaction:
        held = transaction.document(kind, name)
        if held is not None and held.text == text:
            version = transaction.policy_version()
            return {"kind": kind, "name": name, "version": version, "revoked": 0}
        policy = _change(service, transaction, kind, name, text)
        body = {"kind": kind, "version": policy.version}
        transaction.append(Entry(kind=Kind.POLICY_PUT, subject=name, body=body))
        revoked = end_what_changed(transaction, policy, held, text)
        return {"kind": kind, "name": name, "version": policy.version, "revoked": revoked}


def remove_document(service: Service, kind: str, name: str) -> Json:
    """Withdraw a policy document; the credentials of a workload end with it."""
    with service.transaction() as transaction:
        held = _document(transaction, kind, name)
        policy = _change(service, transaction, kind, name, None)
        body = {"kind": kind, "version": policy.version}
        transaction.append(Entry(kind=Kind.POLICY_REMOVED, subject=name, body=body))
        revoked = end_what_changed(transaction, policy, held, "")
        return {"kind": kind, "name": name, "version": policy.version, "revoked": revoked}


def list_documents(service: Service, kind: str) -> list[Json]:
    """Return the documents of a kind that count now, without their text."""
    with service.transaction() as transaction:
        rows = transaction.documents(transaction.policy_version())
        return [_document_json(row) | _in_short(row) for row in rows if row.kind == kind]


def show_document(service: Service, kind: str, name: str) -> Json:
    """Return a document that counts now."""
    with service.transaction() as transaction:
        row = _document(transaction, kind, name)
        return {**_document_json(row), "text": row.text}


def _change(
    service: Service, transaction: Transaction, kind: str, name: str, text: str | None
) -> Policy:
    """Make a policy version with another text of this document; raise Rejected if none fits."""
    held = transaction.document(kind, name)
    version = transaction.next_policy_version()
    if held is not None:
        held.until = version
    if text is not None:
        transaction.insert(DocumentRow(kind=kind, name=name, since=version, until=None, text=text))
    return policy_of(service.frame(version), read_documents(transaction, version))


def _document(transaction: Transaction, kind: str, name: str) -> DocumentRow:
    row = transaction.document(kind, name)
    if row is None:
        raise Unfit("policy.no-such-document", label(name), expected=f"the name of a {kind}")
    return row


def _name_of(kind: str, text: str) -> str:
    """Return the name of a document, which is one of its kind."""
    if kind == WORKLOAD:
        return read_workload(text).id
    if kind == REFERENCE:
        return read_reference_value(text).name
    if kind == BOOT_POLICY:
        return read_boot_policy(text).name
    if kind != KERNEL_POLICY:
        raise Malformed(f"expected one of the kinds {', '.join(KINDS)}")
    if not text.strip():
        raise reject(Reason.POLICY_EMPTY, "kernel policy", expected="rules", found="none")
    return kernel_policy_name(text)


def kernel_policy_name(text: str) -> str:
    """Return the name of a kernel policy: what the kernel measures of it."""
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def _document_json(row: DocumentRow) -> Json:
    return {"kind": row.kind, "name": row.name, "since_version": row.since}


def _in_short(row: DocumentRow) -> Json:
    """Return what a list says of a document besides."""
    if row.kind == WORKLOAD:
        return {"minimum": read_workload(row.text).minimum}
    if row.kind != REFERENCE:
        return {}
    value = read_reference_value(row.text)
    if isinstance(value, ReferenceSet):
        return {"values": f"{len(value.files)} files"}
    if isinstance(value, Verity):
        return {"values": f"verity, {len(value.tables)} tables"}
    if isinstance(value, Confinement):
        return {"values": f"confinement, {len(value.policies)} policies"}
    return {"values": f"signer, {len(value.keys)} keys, {len(value.revoked)} revoked"}
