"""For aiohttp's server (3.14 or newer): the application hears only who has been checked.

lists = StatusLists("https://verifier.example.org:8443", keys=keys, tls=tls)
app = web.Application(middlewares=[require_identity(
    keys=keys, require=Requirements(audience="https://ledger.example.org", minimum="L2"),
    status=lists)])
app.cleanup_ctx.append(lists.open)

async def post(request):
    claims = request[IDENTITY]          # a credential.Claims
"""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from aiohttp.typedefs import Handler, Middleware

from credential import status, wit, wpt
from credential.check import check
from credential.keys import Keys
from credential.reasons import Finding, Malformed, Reason, Refused
from credential.requirements import Requirements
from credential.seen import ReplayStore, Seen
from credential.status import StatusList
from credential.wit import Claims

IDENTITY = web.RequestKey("identity", Claims)
"""Where a request that was let in carries its Claims."""
REFUSAL: web.RequestKey[tuple[Finding, ...]] = web.RequestKey("refusal", tuple)
"""Where a refused request carries its findings, for logs."""

MOST_LISTS = 64
"""Status lists that are kept; of more, the one that was fetched first is forgotten."""
FETCH_SECONDS = 5
"""How long the verifier may take for a list; a request waits for it at most once."""
LISTEN_SECONDS = 60
"""How long a listener hears nothing, not even that the verifier is there, before it tries anew."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
"""Between two tries to fetch a list anew, while the verifier is out of reach."""

_AT_ONCE = datetime.min.replace(tzinfo=UTC)

log = logging.getLogger("credential")


def _utc_now() -> datetime:
    return datetime.now(UTC)


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
    `url` is the verifier's, as its tokens have it; `reached_at` is where it is, if somewhere else.
    Nobody else is asked, nor is anything for a token that it has not signed. While it is out of
    reach the last list stays, for `check` to judge by its age.
    """

    def __init__(
        self,
        url: str,
        *,
        keys: Keys | Callable[[], Keys],
        tls: ssl.SSLContext,
        reached_at: str | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._place = re.compile(re.escape(url.rstrip("/")) + r"(/v1/status/[0-9]{1,18})")
        self._reached_at = (url if reached_at is None else reached_at).rstrip("/")
        self._keys = keys
        self._tls = tls
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._session: ClientSession | None = None

    async def open(self, _app: web.Application) -> AsyncIterator[None]:
        """Hold a session for the application's life: a cleanup context of aiohttp's."""
        timeout = ClientTimeout(total=FETCH_SECONDS)
        async with ClientSession(timeout=timeout, trust_env=False) as self._session:
            listening = asyncio.create_task(self._listen(self._session))
            yield
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

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
                await self._fetch(self._reached_at + place[1], kept, now)

    async def _listen(self, session: ClientSession) -> None:
        """Fetch the lists that the verifier names, all of them after every beginning."""
        url, pause = f"{self._reached_at}/v1/status-changes", FIRST_PAUSE
        patience = ClientTimeout(total=None, sock_connect=FETCH_SECONDS, sock_read=LISTEN_SECONDS)
        while True:
            try:
                async with session.get(
                    url, ssl=self._tls, timeout=patience, allow_redirects=False
                ) as response:
                    response.raise_for_status()
                    pause = FIRST_PAUSE
                    for uri in tuple(self._kept):
                        await self._renew(uri)
                    async for line in response.content:
                        if line.startswith(b"data:"):
                            await self._renew(line[5:].decode("latin-1").strip())
            except (TimeoutError, ClientError, OSError, ValueError) as error:
                log.info("%s: not listening: %s: %s", url, type(error).__name__, error)
            except Exception:
                log.exception("%s: not listening", url)  # such as the application's own `keys`
            await asyncio.sleep(pause.total_seconds())
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _renew(self, uri: str) -> None:
        """Fetch a list anew, if it is one that is kept."""
        kept, place = self._kept.get(uri), self._place.fullmatch(uri)
        if kept is not None and place is not None:
            async with kept.fetching:
                await self._fetch(self._reached_at + place[1], kept, self._clock())

    async def _fetch(self, url: str, kept: _Kept, now: datetime) -> None:
        assert self._session is not None, "lists.open is in app.cleanup_ctx"
        try:
            async with self._session.get(
                url, headers={"Accept": status.MEDIA_TYPE}, ssl=self._tls, allow_redirects=False
            ) as response:
                response.raise_for_status()
                body = await response.content.read(status.MOST_BYTES + 1)
                while not response.content.at_eof() and len(body) <= status.MOST_BYTES:
                    body += await response.content.read(status.MOST_BYTES + 1)
            found = status.read(body.decode("latin-1"), _now_of(self._keys))
        except (TimeoutError, ClientError, OSError, Malformed, Refused) as error:
            log.warning("%s: no newer status list: %s: %s", url, type(error).__name__, error)
            kept.next_try = now + kept.pause
            kept.pause = min(2 * kept.pause, LONGEST_PAUSE)
            return
        if kept.found is None or found.issued >= kept.found.issued:
            kept.found = found
        kept.next_try, kept.pause = now + found.ttl, FIRST_PAUSE


def _now_of(keys: Keys | Callable[[], Keys]) -> Keys:
    return keys() if callable(keys) else keys


def require_identity(  # noqa: PLR0913  (`check`'s)
    *,
    keys: Keys | Callable[[], Keys],
    require: Requirements,
    status: StatusLists | Literal["unchecked"],
    base_url: str | None = None,
    seen: ReplayStore | None = None,
    clock: Callable[[], datetime] = _utc_now,
) -> Middleware:
    """Return a middleware that lets in what `credential.check` lets in.

    `keys` may be a function, for keys that are fetched anew. `base_url` is this server's URL as
    its clients know it (the audience, if that is a URL): configured, never taken from
    a request's headers. Without a `seen`, proofs are remembered in this process alone.

    Answers 400 to what is malformed, 403 to what is not trusted, 503 when no more proofs can be
    remembered; JSON with the findings.
    """
    base = wpt.target_of(require.audience if base_url is None else base_url).rstrip("/")
    store = Seen() if seen is None else seen

    def judge(request: web.Request) -> Claims:
        token = _header(request, wit.HEADER, Reason.TOKEN_MALFORMED)
        if not token:
            raise Refused.because(Reason.TOKEN_MISSING, f"no {wit.HEADER}")
        return check(
            token,
            _header(request, wpt.HEADER, Reason.PROOF_MALFORMED),
            keys=_now_of(keys),
            require=require,
            method=request.method,
            url=base + _path(request),
            now=clock(),
            seen=store,
            status=status,
        )

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if isinstance(status, StatusLists):
            for token in request.headers.getall(wit.HEADER, [])[:1]:
                await status.freshen(token)
        try:
            request[IDENTITY] = judge(request)
        except (Malformed, Refused) as refusal:
            return _answer(request, refusal)
        return await handler(request)

    return guard


def _header(request: web.Request, name: str, reason: Reason) -> str:
    """Return the one header `name`, empty if there is none (WIMSE WPT: exactly one)."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise Malformed(reason, f"{name} more than once")
    return values[0] if values else ""


def _path(request: web.Request) -> str:
    """Return the request's target, which clients of an origin server send as a path."""
    if not request.raw_path.startswith("/"):
        raise Refused.because(Reason.PROOF_URL, "url", expected="a path in the request line")
    return request.raw_path


def _answer(request: web.Request, refusal: Malformed | Refused) -> web.Response:
    request[REFUSAL] = refusal.findings
    if isinstance(refusal, Malformed):
        status = 400
    elif refusal.findings[0].reason == Reason.PROOF_STORE_FULL:
        status = 503
    else:
        status = 403
    return web.json_response(
        refusal.to_json(), status=status, headers={"Cache-Control": "no-store"}
    )
