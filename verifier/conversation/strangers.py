"""Strangers: what those who have proven nothing leave in the ledger."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from verifier.ledger import Entry, Kind, findings_json
from verifier.reasons import Rejected, label
from verifier.service import Service

log = logging.getLogger("verifier")


@contextmanager
def recorded(service: Service, kind: Kind, subject: str) -> Iterator[None]:
    """Record a refusal of somebody who has proven nothing yet."""
    try:
        yield
    except Rejected as rejected:
        log.info("%s: %s: %s", kind, label(subject), rejected)
        if service.has_room_for_stranger():
            body = {"findings": findings_json(rejected.findings)}
            with service.transaction() as transaction:
                transaction.append(Entry(kind=kind, subject=label(subject), body=body))
        raise
