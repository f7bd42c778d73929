"""Somebody in the middle who holds the server's key, and writes down everything that passes.

The strongest listener there is: what it recorded is sent again (`replayed-evidence`) and carried
to another TPM (`wrong-machine`).
"""

import asyncio
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from weakref import WeakSet

import aiohttp
from aiohttp import web

from credential.servers.verifier import hang_up, unending

MOST_BYTES = 64 << 20
CHANGES = "/v1/status-changes"
"""Whose answer does not end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer."""

    path: str
    request: bytes
    status: int
    answer: bytes


class Recorder:
    """A server on loopback that passes everything on to the verifier; a context manager."""

    def __init__(self, *, target: str, certificate: Path, key: Path, ca: Path) -> None:
        self.exchanges: list[Exchange] = []
        self.port = 0
        self._listeners: WeakSet[asyncio.Transport] = WeakSet()
        self._target = target
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(certificate, key)
        self._client = ssl.create_default_context(cafile=ca)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="recorder")

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(timeout=10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def last(self, path: str) -> Exchange:
        """Return the last exchange of a route that was answered with 200."""
        return next(one for one in reversed(self.exchanges) if one.path == path)

    def send(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send a request to the verifier; return status and answer."""
        sending = asyncio.run_coroutine_threadsafe(self._forward("POST", path, body), self._loop)
        return sending.result(timeout=30)

    def ask(self, path: str) -> tuple[int, bytes]:
        """Ask the verifier for what it publishes."""
        asking = asyncio.run_coroutine_threadsafe(self._forward("GET", path, b""), self._loop)
        return asking.result(timeout=30)

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession()
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._pass)
        # A listener's answer has no end: whoever has gone is not waited for.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._server).start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        for listener in self._listeners:
            hang_up(listener)  # nobody would see to a farewell after this
        await self._runner.cleanup()
        await self._session.close()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        if request.path == CHANGES:
            return await self._relay(request)
        body = await request.read()
        status, answer = await self._forward(request.method, request.path, body)
        if status == web.HTTPOk.status_code:
            self.exchanges.append(
                Exchange(path=request.path, request=body, status=status, answer=answer)
            )
        return web.Response(status=status, body=answer, content_type=self._kind(status, request))

    async def _relay(self, request: web.Request) -> web.StreamResponse:
        """Pass on what does not end."""
        url, for_ever = f"{self._target}{request.path}", aiohttp.ClientTimeout(total=None)
        async with self._session.get(url, ssl=self._client, timeout=for_ever) as response:
            kind = {"Content-Type": response.content_type}
            relayed = web.StreamResponse(status=response.status, headers=kind)
            await relayed.prepare(request)
            if request.transport is not None:
                self._listeners.add(request.transport)
            with unending(response), suppress(ConnectionError):
                async for chunk in response.content.iter_any():
                    await relayed.write(chunk)
        return relayed

    async def _forward(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/cbor"} if body else {}
        async with self._session.request(
            method, f"{self._target}{path}", data=body or None, headers=headers, ssl=self._client
        ) as response:
            return response.status, await response.read()

    @staticmethod
    def _kind(status: int, request: web.Request) -> str:
        is_cbor = status == web.HTTPOk.status_code and request.method == "POST"
        return "application/cbor" if is_cbor else "application/json"
