"""Activations: a node that enrols proves that its EK and its AK share a TPM."""

from evidence.messages import Activation, ActivationAnswer, Enrol, Enrolled
from verifier.conversation.strangers import recorded
from verifier.crypto.activation import ENTROPY_BYTES, make_credential
from verifier.enrolment import JudgedEnrolment, ek_hash, judge_enrolment, verify_answer
from verifier.inventory import read_inventory
from verifier.ledger import Entry, Kind, findings_json
from verifier.reasons import Reason, Rejected, reject
from verifier.rows import ENROLLED, PENDING, ActivationRow, NodeRow
from verifier.service import Service
from verifier.store import Transaction

ID_BYTES = 16
SECRET_BYTES = 32
MOST_ACTIVATIONS = 10_000
"""Enrolments that wait at a time: what strangers can make the database hold."""


class Busy(Exception):
    """There is no room for another one now: nothing was decided."""


def enrol(service: Service, message: Enrol) -> Activation:
    """Return the question whose answer proves that the node's EK and AK share a TPM."""
    recording = recorded(service, Kind.NODE_ENROLMENT_REFUSED, message.node)
    with recording, service.transaction() as transaction:
        judged = _judge(service, transaction, message)
    id_, secret = service.random(ID_BYTES).hex(), service.random(SECRET_BYTES)
    expires = int((service.now() + service.config.activation_lifetime).timestamp())
    id_object, encrypted_secret = make_credential(
        judged.ek, name=judged.ak_name, secret=secret, entropy=service.random(ENTROPY_BYTES)
    )
    row = ActivationRow(id=id_, enrol=message.encode(), secret=secret, expires=expires)
    with service.transaction() as transaction:
        if transaction.count_activations() >= MOST_ACTIVATIONS:
            raise Busy("too many enrolments wait for their answers")
        transaction.insert(row)
    return Activation(
        id=id_, expires=expires, id_object=id_object, encrypted_secret=encrypted_secret
    )


def answer_activation(service: Service, message: ActivationAnswer) -> Enrolled:
    """Enrol the node, or keep it pending, if the answer is right; it counts once."""
    activation = _spend(service, message.id)
    asked = Enrol.decode(activation.enrol)
    recording = recorded(service, Kind.NODE_ENROLMENT_REFUSED, asked.node)
    with recording, service.transaction() as transaction:
        judged = _judge(service, transaction, asked)
        verify_answer(message, judged=judged, id_=activation.id, secret=activation.secret)
        row = transaction.node(judged.node) or _new_node(transaction, judged)
        row.status = _next_status(row, is_allowed=judged.is_allowed)
        row.version += 1
        _record(transaction, judged, row.status)
        return Enrolled(node=judged.node, status=row.status, ek_hash=judged.ek_hash)


def _spend(service: Service, id_: str) -> ActivationRow:
    """Return the enrolment that waits under this id; it waits no longer."""
    with service.transaction() as transaction:
        found = transaction.activation(id_)
        if found is not None:
            transaction.remove(found)
    if found is None or found.expires < service.now().timestamp():
        raise reject(Reason.ENROL_CHALLENGE, "activation", expected="one that waits")
    return found


def _judge(service: Service, transaction: Transaction, message: Enrol) -> JudgedEnrolment:
    holder = transaction.node(message.node)
    ek_holder = transaction.node_with_ek(_ek_hash(message))
    return judge_enrolment(
        message,
        holder=holder.value() if holder else None,
        ek_holder=ek_holder.name if ek_holder else "",
        inventory=read_inventory(service.config.allow_list),
        trust=service.trust,
        require_certificate=service.config.require_ek_certificate,
        now=service.now(),
    )


def _ek_hash(message: Enrol) -> str:
    """Return the EK's hash, empty where it has none: `judge_enrolment` will say why."""
    try:
        return ek_hash(message.ek_public)
    except Rejected:
        return ""


def _new_node(transaction: Transaction, judged: JudgedEnrolment) -> NodeRow:
    row = NodeRow(
        name=judged.node,
        status=PENDING,
        ek_hash=judged.ek_hash,
        ek_public=judged.ek_public,
        certificate=judged.ek_certificate,
        ak_public=judged.ak_public,
        ak_name=judged.ak_name,
        enrolled=transaction.now,
        list_number=transaction.next_list_number(judged.node),
    )
    transaction.insert(row)
    return row


def _next_status(row: NodeRow, *, is_allowed: bool) -> str:
    """Return the status after a proven enrolment; what an operator removed waits for him."""
    if row.is_barred:
        return PENDING
    return ENROLLED if is_allowed else row.status


def _record(transaction: Transaction, judged: JudgedEnrolment, status: str) -> None:
    kind = Kind.NODE_ENROLLED if status == ENROLLED else Kind.NODE_PENDING
    body = {
        "ek_hash": judged.ek_hash,
        "ak": judged.ak_name.hex(),
        "findings": findings_json(judged.reported),
    }
    transaction.append(Entry(kind=kind, subject=judged.node, body=body))
