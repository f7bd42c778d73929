"""The demo's listener in the middle: what it opens, it closes."""

import asyncio
import gc
import socket
import ssl
import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest

from credential.servers.verifier import hang_up
from demo.recorder import CHANGES, Recorder
from tests.test_applications import Site
from tests.test_applications import site as site  # noqa: PLC0414 - a fixture


@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_listener_leaves_no_connection_behind(
    site: Site, tmp_path: Path, *, hangs_up: bool
) -> None:
    """Neither side of it waits for the other's farewell, which nobody would see to any more."""
    home = tmp_path / "home"
    client = ssl.create_default_context(cafile=home / "ca.pem")
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        recorder = Recorder(
            target=site.verifier.config.issuer,
            certificate=home / "server.pem",
            key=home / "server.key",
            ca=home / "ca.pem",
        )
        with ExitStack() as recording:
            recording.enter_context(recorder)
            plain = socket.create_connection(("localhost", recorder.port))
            with client.wrap_socket(plain, server_hostname="localhost") as listener:
                listener.sendall(f"GET {CHANGES} HTTP/1.1\r\nHost: verifier\r\n\r\n".encode())
                assert listener.recv(12) == b"HTTP/1.1 200"
                if not hangs_up:
                    recording.close()
        gc.collect()
    assert [str(one.message) for one in told] == []


async def test_hanging_up_on_a_connection_that_was_closed_twice(site: Site, tmp_path: Path) -> None:
    """As aiohttp closes one, when its request and its server end together."""
    client = ssl.create_default_context(cafile=tmp_path / "home" / "ca.pem")
    port = int(site.verifier.config.issuer.rpartition(":")[2])
    ended = asyncio.Event()

    class Ends(asyncio.Protocol):
        def connection_lost(self, _: Exception | None) -> None:
            ended.set()

    transport, _ = await asyncio.get_running_loop().create_connection(
        Ends, "localhost", port, ssl=client
    )
    transport.close()
    transport.close()
    hang_up(transport)
    await asyncio.wait_for(ended.wait(), timeout=60)
