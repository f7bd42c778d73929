"""Bodies: how long one may be, how long it may take, and how many long ones there are at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from evidence import Malformed

BODY_SECONDS = 60
"""How long a body may take to arrive."""
LARGE_BODY_BYTES = 1 << 20
LARGE_BODIES = 8
"""Bodies longer than LARGE_BODY_BYTES that are in memory at a time, of each door."""


class TooLarge(Exception):
    """A body longer than its route reads."""


class NoLines(Exception):
    """A body that is no lines of a relying party's log, for reasons of `credential.use`."""

    def __init__(self, findings: list[dict[str, str]]) -> None:
        self.findings = findings
        super().__init__(findings)


class Bodies:
    """The bodies that come in by one door."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(LARGE_BODIES)

    @contextlib.asynccontextmanager
    async def read(
        self, request: web.Request, content_type: str, *, most: int
    ) -> AsyncIterator[bytes]:
        """Give the body, at most `most` bytes of it, and hold a place for it while it is large."""
        length = _demand_length(request, content_type, most=most)
        place = self._large if length > LARGE_BODY_BYTES else contextlib.nullcontext()
        async with place:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.read()
            yield body


def _demand_length(request: web.Request, content_type: str, *, most: int) -> int:
    """Return how long the body is; raise Malformed or TooLarge if it is none to be read."""
    if request.content_type != content_type:
        raise Malformed(f"expected Content-Type {content_type}")
    if "Content-Encoding" in request.headers:
        raise Malformed("expected a body without Content-Encoding")
    if request.content_length is None:
        raise Malformed("expected a Content-Length")
    if request.content_length > most:
        raise TooLarge(f"expected at most {most} bytes")
    return request.content_length
