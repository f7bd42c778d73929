"""Refusals: what a verb raises, as the answer to its request."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from evidence import Malformed
from verifier.conversation.activations import Busy
from verifier.doors.bodies import NoLines, TooLarge
from verifier.hints import next_step
from verifier.ledger import findings_json
from verifier.operations.answers import Unfit
from verifier.reasons import Rejected, label
from verifier.relying_parties import NotAllowed
from verifier.store import Stale

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_BASIC = {"WWW-Authenticate": 'Basic realm="procseal"'}
"""RFC 7662, section 2.3, and RFC 7009, section 2.2.1, by way of RFC 6749, section 5.2."""

log = logging.getLogger("verifier")


@web.middleware
async def tell_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a verb raises into an answer; what nobody expected decides nothing."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - told apart just below
        refused = _told_apart(error)
    if refused is None:
        return web.json_response({"verdict": "unknown", "findings": []}, status=503)
    status, findings = refused
    told = [{**one, "next": next_step(one["reason"])} for one in findings]
    headers = _BASIC if status == HTTPStatus.UNAUTHORIZED else {}
    return web.json_response(
        {"verdict": "refused", "findings": told}, status=status, headers=headers
    )


def _told_apart(error: Exception) -> tuple[int, list[dict[str, str]]] | None:
    """Return status and findings of a refusal; None, and a line in the log, for all else."""
    match error:
        case Malformed() | TimeoutError():
            found = 400, [finding("malformed.message", label(str(error) or "too slow"))]
        case NoLines():
            found = 400, error.findings
        case TooLarge() | web.HTTPRequestEntityTooLarge():
            found = 413, [finding("malformed.too-large", str(error))]
        case Rejected():
            found = 403, findings_json(error.findings)
        case Unfit():
            found = 403, [error.finding]
        case NotAllowed():
            found = 401 if error.is_unknown else 403, [error.finding]
        case web.HTTPException():
            found = error.status, [finding("malformed.request", error.reason)]
        case Stale() | Busy() | ConnectionError():
            log.warning("nothing decided: %r", error)
            return None
        case _:
            log.error("nothing decided", exc_info=error)
            return None
    return found


def finding(reason: str, found: str) -> dict[str, str]:
    """Return a finding that is of no verb's."""
    return {"reason": reason, "what": "", "expected": "", "found": found}
