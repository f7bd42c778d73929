"""The verifier's status lists, for whichever server: fetched, kept, and fetched anew.

lists = StatusLists(Verifier("https://verifier.example.org:8443", tls=tls), keys=keys)
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from credential import status, wit
from credential.keys import Keys
from credential.reasons import Malformed, Refused
from credential.servers.verifier import (
    FETCH_SECONDS,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Verifier,
    session,
    unending,
    utc_now,
    whole_body,
)
from credential.status import StatusList

MOST_LISTS = 64
"""Status lists that are kept; of more, the one that was fetched first is forgotten."""
LISTEN_SECONDS = 60
"""How long a listener hears nothing, not even that the verifier is there, before it tries anew."""

_AT_ONCE = datetime.min.replace(tzinfo=UTC)

log = logging.getLogger("credential")


@dataclass(slots=True)
class _Kept:
    """A list, or the wish for one."""

    found: StatusList | None = None
    next_try: datetime = _AT_ONCE
    pause: timedelta = FIRST_PAUSE
    fetching: asyncio.Lock = field(default_factory=asyncio.Lock)


class StatusLists:
    """The status lists of one verifier: fetched when a token names one, and anew after its ttl.

    It listens to the verifier besides, and fetches a list anew when told that it has changed.
    Nobody else is asked, nor is anything for a token that it has not signed. While it is out of
    reach the last list stays, for `check` to judge by its age.
    """

    def __init__(
        self,
        verifier: Verifier,
        *,
        keys: Keys | Callable[[], Keys],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._place = re.compile(re.escape(verifier.url) + r"(/v1/status/[0-9]{1,18})")
        self._verifier = verifier
        self._keys = keys
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._session: ClientSession | None = None
        self._connecting = asyncio.Lock()
        """Held by the listener while it asks for something."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold a session, and listen, until the end of the block."""
        async with session() as opened:
            self._session = opened
            self._connecting = asyncio.Lock()
            listening = asyncio.create_task(self._listen(opened))
            try:
                yield
            finally:
                # A connection that is given up while it is made is left to the garbage collector.
                with suppress(TimeoutError):
                    async with asyncio.timeout(FETCH_SECONDS):
                        await self._connecting.acquire()
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
                self._session = None

    def get(self, uri: str, /) -> StatusList | None:
        """Return the newest list that was fetched."""
        kept = self._kept.get(uri)
        return kept.found if kept else None

    async def freshen(self, token: str) -> None:
        """See to it that the list of this token is there and of now, as far as it can be had."""
        try:
            uri = wit.read(token, _now_of(self._keys)).status.uri
        except (Malformed, Refused):
            return  # `check` says why
        place = self._place.fullmatch(uri)
        if place is None:
            return
        kept = self._kept.setdefault(uri, _Kept())
        while len(self._kept) > MOST_LISTS:
            del self._kept[next(iter(self._kept))]
        async with kept.fetching:
            now = self._clock()
            if now >= kept.next_try:
                await self._fetch(self._verifier.at(place[1]), kept, now)

    async def _listen(self, opened: ClientSession) -> None:
        """Fetch the lists that the verifier names, all of them after every beginning."""
        url, pause = self._verifier.at("/v1/status-changes"), FIRST_PAUSE
        patience = ClientTimeout(total=None, sock_connect=FETCH_SECONDS, sock_read=LISTEN_SECONDS)
        while True:
            try:
                async with self._connecting:
                    asked = await opened.get(
                        url, ssl=self._verifier.tls, timeout=patience, allow_redirects=False
                    )
                async with asked as response:
                    response.raise_for_status()
                    pause = FIRST_PAUSE
                    with unending(response):
                        await self._hear(response)
            except (TimeoutError, ClientError, OSError, ValueError) as error:
                log.info("%s: not listening: %s: %s", url, type(error).__name__, error)
            except Exception:
                log.exception("%s: not listening", url)  # such as the application's own `keys`
            await asyncio.sleep(pause.total_seconds())
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _hear(self, response: ClientResponse) -> None:
        for uri in tuple(self._kept):
            await self._renew(uri)
        async for line in response.content:
            if line.startswith(b"data:"):
                await self._renew(line[5:].decode("latin-1").strip())

    async def _renew(self, uri: str) -> None:
        """Fetch a list anew, if it is one that is kept."""
        kept, place = self._kept.get(uri), self._place.fullmatch(uri)
        if kept is not None and place is not None:
            async with self._connecting, kept.fetching:
                await self._fetch(self._verifier.at(place[1]), kept, self._clock())

    async def _fetch(self, url: str, kept: _Kept, now: datetime) -> None:
        assert self._session is not None, "the lists are open"
        request = self._session.get(
            url,
            headers={"Accept": status.MEDIA_TYPE},
            ssl=self._verifier.tls,
            allow_redirects=False,
        )
        try:
            body = await whole_body(request, most_bytes=status.MOST_BYTES)
            found = status.read(body.decode("latin-1"), _now_of(self._keys))
        except (OSError, Malformed, Refused) as error:
            log.warning("%s: no newer status list: %s: %s", url, type(error).__name__, error)
            kept.next_try = now + kept.pause
            kept.pause = min(2 * kept.pause, LONGEST_PAUSE)
            return
        if kept.found is None or found.issued >= kept.found.issued:
            kept.found = found
        kept.next_try, kept.pause = now + found.ttl, FIRST_PAUSE


def _now_of(keys: Keys | Callable[[], Keys]) -> Keys:
    return keys() if callable(keys) else keys
