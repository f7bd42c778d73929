"""For ASGI servers (specification 3.0) and every framework on them, none of which it needs.

app = Guarded(app, gate)                # a credential.servers.gate.Gate

async def post(request):                # of Starlette or FastAPI
    caller = request.state.caller       # a credential.Caller; scope["state"]["caller"] elsewhere

It is the outermost application, whose `lifespan` opens the gate and closes it. WebSockets are
refused: who was let in once would stay in, whatever becomes of the process.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any

from credential.reasons import Reason
from credential.servers.gate import Gate, Refusal, Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY_VIOLATION = 1008
"""RFC 6455, section 7.4.1; before a WebSocket is accepted, servers answer 403 for it."""

log = logging.getLogger("credential")


class Guarded:
    """An application that hears only of requests which the gate has let in."""

    def __init__(self, app: App, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection: what is neither a request nor the application's life is refused."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._gate.turn_away(_request(scope), Reason.REQUEST_NOT_HTTP, scope["type"])
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = await self._gate.admit(_request(scope))
        if isinstance(found, Refusal):
            await _answer(found, send)
            return
        state = {**scope.get("state", {}), "caller": found}
        await self._app({**scope, "state": state}, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the gate open while the application lives; without it the server does not start."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._gate.open())
            except Exception as error:
                log.exception("the gate does not open")
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await self._live_inside(scope, receive, send)

    async def _live_inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_heard = False

        async def hear() -> Message:
            nonlocal has_heard
            has_heard = True
            return await receive()

        try:
            await self._app(scope, hear, send)
        except Exception:
            if has_heard:
                raise
            await _live_alone(receive, send)  # the application knows no `lifespan`: section 3.2


async def _live_alone(receive: Receive, send: Send) -> None:
    for name in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{name}.complete"})


def _request(scope: Scope) -> Request:
    """Return the request; proofs are for the path as it was sent, which servers may leave out."""
    target: bytes = scope.get("raw_path") or b""
    headers: list[tuple[bytes, bytes]] = list(scope.get("headers", []))
    return Request(
        method=scope.get("method", "GET"),
        target=target.decode("latin-1"),
        headers=tuple((key.decode("latin-1"), value.decode("latin-1")) for key, value in headers),
    )


async def _answer(refusal: Refusal, send: Send) -> None:
    given = {**refusal.headers, "Content-Length": str(len(refusal.body))}
    headers = [(key.lower().encode(), value.encode()) for key, value in given.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
