"""The demo's relying party: lets a process in by what was proven of it, and says so.

POST /post answers with the identity, and POST /builds/JOB lets in the steps of that job alone. It
prints one line when it listens, one for each request.
"""

import argparse
import asyncio
import ssl
import sys
from pathlib import Path

import aiohttp
from aiohttp import web

from credential import Keys, Malformed, Requirements
from credential.servers.aiohttp import CALLER, guard
from credential.servers.gate import Gate
from credential.servers.status_lists import StatusLists
from credential.servers.verifier import Verifier
from credential.wit import LEVELS

CONTROLLER = "spiffe://example.org/controller"
FETCH_SECONDS = 10


def main(argv: list[str] | None = None) -> int:
    """Serve until the process is told to end."""
    arguments = _parser().parse_args(argv)
    try:
        asyncio.run(serve(arguments))
    except KeyboardInterrupt:
        return 0
    except (OSError, Malformed, aiohttp.ClientError) as error:
        print(f"relying party: {error}", file=sys.stderr)
        return 3
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo.relying_party", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any; the first line says which")
    parser.add_argument("--cert", type=Path, required=True, help="certificate chain, PEM")
    parser.add_argument("--key", type=Path, required=True, help="its key, PEM")
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--keys-url", help="where the verifier publishes its keys")
    keys.add_argument("--keys", type=Path, help="its JWKS, a file")
    parser.add_argument("--ca", type=Path, help="CA of --keys-url, PEM")
    parser.add_argument("--trust-domain", default="example.org", help="whose keys they are")
    parser.add_argument("--audience", required=True, help="the name that proofs must be for")
    parser.add_argument("--url", help="this server as clients know it; default: the audience")
    parser.add_argument("--minimum", required=True, choices=LEVELS)
    parser.add_argument("--allow-lab", action="store_true")
    status = parser.add_mutually_exclusive_group(required=True)
    status.add_argument(
        "--verifier", metavar="URL", help="as its tokens have it; its status lists are fetched"
    )
    status.add_argument("--status-unchecked", action="store_true", help="fetch no status lists")
    parser.add_argument("--reached-at", metavar="URL", help="where --verifier is, if elsewhere")
    return parser


async def serve(arguments: argparse.Namespace) -> None:
    """Fetch the keys once, then serve."""
    jwks = await _fetch(arguments)
    keys = Keys.read(jwks, trust_domain=arguments.trust_domain)
    lists = _status_lists(arguments, keys)
    gate = Gate(
        keys=keys,
        require=Requirements(
            audience=arguments.audience,
            minimum=arguments.minimum,
            allow_lab=arguments.allow_lab,
        ),
        base_url=arguments.url,
        status=lists or "unchecked",
        log=lambda line: print(line, flush=True),
    )
    app = web.Application()
    guard(app, gate)
    app.router.add_post("/post", post)
    app.router.add_post("/builds/{job}", sign)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(arguments.cert, arguments.key)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, arguments.host, arguments.port, ssl_context=context).start()
        print(f"listening on {runner.addresses[0][0]} port {runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _status_lists(arguments: argparse.Namespace, keys: Keys) -> StatusLists | None:
    if arguments.status_unchecked:
        return None
    tls = ssl.create_default_context(cafile=arguments.ca)
    verifier = Verifier(arguments.verifier, tls=tls, reached_at=arguments.reached_at)
    return StatusLists(verifier, keys=keys)


async def post(request: web.Request) -> web.Response:
    """Say who has asked."""
    caller = request[CALLER]
    proven = {name: getattr(caller, name) for name in ("level", "executable", "node", "unit")}
    return web.json_response({"verdict": "granted", "id": caller.id, **proven})


async def sign(request: web.Request) -> web.Response:
    """Take a signature for the build that the path names, from a step of that job."""
    caller, wanted = request[CALLER], request.match_info["job"]
    if (caller.parent, caller.job) != (CONTROLLER, wanted):
        expected, found = f"{wanted} of {CONTROLLER}", f"{caller.job} of {caller.parent}"
        finding = {"reason": "build.of-another-job", "expected": expected, "found": found}
        return web.json_response({"verdict": "refused", "findings": [finding]}, status=403)
    return web.json_response({"verdict": "granted", "id": caller.id, "job": caller.job})


async def _fetch(arguments: argparse.Namespace) -> bytes:
    if arguments.keys:
        return await asyncio.to_thread(arguments.keys.read_bytes)
    context = ssl.create_default_context(cafile=arguments.ca)
    timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
        session.get(arguments.keys_url, ssl=context) as response,
    ):
        return await response.read()


if __name__ == "__main__":
    sys.exit(main())
