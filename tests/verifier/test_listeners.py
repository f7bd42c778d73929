"""Listeners hear of each status list that changes: over a real door, and through the middleware."""

import asyncio
import http.client
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from credential import status
from credential.servers.status_lists import StatusLists
from credential.servers.verifier import Verifier
from tests.open_doors import Door, open_doors
from tests.relying_party import Party, token_of
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import ISSUER
from tests.simulated_process import SimulatedProcess
from verifier.doors import listeners

PATIENCE_SECONDS = 60
PATH = "/v1/status-changes"


@pytest.fixture
def verifier(tmp_path: Path, database: str) -> Iterator[RunningVerifier]:
    running = RunningVerifier(tmp_path, database=database)
    yield running
    running.close()


@contextmanager
def listening(door: Door) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("localhost", door.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", PATH)
        yield connection.getresponse()
    finally:
        connection.close()


def next_event(response: http.client.HTTPResponse) -> str:
    while True:
        line = response.readline().decode().strip()
        if line.startswith("data: "):
            return line.removeprefix("data: ")


def test_a_listener_hears_which_list_has_changed(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    uri = party.list_of(token_of(player, process)).uri
    with listening(party.door) as response, listening(party.door) as another:
        assert response.status == another.status == 200
        assert response.getheader("Content-Type") == "text/event-stream"
        # An evidence and a renewal change no list: the first event is of the revocation.
        player.attest()
        verifier.operators.credential_revoke(player.claims(process).jti)
        assert next_event(response) == next_event(another) == uri


@pytest.mark.parametrize("limit", ["MOST_LISTENERS", "MOST_OF_AN_ADDRESS"])
def test_there_are_only_so_many(party: Party, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(listeners, limit, 1)
    with listening(party.door) as first:
        assert first.status == 200
        code, answer = party.door.request("GET", PATH)
        assert code == 503
        assert json.loads(answer)["verdict"] == "refused"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:  # who has hung up makes room
        with listening(party.door) as again:
            if again.status == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_verifier_that_ends_hangs_up(verifier: RunningVerifier) -> None:
    ended = threading.Event()
    with open_doors(verifier.service) as door:
        connection = http.client.HTTPConnection("localhost", door.port, timeout=PATIENCE_SECONDS)
        connection.request("GET", PATH)
        response = connection.getresponse()

        def read() -> None:
            response.read()
            ended.set()

        reader = threading.Thread(target=read)
        reader.start()
    assert ended.wait(PATIENCE_SECONDS)
    reader.join()
    connection.close()


@asynccontextmanager
async def lists_of(party: Party) -> AsyncIterator[StatusLists]:
    reached_at = f"http://localhost:{party.door.port}"
    verifier = Verifier(ISSUER, tls=ssl.create_default_context(), reached_at=reached_at)
    lists = StatusLists(verifier, keys=party.keys)
    async with lists.open():
        yield lists


async def test_the_relying_partys_lists_are_of_now_without_being_asked(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    place = (await asyncio.to_thread(party.list_of, token)).uri
    async with lists_of(party) as lists:
        await lists.freshen(token)
        assert has_only_valid_tokens(lists.get(place))
        await asyncio.sleep(2 * listeners.LOOK_SECONDS)  # it has been listening for a while
        jti = player.claims(process).jti
        await asyncio.to_thread(verifier.operators.credential_revoke, jti)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while has_only_valid_tokens(lists.get(place)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def has_only_valid_tokens(found: status.StatusList | None) -> bool:
    assert found is not None
    return not any(found.statuses)
