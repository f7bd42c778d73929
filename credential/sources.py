"""Where the command finds keys, status lists and answers: in files, and at URLs of the verifier."""
# ruff: noqa: PLC0415 - who names files alone needs no HTTP library

import asyncio
import re
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from credential.introspection import Introspected

URL = r"https://.+|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?(?:/.*)?"
"""Whose answer is the verifier's; without TLS on this very machine alone."""
MOST_BYTES = 1 << 20


class Unusable(ValueError):
    """A place that nothing can be read from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Files and URLs; errors of both are OSError."""

    ca: Path | None
    """PEM of the CA of the URLs' servers; None for those of the system."""

    def read(self, place: str) -> bytes:
        """Return what is in a file or at a URL."""
        if "://" not in place:
            return Path(place).read_bytes()
        demand_url(place)
        return asyncio.run(self._fetch(place))

    def introspect(
        self, url: str, *, name: str, secret: str, token: str, now: datetime
    ) -> Introspected:
        """Return the answer of the verifier at `url` about a token, which it hears of."""
        demand_url(url)
        return asyncio.run(self._ask(url, name, secret, token, now))

    async def _fetch(self, url: str) -> bytes:
        from credential.servers.verifier import session, whole_body

        async with session() as opened:
            request = opened.get(url, ssl=self._tls(), allow_redirects=False)
            body = await whole_body(request, most_bytes=MOST_BYTES)
        if len(body) > MOST_BYTES:
            raise OSError(f"{url}: more than {MOST_BYTES} bytes")
        return body

    async def _ask(
        self, url: str, name: str, secret: str, token: str, now: datetime
    ) -> Introspected:
        from credential.servers.introspection import Introspection
        from credential.servers.verifier import Verifier

        verifier = Verifier(url, tls=self._tls(), name=name, secret=secret)
        asking = Introspection(verifier, clock=lambda: now)
        async with asking.open():
            return await asking.ask(token)

    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


def demand_url(text: str) -> None:
    """Raise Unusable where nobody knows who would answer."""
    if not re.fullmatch(URL, text):
        raise Unusable(f"{text}: expected a URL with https, or with http on this machine")
