"""How much of the attestor one user may have at a time.

Everything that costs (hashing files, the TPM, the verifier) is behind `turn`: one of a kind of
work for each uid, and no more than so many in a while. A user who asks a thousand times waits
behind himself; everybody else takes turns with his one piece of work.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from attestor.reasons import Local, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Per uid, but for the first."""

    connections: int = 4096
    """Of all users together."""
    user_connections: int = 1024
    waiting: int = 32
    """Connections that have no credential yet."""
    burst: int = 64
    """Pieces of work that may follow each other at once."""
    per_minute: int = 240
    """Pieces of work after that."""


@dataclass(slots=True)
class _User:
    tokens: float
    filled: float
    connections: int = 0
    waiting: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    proof_turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Admission:
    """Counts for each uid what is going on; `clock` gives seconds that only grow."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._users: dict[int, _User] = {}
        self._connections = 0

    @contextmanager
    def connection(self, uid: int) -> Iterator[None]:
        """Count a connection for the time of the block.

        The fewer are free, the smaller a part of them is one user's: it takes more than a hundred
        users to have all of 4096.
        """
        user = self._user(uid)
        limits = self._limits
        free = limits.connections - self._connections
        share = max(free * free // limits.connections, 1) if free else 0
        if user.connections >= min(limits.user_connections, share):
            raise refuse(Local.TOO_MANY, f"connections of uid {uid}")
        user.connections += 1
        self._connections += 1
        try:
            yield
        finally:
            user.connections -= 1
            self._connections -= 1
            self._forget(uid)

    @contextmanager
    def waiting(self, uid: int) -> Iterator[None]:
        """Count a connection that wants a credential for the time of the block."""
        user = self._user(uid)
        if user.waiting >= self._limits.waiting:
            raise refuse(
                Local.TOO_MANY,
                f"requests of uid {uid} at a time",
                expected=f"at most {self._limits.waiting}",
            )
        user.waiting += 1
        try:
            yield
        finally:
            user.waiting -= 1
            self._forget(uid)

    @asynccontextmanager
    async def turn(self, uid: int, *, cost: int = 1) -> AsyncIterator[None]:
        """Wait until no other work of this uid is going on, and count this."""
        user = self._user(uid)
        async with user.turn:
            self._spend(uid, user, cost)
            yield

    @asynccontextmanager
    async def proof_turn(self, uid: int) -> AsyncIterator[None]:
        """Wait until no other proof for this uid is going on; there may be any number."""
        async with self._user(uid).proof_turn:
            yield

    def _spend(self, uid: int, user: _User, cost: int) -> None:
        now = self._clock()
        gained = (now - user.filled) * self._limits.per_minute / 60
        user.tokens = min(user.tokens + gained, float(self._limits.burst))
        user.filled = now
        if user.tokens < cost:
            raise refuse(
                Local.TOO_MANY,
                f"requests of uid {uid}",
                expected=f"at most {self._limits.per_minute} a minute",
            )
        user.tokens -= cost

    def _user(self, uid: int) -> _User:
        if uid not in self._users:
            self._users[uid] = _User(tokens=self._limits.burst, filled=self._clock())
        return self._users[uid]

    def _forget(self, uid: int) -> None:
        """Drop a user about whom there is nothing to remember."""
        user = self._users[uid]
        idle = user.connections == user.waiting == 0 and not user.turn.locked()
        full_after = (self._limits.burst - user.tokens) * 60 / self._limits.per_minute
        if idle and self._clock() - user.filled >= full_after:
            del self._users[uid]
