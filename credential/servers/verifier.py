"""Where the verifier is, and who this relying party is to it."""

import ssl
from asyncio import Transport
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

FETCH_SECONDS = 5
"""How long the verifier may take for one answer; a request waits for it at most once."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
"""Between two tries, while the verifier is out of reach."""


class Unwanted(OSError):
    """Another answer than a good one, with its body."""

    def __init__(self, what: str, body: bytes) -> None:
        super().__init__(what)
        self.body = body


class Verifier:
    """One verifier: nobody else is ever asked.

    `url` is its own, as its tokens have it (`iss`); `reached_at` is where it is, if somewhere else.
    `name` and `secret` are what `verifier relying-party add` has given to this relying party: for
    introspection and reports, not for status lists.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext,
        reached_at: str | None = None,
        name: str = "",
        secret: str = "",
    ) -> None:
        self.url = url.rstrip("/")
        self.tls = tls
        self.name = name
        self.secret = secret
        self._reached_at = self.url if reached_at is None else reached_at.rstrip("/")

    def at(self, path: str) -> str:
        """Return the URL of a path of the verifier's."""
        return self._reached_at + path


def session() -> ClientSession:
    """Return a session for questions to the verifier: no proxy, and little patience."""
    return ClientSession(timeout=ClientTimeout(total=FETCH_SECONDS), trust_env=False)


@contextmanager
def unending(response: ClientResponse) -> Iterator[ClientResponse]:
    """Hang up at the end of the block on an answer that has none.

    Closing it would wait for the other side's farewell (TLS close_notify), with nobody to see to
    it where the loop ends.
    """
    try:
        yield response
    finally:
        if response.connection is not None and response.connection.transport is not None:
            hang_up(response.connection.transport)


def hang_up(transport: Transport) -> None:
    """End a connection without a farewell, whatever became of it before."""
    # asyncio's TLS (CPython 3.11) forgets what it would abort when it is closed for a second time.
    with suppress(AttributeError):
        transport.abort()


async def whole_body(
    request: AbstractAsyncContextManager[ClientResponse], *, most_bytes: int
) -> bytes:
    """Return the body of a good answer, one byte too many of one that is too long.

    Raise Unwanted where the answer is another one, OSError where there is none too.
    """
    try:
        async with request as response:
            body = b""
            while len(body) <= most_bytes and not response.content.at_eof():
                body += await response.content.read(most_bytes + 1 - len(body))
            if response.status != HTTPStatus.OK:
                raise Unwanted(f"{response.url}: {response.status}", body)
            return body
    except (TimeoutError, ClientError) as error:
        raise OSError(f"no answer: {type(error).__name__}: {error}") from error


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
