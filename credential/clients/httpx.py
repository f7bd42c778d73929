"""For httpx (0.28 or newer): every request proven by this process.

transport = proving(identity, audience="https://ledger.example.org")
async with httpx.AsyncClient(transport=transport) as client:
    await client.post("https://ledger.example.org/post")

A transport and no `httpx.Auth`: that one sees a request before redirects are followed, and its
headers would go along to wherever they lead.
"""

import httpx

from credential import dpop
from credential.clients.prover import CHALLENGE_HEADER, Prover
from credential.obtain import Identity
from credential.presentation import Kind


def proving(
    identity: Identity,
    *,
    audience: str,
    origin: str | None = None,
    kind: Kind = "wpt",
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncBaseTransport:
    """Return a transport that adds the token and a new proof to each request to one origin.

    `origin` (scheme, host, port) is where `audience` answers: the same, if it is a URL. Requests
    elsewhere, such as redirected ones, pass as they are. With `kind` `"dpop"` a request that lacks
    the server's nonce is made once more with it, unless its body is a stream. `transport` is what
    sends them (`httpx.AsyncHTTPTransport(verify=...)`, which is the place for TLS options then).
    Raise ValueError if `origin` is none.
    """
    prover = Prover(identity, audience=audience, origin=origin, kind=kind)
    return _Proving(prover, httpx.AsyncHTTPTransport() if transport is None else transport)


class _Proving(httpx.AsyncBaseTransport):
    def __init__(self, prover: Prover, transport: httpx.AsyncBaseTransport) -> None:
        self._prover = prover
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response, lacks_nonce = await self._try(request)
        if lacks_nonce and isinstance(request.stream, httpx.ByteStream):
            await response.aclose()
            response, _ = await self._try(request)
        return response

    async def _try(self, request: httpx.Request) -> tuple[httpx.Response, bool]:
        """Send a proven copy: the client makes redirected requests of the original's headers."""
        attempt = await self._prover.attempt(method=request.method, url=str(request.url))
        headers = request.headers.copy()
        headers.update(attempt.headers)
        proven = httpx.Request(
            request.method,
            request.url,
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )
        response = await self._transport.handle_async_request(proven)
        lacks_nonce = self._prover.hear(
            attempt,
            status=response.status_code,
            nonce=response.headers.get(dpop.NONCE_HEADER, ""),
            challenge=response.headers.get(CHALLENGE_HEADER, ""),
        )
        return response, lacks_nonce

    async def aclose(self) -> None:
        await self._transport.aclose()
