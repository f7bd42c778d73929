"""For aiohttp's client (3.12 or newer): every request proven by this process.

prover = proving(identity, audience="https://ledger.example.org")
async with aiohttp.ClientSession(middlewares=[prover]) as session:
    await session.post("https://ledger.example.org/post")
"""

from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientHandlerType, ClientMiddlewareType

from credential import wit, wpt
from credential.obtain import Identity


def proving(
    identity: Identity, *, audience: str, origin: str | None = None
) -> ClientMiddlewareType:
    """Return a middleware that adds the token and a new proof to each request to one origin.

    `origin` (scheme, host, port) is where `audience` answers: the same, if it is a URL. Requests
    elsewhere, such as redirected ones, pass as they are. Raise ValueError if it is no origin.
    """
    home = wpt.target_of(audience if origin is None else origin)
    if urlsplit(home).path != "/":
        raise ValueError("expected an origin: scheme, host and port")

    async def add_proof(
        request: aiohttp.ClientRequest, handler: ClientHandlerType
    ) -> aiohttp.ClientResponse:
        url = str(request.url)
        if wpt.target_of(url).startswith(home):
            proven = await identity.prove(audience=audience, method=request.method, url=url)
            request.headers[wit.HEADER] = proven.token
            request.headers[wpt.HEADER] = proven.proof
        return await handler(request)

    return add_proof
