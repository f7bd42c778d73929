"""Remembering proofs that were let in, so that none is let in twice."""

import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from credential.reasons import Reason, Refused

MOST_PROOFS = 100_000
"""Some 20 MB; at two minutes a proof, some 800 requests per second."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)


class ReplayStore(Protocol):
    """Where proofs are remembered; shared by all processes that serve one audience."""

    def add(self, proof: str, *, now: datetime, until: datetime) -> bool:
        """Remember `proof`, a short text, until then; False if it is remembered already.

        One that cannot be remembered must not be True. Both times know their time zone.
        """


@dataclass(slots=True, kw_only=True)
class Seen:
    """A replay store in the memory of one process.

    It forgets when the process ends: proofs of the last two minutes would be let in once more
    (`credential.seen_file` knows them still). Full, it refuses. A clock that is set back refuses
    what may have been forgotten already.
    """

    most: int = MOST_PROOFS
    _known: set[str] = field(default_factory=set)
    _by_end: list[tuple[datetime, str]] = field(default_factory=list)
    _latest: datetime = _BEGINNING

    def add(self, proof: str, *, now: datetime, until: datetime) -> bool:
        """Remember `proof` until then; False if it is known, Refused if there is no room."""
        self._latest = max(self._latest, now)
        self._forget()
        if proof in self._known or until <= self._latest:
            return False
        if len(self._known) >= self.most:
            raise Refused.because(Reason.PROOF_STORE_FULL, "too many requests to remember")
        self._known.add(proof)
        heapq.heappush(self._by_end, (until, proof))
        return True

    def _forget(self) -> None:
        while self._by_end and self._by_end[0][0] <= self._latest:
            self._known.discard(heapq.heappop(self._by_end)[1])
