"""The operators' door: a UNIX socket that nobody but its owner may open."""

import asyncio
import json
import os
import stat
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

from aiohttp import web

from evidence import Malformed
from verifier.config import Misconfigured
from verifier.doors.bodies import Bodies
from verifier.doors.refusals import tell_refusals
from verifier.operations.verbs import call
from verifier.service import Service

JSON = "application/json"
MOST_OPERATOR_BYTES = 64 << 20
"""A reference set of a whole distribution is some megabytes of TOML."""


def make_operators_app(service: Service) -> web.Application:
    """Return the operators' door: `POST /NAME-OF-THE-VERB`, JSON arguments, JSON answer."""
    app = web.Application(middlewares=[tell_refusals], client_max_size=MOST_OPERATOR_BYTES)
    bodies = Bodies()

    async def handle(request: web.Request) -> web.Response:
        async with bodies.read(request, JSON, most=MOST_OPERATOR_BYTES) as body:
            arguments = _arguments(body)
        name = request.match_info["verb"]
        return web.json_response(await asyncio.to_thread(call, service, name, arguments))

    app.router.add_post("/{verb}", handle)
    return app


def _arguments(body: bytes) -> dict[str, object]:
    try:
        arguments = json.loads(body)
        json.dumps(arguments, ensure_ascii=False).encode()  # JSON can name what is no text
    except (ValueError, RecursionError) as error:
        raise Malformed("expected JSON") from error
    if not isinstance(arguments, dict):
        raise Malformed("expected a JSON object")
    return arguments


def operators_socket(path: Path) -> socket:
    """Return the listening socket, which nobody but its owner may ever have opened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _remove_stale(path)
    listening = socket(AF_UNIX, SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise Misconfigured(f"socket: {path}: {error}") from error
    finally:
        os.umask(before)
    return listening


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed verifier has left; raise Misconfigured if one is alive."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise Misconfigured(f"socket: {path} is there and no socket")
    with socket(AF_UNIX, SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Misconfigured(f"socket: another verifier listens at {path}")
