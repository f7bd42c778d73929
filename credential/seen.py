"""Remembering proofs that were let in, so that none is let in twice."""

import heapq
from collections import Counter
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
        """Remember `proof` until then; False if it is remembered already.

        It is a short text, `TOKEN.PROOF`: a digest of the token that it was made for, and the
        proof's own id. One that cannot be remembered must not be True. Both times know their time
        zone. No token may take all of the room: its process would be the only one that is let in.
        """


@dataclass(slots=True, kw_only=True)
class Seen:
    """A replay store in the memory of one process.

    It forgets when the process ends: proofs of the last two minutes would be let in once more
    (`credential.seen_file` knows them still). Full, it refuses, and one token's proofs have only as
    much room as they leave to all others. A clock that is set back refuses what may have been
    forgotten already.
    """

    most: int = MOST_PROOFS
    _known: set[str] = field(default_factory=set)
    _by_end: list[tuple[datetime, str]] = field(default_factory=list)
    _of_token: Counter[str] = field(default_factory=Counter)
    _latest: datetime = _BEGINNING

    def add(self, proof: str, *, now: datetime, until: datetime) -> bool:
        """Remember `proof` until then; False if it is known, Refused if there is no room."""
        self._latest = max(self._latest, now)
        self._forget()
        if proof in self._known or until <= self._latest:
            return False
        token = token_of(proof)
        demand_room(self.most - len(self._known), taken=self._of_token[token])
        self._known.add(proof)
        self._of_token[token] += 1
        heapq.heappush(self._by_end, (until, proof))
        return True

    def _forget(self) -> None:
        while self._by_end and self._by_end[0][0] <= self._latest:
            proof = heapq.heappop(self._by_end)[1]
            token = token_of(proof)
            self._known.discard(proof)
            self._of_token[token] -= 1
            if not self._of_token[token]:
                del self._of_token[token]


def token_of(proof: str) -> str:
    """Return the digest of the token that a proof was made for."""
    return proof.partition(".")[0]


def demand_room(left: int, *, taken: int) -> None:
    """Raise Refused unless there is room for one more of those who have taken so much of it.

    Who has as much as is left to everybody waits: one alone gets half, two a third each, and
    whoever comes next finds room.
    """
    if left <= 0:
        raise Refused.because(Reason.PROOF_STORE_FULL, "too many requests to remember")
    if taken >= left:
        found = f"{taken} with this token"
        raise Refused.because(
            Reason.REQUEST_TOO_MANY, "requests", expected=f"fewer than {left}", found=found
        )
