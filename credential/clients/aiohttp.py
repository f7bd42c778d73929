"""For aiohttp's client (3.14 or newer): every request proven by this process.

prover = proving(identity, audience="https://ledger.example.org")
async with aiohttp.ClientSession(middlewares=[prover]) as session:
    await session.post("https://ledger.example.org/post")
"""

import aiohttp
from aiohttp import ClientHandlerType, ClientMiddlewareType

from credential import dpop
from credential.clients.prover import CHALLENGE_HEADER, Prover
from credential.obtain import Identity
from credential.presentation import Kind


def proving(
    identity: Identity, *, audience: str, origin: str | None = None, kind: Kind = "wpt"
) -> ClientMiddlewareType:
    """Return a middleware that adds the token and a new proof to each request to one origin.

    `origin` (scheme, host, port) is where `audience` answers: the same, if it is a URL. Requests
    elsewhere, such as redirected ones, pass as they are. With `kind` `"dpop"` a request that lacks
    the server's nonce is made once more with it, unless its body was a stream that is gone. Raise
    ValueError if `origin` is none.
    """
    prover = Prover(identity, audience=audience, origin=origin, kind=kind)

    async def prove(
        request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response, lacks_nonce = await _try(prover, request, handler)
        if lacks_nonce and not (request.body and request.body.consumed):
            response.release()
            response, _ = await _try(prover, request, handler)
        return response

    return prove


async def _try(
    prover: Prover, request: aiohttp.ClientRequest, handler: ClientHandlerType
) -> tuple[aiohttp.ClientResponse, bool]:
    attempt = await prover.attempt(method=request.method, url=str(request.url))
    request.headers.update(attempt.headers)
    response = await handler(request)
    lacks_nonce = prover.hear(
        attempt,
        status=response.status,
        nonce=response.headers.get(dpop.NONCE_HEADER, ""),
        challenge=", ".join(response.headers.getall(CHALLENGE_HEADER, ())),
    )
    return response, lacks_nonce
