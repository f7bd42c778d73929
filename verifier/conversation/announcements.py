"""Announcements: what a running attestor tells of processes between two evidences."""

from evidence import Malformed
from evidence.messages import Gone, GoneAnswer, SignedMessage, Wanted, WantedAnswer
from evidence.process import CoreRecord
from verifier.bounds import demand_core
from verifier.conversation.standing import demand_instance
from verifier.endings import revoke_all
from verifier.instance import verify_signed
from verifier.ledger import TOLD_BY_NODE, Cause
from verifier.reasons import label
from verifier.selection import select_workload
from verifier.service import Service


def answer_wanted(service: Service, message: SignedMessage) -> WantedAnswer:
    """Say that a workload wants this core record; raise Rejected if none does."""
    signed = verify_signed(message)
    wanted = Wanted.decode(signed.payload)
    with service.reading() as reading:
        demand_instance(reading, wanted.node, signed.signer)
        policy = service.policy(reading).policy
    demand_core(wanted.core)
    core = CoreRecord.decode(wanted.core)
    workload = select_workload(core, node=wanted.node, policy=policy)
    return WantedAnswer(core=core.digest(), wants_canary=workload.needs_canary)


def answer_gone(service: Service, message: SignedMessage) -> GoneAnswer:
    """End the credentials of processes that ended; keys that have none are answered too."""
    signed = verify_signed(message)
    gone = Gone.decode(signed.payload)
    causes = {one.key_name: _told_cause(one.cause) for one in gone.processes}
    with service.reading() as reading:
        demand_instance(reading, gone.node, signed.signer)
    with service.transaction() as transaction:
        demand_instance(transaction, gone.node, signed.signer)
        for key_name, cause in causes.items():
            process = transaction.process(gone.node, key_name)
            if process is not None:
                revoke_all(transaction, [process], cause)
    return GoneAnswer(key_names=tuple(one.key_name for one in gone.processes))


def _told_cause(text: str) -> Cause:
    """Return a cause that a node may give; raise Malformed on any other."""
    if text not in TOLD_BY_NODE:
        raise Malformed(f"expected one of {', '.join(TOLD_BY_NODE)}, got {label(text)!r}")
    return Cause(text)
