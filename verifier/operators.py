"""What operators may do, verb by verb: each takes and gives JSON values and leaves a ledger row.

Whoever may open the operators' socket may call any of them (`verifier.http`); `verifier.client`
is the other end.
"""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from inspect import signature
from typing import Any, get_args, get_origin, get_type_hints

from credential import base64url, wit
from evidence import Malformed
from verifier.boot_policy import read_boot_policy
from verifier.case import (
    BOOT_POLICY,
    KERNEL_POLICY,
    KINDS,
    REFERENCE,
    WORKLOAD,
    Exported,
    policy_of,
)
from verifier.confinement import Confinement
from verifier.consequences import (
    end_mislabelled,
    revoke_all,
    revoke_importers,
    revoke_ruled_by,
    revoke_unfit,
    void_tokens,
)
from verifier.grants import LONGEST, approve, close, close_all
from verifier.ledger import USES, Cause, Entry, Kind, to_text
from verifier.policy import LEVELS, BootPolicy, Policy, ReferenceSet
from verifier.reasons import Reason, label, reject
from verifier.reference import read_reference_value
from verifier.relying_parties import SECRET_BYTES, secret_hash
from verifier.rows import (
    ENROLLED,
    PENDING,
    REMOVED,
    DocumentRow,
    GrantRow,
    NodeRow,
    RelyingPartyRow,
    TokenRow,
)
from verifier.service import Service, read_documents
from verifier.store import Transaction
from verifier.verity import Verity
from verifier.workload import read_workload

Json = dict[str, Any]

MOST_ROWS = 10_000
"""Ledger rows in one answer."""

MOST_WORDS = 1024
"""Characters of what an operator says for the ledger."""

_PARTY = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
"""No character that a form or HTTP's Basic scheme would write otherwise (RFC 6749, 2.3.1)."""


class Unfit(Exception):
    """An operator asked for something that does not go: there is no such thing, or not now."""

    def __init__(self, reason: str, what: str, *, expected: str = "", found: str = "") -> None:
        self.finding = {"reason": reason, "what": what, "expected": expected, "found": found}
        super().__init__(f"{reason}: {what}")


