"""What the servers have in common: one request in, a caller or a refusal out, one line written.

gate = Gate(keys=keys, status=StatusLists(verifier, keys=keys),
            require=Requirements(audience="https://ledger.example.org", minimum="L2"))
"""

import json
import logging
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Literal, Protocol

from credential import base64url, dpop, use, wit, wpt
from credential.caller import Caller
from credential.check import Statuses, decide, demand_active
from credential.introspection import Introspected
from credential.keys import Keys
from credential.nonces import KEY_BYTES, Nonces
from credential.presentation import CHALLENGE, Presented, presented, wants_nonce
from credential.reasons import Malformed, Reason, Refused
from credential.requirements import Requirements
from credential.seen import ReplayStore, Seen
from credential.servers.introspection import Introspection
from credential.servers.status_lists import StatusLists
from credential.servers.verifier import utc_now
from credential.use import Use
from credential.wit import Claims

_BUSY = {
    Reason.PROOF_STORE_FULL, Reason.PROOF_STORE, Reason.USE_SPOOL_FULL, Reason.USE_SPOOL,
    Reason.REQUEST_NOT_JUDGED, Reason.INTROSPECTION_UNANSWERED,
}  # fmt: skip
"""Reasons that are this server's trouble and not the client's."""

log = logging.getLogger("credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it came in."""

    method: str
    target: str
    """Of the request line: path and query, as sent."""
    headers: Sequence[tuple[str, str]]
    """In the order and as often as they came."""

    def values_of(self, name: str) -> list[str]:
        """Return the values of a header, whose name has no case (RFC 9110, section 5.1)."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a request that is not let in is answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    """JSON, with the findings and the id of the line."""


class Reporter(Protocol):
    """Who keeps lines for the verifier."""

    async def keep(self, one: Use) -> None:
        """Return once the line will get there whatever happens; raise Refused if it may not."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """Send what is kept until the end of the block."""


class Gate:
    """Lets in what `credential.check` lets in, and writes one line for each request.

    `keys` may be a function, for keys that are fetched anew. `base_url` is this server's URL as its
    clients know it (the audience, if that is a URL): configured, never taken from a request's
    headers. Without a `seen`, proofs are remembered in this process alone, and without `nonces` the
    nonces for DPoP are its own: several processes of one server share both. `log` is given each
    line (`credential.use`) before its request is answered. With `reports` the lines go to the
    verifier too, and a request is let in only once its line is sure to get there.
    """

    def __init__(  # noqa: PLR0913  (each is something that only the application knows)
        self,
        *,
        keys: Keys | Callable[[], Keys],
        require: Requirements,
        status: StatusLists | Introspection | Literal["unchecked"],
        base_url: str | None = None,
        seen: ReplayStore | None = None,
        nonces: Nonces | None = None,
        reports: Reporter | None = None,
        log: Callable[[str], object] | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._keys = keys
        self._require = require
        self._status = status
        self._base = wpt.target_of(require.audience if base_url is None else base_url).rstrip("/")
        self._seen = Seen() if seen is None else seen
        self._nonces = Nonces(secrets.token_bytes(KEY_BYTES)) if nonces is None else nonces
        self._reports = reports
        self._log = to_stderr if log is None else log
        self._clock = utc_now if clock is None else clock

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold what the gate needs while its server serves."""
        async with AsyncExitStack() as stack:
            for one in (self._status, self._reports):
                if one is not None and not isinstance(one, str):
                    await stack.enter_async_context(one.open())
            yield

    async def admit(self, request: Request) -> Caller | Refusal:
        """Say who makes this request, or why it is not let in; the line is written by then."""
        id_ = _new_id()
        claims: Claims | None = None
        try:
            claims = await self._judge(request)
            refused = None
        except (Malformed, Refused) as error:
            refused = error
            claims = self._signed_claims(request)
        except Exception:
            log.exception("a request was not judged")
            refused = Refused.because(Reason.REQUEST_NOT_JUDGED, "see this server's log")
        refused = await self._record(id_, request, claims, refused)
        if refused is None and claims is not None:
            return Caller.of(claims, audience=self._require.audience, use=id_)
        assert refused is not None
        return _refusal(refused, id_, nonce=self._nonces.at(self._clock()))

    async def turn_away(self, request: Request, reason: Reason, what: str) -> Refusal:
        """Write the line of what is let in by nobody, whoever asks; return its answer."""
        id_, refused = _new_id(), Refused.because(reason, what)
        await self._record(id_, request, self._signed_claims(request), refused)
        return _refusal(refused, id_, nonce=self._nonces.at(self._clock()))

    async def _judge(self, request: Request) -> Claims:
        """Return whose request it is; the verifier is asked about none that is refused anyway."""
        found = presented(request.values_of, nonces=self._nonces)
        if isinstance(self._status, StatusLists):
            await self._status.freshen(found.token)
        if not isinstance(self._status, Introspection):
            return self._decide(found, request, self._status)
        claims = self._decide(found, request, "unchecked")
        demand_active(
            claims,
            found.token,
            await self._ask(self._status, found.token),
            max_age=self._require.max_status_age,
            now=self._clock(),
        )
        return claims

    def _decide(self, found: Presented, request: Request, status: Statuses) -> Claims:
        return decide(
            found.token,
            found.proof,
            keys=self._keys_of_now(),
            require=self._require,
            method=request.method,
            url=self._base + _path(request),
            now=self._clock(),
            seen=self._seen,
            status=status,
        )

    async def _ask(self, status: Introspection, token: str) -> Introspected:
        try:
            return await status.ask(token)
        except OSError as error:
            log.warning("introspection: %s", error)
            raise Refused.because(Reason.INTROSPECTION_UNANSWERED, "the verifier") from error

    def _signed_claims(self, request: Request) -> Claims | None:
        """Return what the token of a refused request says, if the verifier has signed it."""
        try:
            token = presented(request.values_of, nonces=self._nonces).token
            return wit.read(token, self._keys_of_now())
        except Exception:  # noqa: BLE001 - the refusal has been decided; nobody knows who it was
            return None

    async def _record(
        self,
        id_: str,
        request: Request,
        claims: Claims | None,
        refused: Malformed | Refused | None,
    ) -> Malformed | Refused | None:
        """Write the line, durably where reports are wanted; return why the request is refused."""

        def line(refused: Malformed | Refused | None) -> Use:
            return use.make(
                id=id_,
                now=self._clock(),
                audience=self._require.audience,
                method=request.method,
                target=request.target,
                claims=claims,
                findings=refused.findings if refused else (),
            )

        if self._reports is not None:
            try:
                await self._reports.keep(line(refused))
            except Refused as full:
                refused = refused or full
        self._log(use.encode(line(refused)))
        return refused

    def _keys_of_now(self) -> Keys:
        return self._keys() if callable(self._keys) else self._keys


def to_stderr(line: str) -> None:
    """Write the line to the standard error stream, at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _new_id() -> str:
    return base64url.encode(secrets.token_bytes(use.ID_BYTES))


def _path(request: Request) -> str:
    """Return the request's target, which clients of an origin server send as a path.

    None has a fragment (RFC 9112, section 3.2), which a proof's URL leaves out; some servers take
    one for a part of the path.
    """
    if not request.target.startswith("/") or "#" in request.target:
        raise Refused.because(Reason.PROOF_URL, "url", expected="a path in the request line")
    return request.target


def _refusal(refused: Malformed | Refused, id_: str, *, nonce: str) -> Refusal:
    more: dict[str, str] = {}
    if wants_nonce(refused.findings):
        status = HTTPStatus.UNAUTHORIZED
        more = {"WWW-Authenticate": CHALLENGE, dpop.NONCE_HEADER: nonce}
    elif isinstance(refused, Malformed):
        status = HTTPStatus.BAD_REQUEST
    elif refused.findings[0].reason in _BUSY:
        status = HTTPStatus.SERVICE_UNAVAILABLE
    elif refused.findings[0].reason == Reason.REQUEST_TOO_MANY:
        status = HTTPStatus.TOO_MANY_REQUESTS
    else:
        status = HTTPStatus.FORBIDDEN
    return Refusal(
        status=status,
        headers={"Cache-Control": "no-store", "Content-Type": "application/json", **more},
        body=json.dumps({**refused.to_json(), "use": id_}).encode("ascii"),
    )
