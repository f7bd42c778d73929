"""Listeners: whoever wants to know at once that a status list has changed.

`GET /v1/status-changes` answers with server-sent events (WHATWG HTML, section 9.2), one for each
list that has changed: `data: URI`. It tells nothing that the list itself does not tell everybody.
Who connects fetches the lists that it goes by; who was cut off does so again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from verifier.mint import status_list_uri
from verifier.service import Service

STATUS_CHANGES = "/v1/status-changes"
"""GET, for everybody, as long as they listen: which lists have changed."""
MOST_LISTENERS = 1024
"""At a time, each with a connection of its own; others fetch the lists as before."""
MOST_OF_AN_ADDRESS = 64
LOOK_SECONDS = 0.5
"""Between two looks into the ledger, where every verifier of a database writes: one for all."""

log = logging.getLogger("verifier")


class _News:
    """What one listener has not been told yet: however slow it is, each list at most once."""

    def __init__(self) -> None:
        self._lists: set[int] = set()
        self._is_there = asyncio.Event()

    def add(self, lists: frozenset[int]) -> None:
        self._lists |= lists
        self._is_there.set()

    async def take(self) -> list[int]:
        """Return the lists that have changed, none after a while without any."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._is_there.wait()
        taken = sorted(self._lists)
        self._lists.clear()
        self._is_there.clear()
        return taken


class Listeners:
    """Those that are connected now."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._counts: Counter[str] = Counter()
        """By address; of those too that are about to be connected."""
        self._news: set[_News] = set()
        self._connected: set[EventSourceResponse] = set()
        self._looking: asyncio.Task[None] | None = None
        self._is_looking = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Tell one listener of changes until it hangs up."""
        with self._counted(request.remote or "") as news:
            if self._looking is None:
                self._is_looking.clear()
                self._looking = asyncio.create_task(self._look())
            await self._is_looking.wait()  # what changes from here on is found
            async with sse_response(request) as listener:
                self._connected.add(listener)
                try:
                    await self._tell(request, listener, news)
                finally:
                    self._connected.discard(listener)
        return listener

    async def close(self, _app: web.Application) -> None:
        """Hang up on all of them."""
        if self._looking is not None:
            self._looking.cancel()
        self._hang_up()

    @contextmanager
    def _counted(self, address: str) -> Iterator[_News]:
        is_full = self._counts.total() >= MOST_LISTENERS
        if is_full or self._counts[address] >= MOST_OF_AN_ADDRESS:
            raise web.HTTPServiceUnavailable(reason="too many listeners")
        news = _News()
        self._counts[address] += 1
        self._news.add(news)
        try:
            yield news
        finally:
            self._news.discard(news)
            self._counts[address] -= 1
            self._counts += Counter()  # forgets addresses that have none

    async def _tell(self, request: web.Request, listener: EventSourceResponse, news: _News) -> None:
        with suppress(ConnectionError, TimeoutError):
            while listener.is_connected() and request.transport is not None:
                for number in await news.take():
                    await listener.send(status_list_uri(self._service.config.issuer, number))

    async def _look(self) -> None:
        """Look into the ledger for all, for as long as there are any.

        Whoever could not be told hears that the connection ends, and fetches the lists.
        """
        try:
            last = await asyncio.to_thread(self._last)
            self._is_looking.set()
            while self._news:
                await asyncio.sleep(LOOK_SECONDS)
                last, changed = await asyncio.to_thread(self._changes, last)
                for news in self._news if changed else ():
                    news.add(changed)
        except Exception:
            log.exception("cannot look for changes of status lists")
        finally:
            self._looking = None
            self._is_looking.set()
            self._hang_up()

    def _hang_up(self) -> None:
        for listener in self._connected:
            listener.stop_streaming()

    def _last(self) -> int:
        with self._service.reading() as reading:
            return reading.last_row()

    def _changes(self, after: int) -> tuple[int, frozenset[int]]:
        # In this order: what is written in between is told twice rather than not at all.
        with self._service.reading() as reading:
            return reading.last_row(), reading.changed_lists(after)
