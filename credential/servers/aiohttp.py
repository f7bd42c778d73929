"""For aiohttp's server (3.14 or newer): the application hears only who has been checked.

app = web.Application()
guard(app, gate)                        # a credential.servers.gate.Gate

async def post(request):
    caller = request[CALLER]            # a credential.Caller

WebSockets are refused: who was let in once would stay in, whatever becomes of the process.
"""

from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from credential.caller import Caller
from credential.reasons import Reason
from credential.servers.gate import Gate, Refusal, Request

CALLER = web.RequestKey("caller", Caller)
"""Where a request that was let in carries its Caller."""


def guard(app: web.Application, gate: Gate) -> None:
    """Let nobody into `app` but through the gate, which is open while the application runs."""

    @web.middleware
    async def through_the_gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = Request(
            method=request.method,
            target=request.raw_path,
            headers=tuple(request.headers.items()),
        )
        if _is_websocket(request):
            found: Caller | Refusal = await gate.turn_away(
                asked, Reason.REQUEST_NOT_HTTP, "websocket"
            )
        else:
            found = await gate.admit(asked)
        if isinstance(found, Refusal):
            return web.Response(status=found.status, headers=found.headers, body=found.body)
        request[CALLER] = found
        return await handler(request)

    async def open_gate(_app: web.Application) -> AsyncIterator[None]:
        async with gate.open():
            yield

    app.middlewares.insert(0, through_the_gate)
    app.cleanup_ctx.append(open_gate)


def _is_websocket(request: web.Request) -> bool:
    """Say whether a request wants to become one (RFC 6455, section 4.1)."""
    return any("websocket" in one.lower() for one in request.headers.getall("Upgrade", ()))
