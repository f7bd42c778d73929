"""The demo's listener in the middle: what it opens, it closes."""

import gc
import socket
import ssl
import warnings
from contextlib import ExitStack
from pathlib import Path

import pytest

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
