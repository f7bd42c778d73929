"""What relying parties may ask: the state of a token now, its end, and the list of all states.

RFC 7662 (introspection), RFC 7009 (revocation) and draft-ietf-oauth-status-list-17. A relying
party is registered by an operator for one audience, and proves itself by HTTP's Basic scheme with
the secret that it was given; of tokens for others it learns nothing.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256

from credential import Keys, status, wit
from credential import Malformed as MalformedToken
from credential import Reason as TokenReason
from credential import Refused as RefusedToken
from credential.status import Status, StatusList
from credential.use import Use, to_members
from verifier.endings import revoke_all
from verifier.ledger import Cause, Entry, Kind
from verifier.mint import status_list_uri
from verifier.policy import LEVELS
from verifier.rows import REVOKED, SUSPENDED, VALID, RelyingPartyRow, TokenRow, UseRow
from verifier.service import Service
from verifier.store import LIST_ENTRIES, Transaction
from verifier.workload import MOST_LIFETIME

SECRET_BYTES = 32
"""Of chance, in what a relying party is given once."""

MISUSES = frozenset(
    str(one)
    for one in (TokenReason.PROOF_MISSING, TokenReason.PROOF_SIGNATURE, TokenReason.PROOF_TOKEN)
)
"""What a relying party may report of a token: it came alone, or with somebody else's proof."""

_STATUSES = {REVOKED: Status.INVALID, SUSPENDED: Status.SUSPENDED}

Json = dict[str, object]


