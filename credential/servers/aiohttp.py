"""For aiohttp's server (3.14 or newer): the application hears only who has been checked.

app = web.Application(middlewares=[require_identity(
    keys=keys, audience="https://ledger.example.org", minimum="L2")])

async def post(request):
    claims = request[IDENTITY]          # a credential.Claims
"""

from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from credential import wit, wpt
from credential.check import check
from credential.keys import Keys
from credential.reasons import Finding, Malformed, Reason, Refused
from credential.seen import ReplayStore, Seen
from credential.wit import Claims, Level

IDENTITY = web.RequestKey("identity", Claims)
"""Where a request that was let in carries its Claims."""
REFUSAL: web.RequestKey[tuple[Finding, ...]] = web.RequestKey("refusal", tuple)
"""Where a refused request carries its findings, for logs."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def require_identity(  # noqa: PLR0913  (`check`'s)
    *,
    keys: Keys | Callable[[], Keys],
    audience: str,
    minimum: Level,
    allow_lab: bool = False,
    base_url: str | None = None,
    seen: ReplayStore | None = None,
    clock: Callable[[], datetime] = _utc_now,
) -> Middleware:
    """Return a middleware that lets in what `credential.check` lets in.

    `keys` may be a function, for keys that are fetched anew. `base_url` is this server's URL as
    its clients know it (the same as `audience`, if that is a URL): configured, never taken from
    a request's headers. Without a `seen`, proofs are remembered in this process alone.

    Answers 400 to what is malformed, 403 to what is not trusted, 503 when no more proofs can be
    remembered; JSON with the findings.
    """
    base = wpt.target_of(audience if base_url is None else base_url).rstrip("/")
    store = Seen() if seen is None else seen

    def judge(request: web.Request) -> Claims:
        token = _header(request, wit.HEADER, Reason.TOKEN_MALFORMED)
        if not token:
            raise Refused.because(Reason.TOKEN_MISSING, f"no {wit.HEADER}")
        return check(
            token,
            _header(request, wpt.HEADER, Reason.PROOF_MALFORMED),
            keys=keys() if callable(keys) else keys,
            audience=audience,
            method=request.method,
            url=base + _path(request),
            now=clock(),
            seen=store,
            minimum=minimum,
            allow_lab=allow_lab,
        )

    @web.middleware
    async def require(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            request[IDENTITY] = judge(request)
        except (Malformed, Refused) as refusal:
            return _answer(request, refusal)
        return await handler(request)

    return require


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
