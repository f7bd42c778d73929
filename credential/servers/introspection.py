"""Asking the verifier about each token, for whichever server: no list is kept, and nothing is late.

status = Introspection(Verifier(url, tls=tls, name="ledger", secret=secret))
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from aiohttp import ClientSession, encode_basic_auth

from credential.introspection import MOST_BYTES, Introspected
from credential.servers.verifier import Verifier, session, utc_now, whole_body


class Introspection:
    """Questions to one verifier (RFC 7662), which has to be there: without an answer, no entry."""

    def __init__(self, verifier: Verifier, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._verifier = verifier
        self._clock = clock
        self._session: ClientSession | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold a session until the end of the block."""
        async with session() as opened:
            self._session = opened
            try:
                yield
            finally:
                self._session = None

    async def ask(self, token: str) -> Introspected:
        """Return the answer; raise OSError where there is none, Malformed or Refused by what it is.

        The token goes to the verifier, so ask about those alone that it has signed.
        """
        assert self._session is not None, "the questions are open"
        asked = self._clock()
        verifier = self._verifier
        proof = encode_basic_auth(verifier.name, verifier.secret)
        request = self._session.post(
            verifier.at("/v1/introspect"),
            data={"token": token},
            headers={"Authorization": proof, "Accept": "application/json"},
            ssl=verifier.tls,
            allow_redirects=False,
        )
        body = await whole_body(request, most_bytes=MOST_BYTES)
        return Introspected.read(body, token=token, asked=asked)