class Operators:
    """The verbs."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # Nodes

    def node_list(self) -> list[Json]:
        """Return the nodes by name."""
        with self._service.transaction() as transaction:
            return [_node_json(row) for row in transaction.nodes()]

    def node_approve(self, node: str, ek_hash: str = "") -> Json:
        """Approve the EK of a pending node; with `ek_hash`, only if it is that one."""
        with self._service.transaction() as transaction:
            row = _node(transaction, node)
            if ek_hash and ek_hash != row.ek_hash:
                raise Unfit("node.of-another-ek", node, expected=ek_hash, found=row.ek_hash)
            if row.status == PENDING:
                row.status, row.is_barred = ENROLLED, False
                row.version += 1
                body = {"ek_hash": row.ek_hash}
                transaction.append(Entry(kind=Kind.NODE_APPROVED, subject=node, body=body))
            elif row.status == REMOVED:
                raise Unfit("node.removed", node, expected="the node to enrol again first")
            return _node_json(row)

    def node_remove(self, node: str) -> Json:
        """Remove a node and end its credentials; its name and EK stay together.

        What has been seen of it is forgotten: if it enrols again and is approved, its counters
        start anew.
        """
        with self._service.transaction() as transaction:
            row = _node(transaction, node)
            revoke_all(transaction, transaction.processes(node=node), Cause.NODE_REMOVED)
            transaction.drop_challenges(node)
            close_all(transaction, node=node)
            row.status, row.is_barred = REMOVED, True
            row.instance = row.approved = row.clock = row.checkpoint = b""
            row.instance_reset_count = row.accepted = 0
            row.firmware = ""
            row.version += 1
            transaction.append(Entry(kind=Kind.NODE_REMOVED, subject=node))
            return _node_json(row)

    def node_forget(self, node: str) -> Json:
        """Give the name and the EK of a removed node free."""
        with self._service.transaction() as transaction:
            row = _node(transaction, node)
            if row.status != REMOVED:
                raise Unfit("node.not-removed", node, expected=REMOVED, found=row.status)
            body = {"ek_hash": row.ek_hash}
            transaction.append(Entry(kind=Kind.NODE_FORGOTTEN, subject=node, body=body))
            transaction.forget_node(node)
            return {"node": node}

    def node_approve_instance(self, node: str, instance: str) -> Json:
        """Approve a later start of the node's attestor, until the node's next boot."""
        digest = _digest(instance)
        with self._service.transaction() as transaction:
            row = _node(transaction, node)
            if digest not in row.approved_instances:
                row.approved += digest
                row.version += 1
                body = {"instance": instance}
                transaction.append(Entry(kind=Kind.INSTANCE_APPROVED, subject=node, body=body))
            return _node_json(row)

    def node_label(self, node: str, labels: list[str], reason: str = "") -> Json:
        """Change labels of a node: `NAME=VALUE` each, without a value for one that goes.

        Credentials that no longer fit end at once, and tokens that are no longer true.
        """
        changes = dict(map(_label_change, labels))
        if len(changes) != len(labels):
            raise Malformed("expected no label twice")
        with self._service.transaction() as transaction:
            row = _node(transaction, node)
            before = dict(row.label_values)
            after = {name: value for name, value in (before | changes).items() if value}
            if len(after) > wit.MOST_LABELS:
                raise Unfit("node.too-many-labels", node, expected=f"at most {wit.MOST_LABELS}")
            revoked = 0
            if after != before:
                row.labels = to_text(after)
                row.version += 1
                body = {"before": before, "labels": after, "reason": _words(reason)}
                transaction.append(Entry(kind=Kind.NODE_LABELLED, subject=node, body=body))
                policy = self._service.policy(transaction).policy
                revoked = end_mislabelled(transaction, row, policy, before)
            return {**_node_json(row), "revoked": revoked}

    # What processes ask for

    def grant_list(self) -> list[Json]:
        """Return what waits for an operator, and what one has approved, oldest first."""
        with self._service.transaction() as transaction:
            return [_grant_json(row) for row in transaction.grants()]

    def grant_approve(self, grant: str, seconds: int, reason: str = "") -> Json:
        """Approve what waits, for so long from now."""
        longest = int(LONGEST.total_seconds())
        if not 0 < seconds <= longest:
            raise Malformed(f"expected 1 to {longest} seconds")
        with self._service.transaction() as transaction:
            row = _grant(transaction, grant)
            if row.is_open:
                expected, found = "one that waits; close it first", "open"
                raise Unfit("grant.open-already", row.id, expected=expected, found=found)
            approve(transaction, row, seconds=seconds, reason=_words(reason))
            return _grant_json(row)

    def grant_close(self, grant: str, reason: str = "") -> Json:
        """Close what is open, and end at once what rests on it; or refuse what waits."""
        with self._service.transaction() as transaction:
            row = _grant(transaction, grant)
            told = _grant_json(row)
            revoked = close(transaction, row, Cause.GRANT_CLOSED, reason=_words(reason))
            return {**told, "state": "closed", "revoked": revoked}

    # Policy

    def put(self, kind: str, text: str) -> Json:
        """Store a policy document in the place of the one of its name."""
        name = _name_of(kind, text)
        with self._service.transaction() as transaction:
            held = transaction.document(kind, name)
            if held is not None and held.text == text:
                version = transaction.policy_version()
                return {"kind": kind, "name": name, "version": version, "revoked": 0}
            policy = self._change(transaction, kind, name, text)
            body = {"kind": kind, "version": policy.version}
            transaction.append(Entry(kind=Kind.POLICY_PUT, subject=name, body=body))
            revoked = _end_what_changed(transaction, policy, held, text)
            return {"kind": kind, "name": name, "version": policy.version, "revoked": revoked}

    def remove(self, kind: str, name: str) -> Json:
        """Withdraw a policy document; the credentials of a workload end with it."""
        with self._service.transaction() as transaction:
            held = _document(transaction, kind, name)
            policy = self._change(transaction, kind, name, None)
            body = {"kind": kind, "version": policy.version}
            transaction.append(Entry(kind=Kind.POLICY_REMOVED, subject=name, body=body))
            revoked = _end_what_changed(transaction, policy, held, "")
            return {"kind": kind, "name": name, "version": policy.version, "revoked": revoked}

    def documents(self, kind: str) -> list[Json]:
        """Return the documents of a kind that count now, without their text."""
        with self._service.transaction() as transaction:
            rows = transaction.documents(transaction.policy_version())
            return [_document_json(row) | _in_short(row) for row in rows if row.kind == kind]

    def document(self, kind: str, name: str) -> Json:
        """Return a document that counts now."""
        with self._service.transaction() as transaction:
            row = _document(transaction, kind, name)
            return {**_document_json(row), "text": row.text}

    def _change(self, transaction: Transaction, kind: str, name: str, text: str | None) -> Policy:
        """Make a policy version with another text of this document; raise Rejected if none fits."""
        held = transaction.document(kind, name)
        version = transaction.next_policy_version()
        if held is not None:
            held.until = version
        if text is not None:
            transaction.insert(
                DocumentRow(kind=kind, name=name, since=version, until=None, text=text)
            )
        return policy_of(self._service.frame(version), read_documents(transaction, version))

    # Credentials

    def credential_list(self, every: bool = False) -> list[Json]:  # noqa: FBT001, FBT002 - JSON
        """Return the tokens that have not expired, or every one that was ever issued."""
        now = int(self._service.now().timestamp())
        with self._service.transaction() as transaction:
            tokens = transaction.tokens(expires_after=0 if every else now)
            return [_token_json(row) for row in tokens]

    def credential_revoke(self, jti: str) -> Json:
        """End the credential that this token belongs to."""
        with self._service.transaction() as transaction:
            token = transaction.token(jti)
            if token is None:
                raise Unfit("credential.unknown", label(jti), expected="the jti of a token")
            process = transaction.process(token.node, token.key_name)
            if process is not None:
                revoke_all(transaction, [process], Cause.OPERATOR)
            return {"jti": jti, "workload": token.workload, "was_valid": process is not None}

    # Relying parties

    def relying_party_add(
        self,
        name: str,
        audience: str,
        may_revoke: bool = False,  # noqa: FBT001, FBT002 - JSON
        minimum: str = LEVELS[0],
    ) -> Json:
        """Let somebody ask about tokens for an audience; return the secret, which is kept nowhere.

        One of this name that is there already gets a new secret.
        """
        if not _PARTY.fullmatch(name):
            raise Malformed(f"expected a name that matches {_PARTY.pattern}")
        if not re.fullmatch(wit.AUDIENCE, audience):
            raise Malformed("expected an audience as a workload has it")
        if minimum not in LEVELS:
            raise Malformed(f"expected a minimum among {', '.join(LEVELS)}")
        secret = base64url.encode(self._service.random(SECRET_BYTES))
        with self._service.transaction() as transaction:
            row = RelyingPartyRow(
                name=name,
                secret=secret_hash(secret),
                audience=audience,
                minimum=minimum,
                may_revoke=may_revoke,
                added=transaction.now,
            )
            transaction.add(row)
            body = {"audience": audience, "minimum": minimum, "may_revoke": may_revoke}
            transaction.append(Entry(kind=Kind.RELYING_PARTY_ADDED, subject=name, body=body))
            return {**_party_json(row), "secret": secret}

    def relying_party_list(self) -> list[Json]:
        """Return those who may ask, by name."""
        with self._service.transaction() as transaction:
            return [_party_json(row) for row in transaction.relying_parties()]

    def relying_party_remove(self, name: str) -> Json:
        """Answer somebody no longer."""
        with self._service.transaction() as transaction:
            row = transaction.relying_party(name)
            if row is None:
                expected = "the name of a relying party"
                raise Unfit("relying-party.unknown", label(name), expected=expected)
            told = _party_json(row)
            transaction.remove(row)
            transaction.append(Entry(kind=Kind.RELYING_PARTY_REMOVED, subject=name))
            return told

    # The record

    def ledger(self, after: int = 0, most: int = 100) -> list[Json]:
        """Return rows after this one, in order."""
        with self._service.transaction() as transaction:
            rows = transaction.ledger(after=after, most=_most(most))
            return [row.to_json() for row in rows]

    def ledger_tail(self, most: int = 20) -> list[Json]:
        """Return the last rows, in order."""
        with self._service.transaction() as transaction:
            rows = transaction.ledger(most=_most(most), last=True)
            return [row.to_json() for row in rows]

    def ledger_uses(self, most: int = 20, subject: str = "") -> list[Json]:
        """Return the last uses, in order; with `subject`, a SPIFFE ID, those of its processes."""
        with self._service.transaction() as transaction:
            rows = transaction.ledger(most=_most(most), last=True, kinds=USES, subject=subject)
            return [{"seq": row.seq, "subject": row.subject, **row.body} for row in rows]

    def ledger_evidence(self, seq: int) -> Json:
        """Return, base64, the file that the decision of this row can be judged again from."""
        with self._service.transaction() as transaction:
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
                key=self._service.keys.grant,
            )
        return {"seq": seq, "case": base64.b64encode(exported.encode()).decode("ascii")}

    def status(self) -> Json:
        """Return what there is, in numbers."""
        with self._service.transaction() as transaction:
            nodes = transaction.nodes()
            last = transaction.ledger(most=1, last=True)
            numbers = {
                "nodes": {
                    status: sum(row.status == status for row in nodes)
                    for status in (ENROLLED, PENDING, REMOVED)
                },
                "credentials": len(transaction.processes()),
                "policy_version": transaction.policy_version(),
                "ledger": last[0].seq if last else 0,
            }
        config = self._service.config
        own = {"issuer": config.issuer, "trust_domain": config.trust_domain}
        return {**own, "started": self._service.started.isoformat(), **numbers}


VERBS = (
    Operators.node_list,
    Operators.node_approve,
    Operators.node_remove,
    Operators.node_forget,
    Operators.node_approve_instance,
    Operators.node_label,
    Operators.grant_list,
    Operators.grant_approve,
    Operators.grant_close,
    Operators.put,
    Operators.remove,
    Operators.documents,
    Operators.document,
    Operators.credential_list,
    Operators.credential_revoke,
    Operators.relying_party_add,
    Operators.relying_party_list,
    Operators.relying_party_remove,
    Operators.ledger,
    Operators.ledger_tail,
    Operators.ledger_uses,
    Operators.ledger_evidence,
    Operators.status,
)
"""Everything that the socket lets through."""

_VERBS = {verb.__name__: verb for verb in VERBS}


def call(operators: Operators, name: str, arguments: Mapping[str, object]) -> object:
    """Return what the verb answers; raise Malformed on an unknown one or other arguments."""
    verb = _VERBS.get(name)
    if verb is None:
        raise Malformed(f"expected one of the verbs {', '.join(_VERBS)}")
    hints = get_type_hints(verb)
    for key, value in arguments.items():
        if key not in hints or not _is_a(value, hints[key]):
            raise Malformed(f"{name}: {label(key)} is not what it takes")
    try:
        bound = signature(verb).bind(operators, **arguments)
    except TypeError as error:
        raise Malformed(f"{name}: {error}") from error
    return verb(*bound.args, **bound.kwargs)


def _is_a(value: object, hint: Any) -> bool:  # noqa: ANN401 - a type, or a list of one
    if get_origin(hint) is not list:
        return type(value) is hint
    (member,) = get_args(hint)
    return isinstance(value, list) and all(type(one) is member for one in value)


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


def _end_what_changed(
    transaction: Transaction, policy: Policy, held: DocumentRow | None, text: str
) -> int:
    """End at once what no longer fits since `held` has become `text`, empty where it is gone."""
    if held is None:
        return 0
    if held.kind == REFERENCE:
        revoked = revoke_unfit(transaction, policy, Cause.REFERENCE_WITHDRAWN)
        if not _has_all_of(text, held.text):
            revoked += revoke_importers(transaction, policy, held.name)
        return revoked
    if held.kind == BOOT_POLICY:
        return _end_boots(transaction, read_boot_policy(held.text), text)
    if held.kind == KERNEL_POLICY:
        # Its name is its digest, so it is the same or gone.
        return revoke_ruled_by(transaction, sha256(held.text.encode()).digest())
    return _end_workload(transaction, policy, held, text)


def _end_workload(transaction: Transaction, policy: Policy, held: DocumentRow, text: str) -> int:
    if not text:
        close_all(transaction, workload=held.name)
        return revoke_unfit(transaction, policy, Cause.WORKLOAD_REMOVED)
    revoked = revoke_unfit(transaction, policy, Cause.WORKLOAD_CHANGED)
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


def _label_change(text: str) -> tuple[str, str]:
    """Return name and value, which is empty for a label that goes."""
    name, equals, value = text.partition("=")
    is_label = re.fullmatch(wit.LABEL, name) and (not value or re.fullmatch(wit.LABEL_VALUE, value))
    if not equals or not is_label:
        raise Malformed(f"{label(text)}: expected NAME=VALUE, or NAME= for a label that goes")
    return name, value


def _words(reason: str) -> str:
    """Return an operator's own words, as the ledger keeps them."""
    if len(reason) > MOST_WORDS or not reason.isprintable():
        raise Malformed(f"expected a reason on one line, at most {MOST_WORDS} characters")
    return reason