class NotAllowed(Exception):
    """The asker is nobody that we know, or may not ask for this."""

    def __init__(self, reason: str, what: str, *, is_unknown: bool = False) -> None:
        self.finding = {"reason": reason, "what": what, "expected": "", "found": ""}
        self.is_unknown = is_unknown
        super().__init__(f"{reason}: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who somebody says that he is, and what is to prove it."""

    name: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A token of ours, whatever became of it."""

    claims: wit.Claims
    row: TokenRow


def secret_hash(secret: str) -> bytes:
    """Return what is kept of a secret; it is random, so nobody tries them all."""
    return sha256(secret.encode()).digest()


def introspect(service: Service, asker: Asker, token: str) -> Json:
    """Say what a token says if it is valid now, and nothing of any other (RFC 7662, 2.2).

    To somebody who wants a higher level than its own it is not valid.
    """
    with service.reading() as reading:
        party = _party(reading, asker)
        held = _held(service, reading, token)
    if held is None or not _is_for(party, held) or not _is_active(service, held):
        return {"active": False}
    if LEVELS.index(held.claims.procseal.level) < LEVELS.index(party.minimum):
        return {"active": False}
    claims = held.claims
    return {"active": True, "scope": " ".join(claims.procseal.scopes), **wit.as_json(claims)}


def revoke_token(service: Service, asker: Asker, token: str) -> Json:
    """End the credential that a token belongs to; what is unknown or over is over."""
    _demand_known(service, asker)
    with service.transaction() as transaction:
        party = _party(transaction, asker)
        if not party.may_revoke:
            raise NotAllowed("relying-party.may-not-revoke", party.name)
        held = _held(service, transaction, token)
        if held is not None:
            if not _is_for(party, held):
                raise NotAllowed("relying-party.of-another-audience", party.name)
            _revoke(transaction, held, Cause.RELYING_PARTY, party)
    return {}


def report_misuse(service: Service, asker: Asker, token: str, misuse: str) -> Json:
    """Record that a token was misused; end its credential where its workload says so."""
    _demand_known(service, asker)
    with service.transaction() as transaction:
        party = _party(transaction, asker)
        held = _held(service, transaction, token)
        if held is None or not _is_for(party, held) or not _is_active(service, held):
            return {"revoked": False}
        if service.has_room_for_stranger():
            body = {"jti": held.row.jti, "misuse": misuse, "by": party.name}
            kind = Kind.TOKEN_MISUSED
            transaction.append(Entry(kind=kind, subject=held.row.workload, body=body))
        workload = service.policy(transaction).policy.workload(held.row.workload)
        if workload is None or not workload.revokes_misused:
            return {"revoked": False}
        return {"revoked": _revoke(transaction, held, Cause.MISUSED, party)}


def record_uses(service: Service, asker: Asker, uses: Sequence[Use]) -> Json:
    """Write what a relying party has decided into the ledger: all of it, each line once.

    It is that relying party's word. What the verifier adds is whether the token that a line
    names is one that it has issued, to that identity on that node.
    """
    _demand_known(service, asker)
    with service.transaction() as transaction:
        party = _party(transaction, asker)
        if any(one.audience != party.audience for one in uses):
            raise NotAllowed("relying-party.of-another-audience", party.name)
        for one in uses:
            if transaction.use(party.name, one.id) is None:
                seq = transaction.append(_use_entry(transaction, party, one))
                transaction.insert(UseRow(party=party.name, id=one.id, ledger=seq))
    return {"recorded": len(uses)}


def make_status_list(service: Service, number: int) -> str | None:
    """Return the status list of this number as it is now, None where there is none."""
    with service.reading() as reading:
        if not 0 < number <= reading.newest_status_list():
            return None
        found = reading.status_list(number)
    now, wit_key = service.now(), service.keys.wit
    statuses = {index: _STATUSES[state] for index, state in found.items()}
    made = StatusList(
        uri=status_list_uri(service.config.issuer, number),
        issued=now,
        # What stands in it has expired by then; what is put into it later needs a later list.
        expires=now + MOST_LIFETIME,
        ttl=max(service.config.interval, timedelta(seconds=1)),
        statuses=status.pack(statuses, entries=LIST_ENTRIES),
    )
    return status.encode(made, key=wit_key.private, kid=wit_key.kid)


def _demand_known(service: Service, asker: Asker) -> None:
    """Refuse strangers before they take a place in the queue of those who write."""
    with service.reading() as reading:
        _party(reading, asker)


def _held(service: Service, transaction: Transaction, token: str) -> _Held | None:
    key = service.keys.wit
    keys = Keys.of(service.config.trust_domain, [(key.kid, key.point)])
    try:
        claims = wit.read(token, keys)
    except (MalformedToken, RefusedToken):
        return None
    row = transaction.token(claims.jti)
    return _Held(claims=claims, row=row) if row else None


def _is_active(service: Service, held: _Held) -> bool:
    return held.row.status == VALID and service.now().timestamp() < held.row.expires


def _party(transaction: Transaction, asker: Asker) -> RelyingPartyRow:
    """Return the one who asks, if the secret is his; raise NotAllowed otherwise."""
    row = transaction.relying_party(asker.name)
    expected = row.secret if row else bytes(32)
    if not hmac.compare_digest(expected, secret_hash(asker.secret)) or row is None:
        raise NotAllowed("relying-party.unknown", "name and secret", is_unknown=True)
    return row


def _is_for(party: RelyingPartyRow, held: _Held) -> bool:
    return party.audience in held.claims.procseal.audiences


def _use_entry(transaction: Transaction, party: RelyingPartyRow, one: Use) -> Entry:
    row = transaction.token(one.jti) if one.jti else None
    is_ours = row is not None and (row.workload, row.node) == (one.subject, one.node)
    said = {name: value for name, value in to_members(one).items() if name != "subject"}
    kind = Kind.USE_ACCEPTED if one.is_accepted else Kind.USE_REFUSED
    body = {**said, "by": party.name, "is_ours": is_ours}
    return Entry(kind=kind, subject=one.subject, body=body)


def _revoke(transaction: Transaction, held: _Held, cause: Cause, party: RelyingPartyRow) -> bool:
    process = transaction.process(held.row.node, held.row.key_name)
    if process is None:
        return False
    revoke_all(transaction, [process], cause, by=party.name)
    return True
