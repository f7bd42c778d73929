"""Listeners: whoever wants to know at once that a status list has changed.

`GET /v1/status-changes` answers with server-sent events (WHATWG HTML, section 9.2), one for each
list that has changed: `data: URI`. It tells nothing that the list itself does not tell everybody.
Who connects fetches the lists that it goes by; who was cut off does so again.
"""

import asyncio
from contextlib import suppress

from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from verifier.mint import status_list_uri
from verifier.service import Service

MOST_LISTENERS = 64
"""At a time, each with a connection of its own; others fetch the lists as before."""
LOOK_SECONDS = 0.5
"""Between two looks into the ledger, where every verifier of a database writes."""


class Listeners:
    """Those that are connected now."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._connected: set[EventSourceResponse] = set()
        self._count = 0
        """Of those too that are about to be connected."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Tell one listener of changes until it hangs up."""
        if self._count >= MOST_LISTENERS:
            raise web.HTTPServiceUnavailable(reason="too many listeners")
        self._count += 1
        try:
            return await self._let_in(request)
        finally:
            self._count -= 1

    async def _let_in(self, request: web.Request) -> web.StreamResponse:
        last = await asyncio.to_thread(self._last)
        async with sse_response(request) as listener:
            self._connected.add(listener)
            try:
                await self._tell(request, listener, last)
            finally:
                self._connected.discard(listener)
        return listener

    async def close(self, _app: web.Application) -> None:
        """Hang up on all of them."""
        for listener in self._connected:
            listener.stop_streaming()

    async def _tell(self, request: web.Request, listener: EventSourceResponse, last: int) -> None:
        with suppress(ConnectionError, TimeoutError):
            while listener.is_connected() and request.transport is not None:
                await asyncio.sleep(LOOK_SECONDS)
                last, changed = await asyncio.to_thread(self._changes, last)
                for number in sorted(changed):
                    await listener.send(status_list_uri(self._service.config.issuer, number))

    def _last(self) -> int:
        with self._service.reading() as reading:
            return reading.last_row()

    def _changes(self, after: int) -> tuple[int, frozenset[int]]:
        # In this order: what is written in between is told twice rather than not at all.
        with self._service.reading() as reading:
            return reading.last_row(), reading.changed_lists(after)