def _grant(transaction: Transaction, id_: str) -> GrantRow:
    row = transaction.grant(id_)
    if row is None or row.until <= transaction.now:
        expected = "a grant that waits or is open: verifier grant list"
        raise Unfit("grant.unknown", label(id_), expected=expected)
    return row


def _node(transaction: Transaction, name: str) -> NodeRow:
    row = transaction.node(name)
    if row is None:
        raise Unfit(Reason.NODE_UNKNOWN, label(name), expected="the name of a node")
    return row


def _document(transaction: Transaction, kind: str, name: str) -> DocumentRow:
    row = transaction.document(kind, name)
    if row is None:
        raise Unfit("policy.no-such-document", label(name), expected=f"the name of a {kind}")
    return row


def _digest(text: str) -> bytes:
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise Malformed("expected the SHA-256 of an instance key, 64 hexadecimal digits")
    return bytes.fromhex(text)


def _most(number: int) -> int:
    if not 0 < number <= MOST_ROWS:
        raise Malformed(f"expected 1 to {MOST_ROWS} rows")
    return number


def _node_json(row: NodeRow) -> Json:
    return {
        "node": row.name,
        "status": row.status,
        "ek_hash": row.ek_hash,
        "ak": row.ak_name.hex(),
        "firmware_version": row.firmware,
        "instance": row.instance.hex(),
        "approved_instances": [one.hex() for one in row.approved_instances],
        "enrolled": _time(row.enrolled),
        "accepted": _time(row.accepted),
        "labels": dict(row.label_values),
    }


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
        "asked": _time(row.asked),
        "until": _time(row.until),
    }


def _party_json(row: RelyingPartyRow) -> Json:
    return {
        "name": row.name,
        "audience": row.audience,
        "minimum": row.minimum,
        "may_revoke": row.may_revoke,
        "added": _time(row.added),
    }


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


def _token_json(row: TokenRow) -> Json:
    return {
        "jti": row.jti,
        "workload": row.workload,
        "node": row.node,
        "key": row.key_name.hex(),
        "step": row.step,
        "level": row.level,
        "issued": _time(row.issued),
        "expires": _time(row.expires),
        "status": row.status,
        "cause": row.cause,
        "revoked": _time(row.revoked),
        "decision": row.ledger,
    }


def _time(seconds: int) -> str:
    """Return a time as people read it, empty where there is none."""
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""
