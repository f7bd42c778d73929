"""Descriptors that cannot be closed at once, sent by any process of any user."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from attestor.aside import NUDGE_SECONDS, aside, listen_to_nudges
from credential import local
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.conftest import Server
from tests.attestor.giver import lingering
from tests.attestor.world import AUDIENCE, DAEMON, NOBODY, OTHER_ID, ROOT, World, open_world

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]

GIVER = ROOT / "tests" / "attestor" / "giver.py"
AT_ONCE_SECONDS = 10
"""Far less than a giver makes whoever closes wait."""


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    with open_world(manufacturer, make_tpm(), user_requests_per_minute=6000) as one:
        yield one


@contextmanager
def given(
    world: World,
    what: str | Path,
    how: str,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Have another user's process give the attestor something, and stay."""
    with subprocess.Popen(
        [sys.executable, GIVER, world.socket, what, how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        user=NOBODY, group=NOBODY, extra_groups=[],
    ) as giver:  # fmt: skip
        assert giver.stdout is not None
        assert giver.stdin is not None
        assert giver.stdout.readline() == "ready\n"
        before()
        giver.stdin.write("\n")
        giver.stdin.flush()
        assert giver.stdout.readline() == "given\n"
        yield
        giver.kill()
        after()


def is_served_at_once(world: World) -> bool:
    """Say whether somebody else obtains a credential and a proof, and evidence is brought."""
    started, rounds = time.monotonic(), world.status()["rounds"]
    with world.start_puppet(uid=DAEMON) as puppet:
        assert isinstance(puppet.obtain(world.socket, OTHER_ID), local.Credential), world.log()
        assert isinstance(puppet.prove(AUDIENCE), local.Proof)
        world.wait_until(lambda: world.status()["rounds"] > rounds + 2, "more rounds")
    return time.monotonic() - started < AT_ONCE_SECONDS


@pytest.mark.attack(number=79, attacker="an ordinary user", asset="the attestor's time")
@pytest.mark.parametrize("how", ["answer", "many", "unread"])
def test_079_sockets_that_linger(world: World, how: str) -> None:
    with given(world, "lingering", how):
        assert is_served_at_once(world)


@pytest.mark.attack(number=79, attacker="a file server", asset="the attestor's time")
@pytest.mark.parametrize("how", ["answer", "many"])
def test_079_a_file_whose_server_does_not_hear_of_its_end(
    world: World, server: Server, how: str
) -> None:
    process, program = server
    silence = partial(process.send_signal, signal.SIGUSR1)
    with given(world, program, how, before=silence, after=process.kill):
        assert is_served_at_once(world)


async def test_what_can_be_interrupted_is() -> None:
    listen_to_nudges()
    descriptor, other = lingering()
    started = time.monotonic()
    with other:
        await aside(partial(os.close, descriptor))
    assert NUDGE_SECONDS / 2 < time.monotonic() - started < 8 * NUDGE_SECONDS


async def test_errors_are_told() -> None:
    def fail() -> None:
        raise OSError("why")

    with pytest.raises(OSError, match="why"):
        await aside(fail)


async def test_nobody_has_to_wait() -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    aside(lambda: loop.call_soon_threadsafe(done.set)).cancel()
    await asyncio.wait_for(done.wait(), 5)
