"""Serving: both doors open, and the sweeper at work, until somebody says stop."""

import asyncio
import contextlib
import logging
import secrets
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from verifier.config import Config, Misconfigured
from verifier.doors.network import make_app
from verifier.doors.operators import make_operators_app, operators_socket
from verifier.service import Service
from verifier.sweeper import Sweeper

SWEEP_SECONDS = 1.0
"""How often silence is looked for: what a stated time can be longer by."""

log = logging.getLogger("verifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Everything that `serve` needs; `check-config` makes it too."""

    service: Service
    tls: ssl.SSLContext | None

    @classmethod
    def build(cls, config: Config) -> "Doors":
        """Return the doors of the verifier that the configuration describes."""
        service = Service.open(config, now=_now, random=secrets.token_bytes)
        return cls(service=service, tls=None if config.plain_http_on_loopback else _tls(config))


def _now() -> datetime:
    return datetime.now(UTC)


def _tls(config: Config) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        names = f"{config.tls_certificate}, {config.tls_key}"
        raise Misconfigured(f"tls_certificate, tls_key: {names}: {error}") from error
    return context


async def serve(doors: Doors, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is told the URL once both doors are open."""
    config = doors.service.config
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    nodes = web.AppRunner(make_app(doors.service), access_log=None)
    operators = web.AppRunner(make_operators_app(doors.service), access_log=None)
    async with contextlib.AsyncExitStack() as stack:
        for runner in (nodes, operators):
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
        await web.SockSite(operators, operators_socket(config.socket)).start()
        stack.callback(config.socket.unlink, missing_ok=True)
        site = web.TCPSite(nodes, config.listen, config.port, ssl_context=doors.tls)
        await site.start()
        sweeper = asyncio.create_task(_sweep_for_ever(Sweeper(doors.service)))
        stack.callback(sweeper.cancel)
        ready(_url(nodes, is_tls=doors.tls is not None))
        await stop.wait()


def _url(runner: web.AppRunner, *, is_tls: bool) -> str:
    host, port, *_ = runner.addresses[0]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{shown}:{port}"


async def _sweep_for_ever(sweeper: Sweeper) -> None:
    """Suspend, and later end, the credentials of nodes that are silent for too long."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            await asyncio.to_thread(sweeper.sweep)
        except Exception:
            log.exception("the sweep failed; it is tried again")
