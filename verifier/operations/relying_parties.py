"""Relying parties: who may ask what became of a token."""

import re

from credential import base64url, wit
from evidence import Malformed
from verifier.ledger import Entry, Kind
from verifier.operations.answers import Json, Unfit, time_text
from verifier.policy import LEVELS
from verifier.reasons import label
from verifier.relying_parties import SECRET_BYTES, secret_hash
from verifier.rows import RelyingPartyRow
from verifier.service import Service

_PARTY = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
"""No character that a form or HTTP's Basic scheme would write otherwise (RFC 6749, 2.3.1)."""


def add_relying_party(
    service: Service,
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
    secret = base64url.encode(service.random(SECRET_BYTES))
    with service.transaction() as transaction:
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


def list_relying_parties(service: Service) -> list[Json]:
    """Return those who may ask, by name."""
    with service.transaction() as transaction:
        return [_party_json(row) for row in transaction.relying_parties()]


def remove_relying_party(service: Service, name: str) -> Json:
    """Answer somebody no longer."""
    with service.transaction() as transaction:
        row = transaction.relying_party(name)
        if row is None:
            expected = "the name of a relying party"
            raise Unfit("relying-party.unknown", label(name), expected=expected)
        told = _party_json(row)
        transaction.remove(row)
        transaction.append(Entry(kind=Kind.RELYING_PARTY_REMOVED, subject=name))
        return told


def _party_json(row: RelyingPartyRow) -> Json:
    return {
        "name": row.name,
        "audience": row.audience,
        "minimum": row.minimum,
        "may_revoke": row.may_revoke,
        "added": time_text(row.added),
    }
