"""Judgement: evidence comes in, and is accepted or refused with all that follows."""

import logging

from evidence import Malformed
from evidence.messages import Evidence, Result, SignedMessage
from verifier.case import judge
from verifier.conversation.acceptance import accept
from verifier.conversation.challenges import demand_current, spend_challenge
from verifier.conversation.refusal import refuse
from verifier.conversation.snapshots import Snapshot, take_snapshot
from verifier.conversation.strangers import recorded
from verifier.instance import verify_signed
from verifier.ledger import Kind
from verifier.reasons import Reason, Rejected, reject
from verifier.service import Service
from verifier.store import Stale
from verifier.verdict import NodeVerdict

ATTEMPTS = 3
"""How often evidence is judged when what it was judged with changes meanwhile."""

log = logging.getLogger("verifier")


def judge_evidence(service: Service, message: SignedMessage, *, address: str = "") -> Result:
    """Judge the evidence, and record what follows: credentials, or their end.

    `address` is where it came from, empty where nobody knows.
    """
    signed = verify_signed(message)
    evidence = Evidence.decode(signed.payload)
    with recorded(service, Kind.EVIDENCE_REFUSED, evidence.node):
        with service.transaction() as transaction:
            challenge = spend_challenge(transaction, evidence, signed.signer)
            snapshot = take_snapshot(service, transaction, message, challenge, address)
        # Only now, as what is refused for its challenge has spent it.
        demand_current(snapshot.case, signed.signer, now=service.now())
    for _ in range(ATTEMPTS):
        verdict = _judge(service, snapshot, signed.signer)
        try:
            return accept(service, snapshot, verdict)
        except Stale:
            log.info("%s: what its evidence was judged with has changed", evidence.node)
        with service.transaction() as transaction:
            again = take_snapshot(service, transaction, message, challenge, address)
        if snapshot.is_overtaken_by(again):
            break
        snapshot = again
    raise Stale(evidence.node)


def _judge(service: Service, snapshot: Snapshot, signer: bytes) -> NodeVerdict:
    """Return the verdict; a refusal is recorded, with all that follows, before it is raised."""
    try:
        return judge(snapshot.case)
    except (Malformed, Rejected) as refusal:
        refuse(service, snapshot, signer, refusal)
        raise
    except Exception as error:
        log.exception("%s: the appraisal failed", snapshot.case.node.name)
        rejected = reject(Reason.INTERNAL, found=type(error).__name__)
        refuse(service, snapshot, signer, rejected)
        raise rejected from error
