"""Settlement: what becomes of the credential of each process of an accepted node."""

from collections.abc import Sequence
from dataclasses import replace

import credential
from evidence.messages import Outcome
from evidence.process import NO_ORIGIN, CoreRecord
from verifier.conversation.holdings import remember
from verifier.endings import reinstate, revoke, void
from verifier.grants import ask
from verifier.ledger import Cause
from verifier.mint import Minted, Occasion, mint
from verifier.node import Errand
from verifier.policy import LEVELS
from verifier.reasons import Finding, Reason, Rejected, label, reject
from verifier.rows import ProcessRow
from verifier.service import Service
from verifier.store import Transaction
from verifier.verdict import Accepted, Refused


def settle(
    service: Service,
    transaction: Transaction,
    node: str,
    judged: Accepted | Refused,
    occasion: Occasion,
) -> Outcome:
    """Give the process its credential, or end the one that it has."""
    held = transaction.process(node, judged.key_name)
    if isinstance(judged, Refused):
        return _refuse(service, transaction, judged, held)
    try:
        minted = _mint(service, transaction, judged, held, occasion)
    except Rejected as rejected:
        refused = Refused(key_name=judged.key_name, findings=rejected.findings)
        return _refuse(service, transaction, refused, held)
    if held is not None:
        reinstate(transaction, held)
        _void_untrue(transaction, held, judged)
    remember(transaction, node, judged, minted, occasion)
    return Outcome(key_name=judged.key_name, grant=minted.grant, findings=())


def _mint(
    service: Service,
    transaction: Transaction,
    accepted: Accepted,
    held: ProcessRow | None,
    occasion: Occasion,
) -> Minted:
    """Return what the process gets; raise Rejected if no token can say what it would have to."""
    try:
        return mint(
            accepted,
            held.token if held else None,
            occasion=_bounded(transaction, accepted, occasion),
            keys=service.keys,
            random=service.random,
            new_slot=lambda: transaction.new_slot(service.random),
        )
    except credential.Malformed as malformed:
        raise reject(Reason.MALFORMED_PROCESS, found=label(str(malformed))) from malformed


def _bounded(transaction: Transaction, accepted: Accepted, occasion: Occasion) -> Occasion:
    """Have a step's token end with its parent's at the latest; raise Rejected where that has none.

    The parent was settled before. Unless a window or an approval bounds its token, half of that
    one's life is left at least, and it is renewed before half of the step's is over.
    """
    core = accepted.core
    if core.origin == NO_ORIGIN:
        return occasion
    parent = transaction.process(core.node, core.origin.parent_key)
    if parent is None:
        raise reject(Reason.PROCESS_PARENT_GONE, expected=label(core.origin.parent))
    return replace(occasion, until=parent.token.expires)


def _void_untrue(transaction: Transaction, process: ProcessRow, judged: Accepted) -> None:
    """End the tokens of a process that say what is no longer so.

    They say a higher level than the evidence reaches now, or name another approval.
    """
    if LEVELS.index(judged.level) < LEVELS.index(process.level):
        void(transaction, process, Cause.LEVEL_FELL)
    elif process.approval not in ("", judged.granted.approval):
        void(transaction, process, Cause.GRANT_CLOSED)


def _refuse(
    service: Service, transaction: Transaction, refused: Refused, held: ProcessRow | None
) -> Outcome:
    """End the credential that the process has; without one, it may be that an operator is asked."""
    if held is not None:
        revoke(transaction, held, _cause_of(refused.findings), refused.findings)
    elif refused.asking is not None:
        refused = _ask(service, transaction, refused, *refused.asking)
    findings = tuple(one.text() for one in refused.findings)
    return Outcome(key_name=refused.key_name, grant="", findings=findings)


_CAUSES = {
    Reason.USE_WINDOW: Cause.WINDOW_CLOSED,
    Reason.USE_GRANT: Cause.GRANT_EXPIRED,
    Reason.PROCESS_LABELS: Cause.LABELS_CHANGED,
}


def _cause_of(findings: Sequence[Finding]) -> Cause:
    """Return why the credential of a process ends that was refused for these findings."""
    told = (_CAUSES.get(one.reason) for one in findings)
    return next((one for one in told if one), Cause.REFUSED)


def _ask(
    service: Service, transaction: Transaction, refused: Refused, core: CoreRecord, errand: Errand
) -> Refused:
    """Have an operator asked, and tell the process what he has to do."""
    id_ = ask(transaction, core, errand, random=service.random)
    waits = f"verifier grant approve {id_}" if id_ else "fewer requests that wait already"
    findings = tuple(replace(one, expected=waits) for one in refused.findings)
    return replace(refused, findings=findings)
