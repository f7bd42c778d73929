"""The relying party's status lists: fetched, kept, fetched anew, and what it says without one."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from credential import Seen
from credential.servers import status_lists as server
from credential.servers.aiohttp import guard
from credential.servers.gate import Gate
from credential.servers.status_lists import StatusLists
from credential.servers.verifier import Verifier
from credential.status import MEDIA_TYPE, MOST_BYTES, Status
from tests.credential.world import (
    KEYS,
    NOW,
    OTHER_KEY,
    PLACE,
    REQUIRED,
    make_list,
    make_proof,
    make_token,
)

ISSUER = "https://verifier.example.org"
SECOND = timedelta(seconds=1)


@dataclass
class Publisher:
    """One that publishes a list, and counts who asks."""

    at: Status = Status.VALID
    now: datetime = NOW
    answer: str = ""
    """In the place of the list of now."""
    is_away: bool = False
    asked: list[str] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.Response:
        assert request.headers["Accept"] == MEDIA_TYPE
        self.asked.append(request.path)
        await asyncio.sleep(0)
        if self.is_away:
            raise web.HTTPServiceUnavailable
        text = self.answer or make_list(at=self.at, issued=self.now)
        return web.Response(text=text, content_type=MEDIA_TYPE)


@dataclass
class RelyingParty:
    verifier: Publisher
    client: TestClient[web.Request, web.Application]
    sent: int = 0

    async def ask(self, token: str | None = None) -> list[str]:
        """Return why a request of now is refused; nothing where it is let in."""
        now = self.verifier.now
        self.sent += 1
        token = token or make_token(issued=now, expires=now + timedelta(minutes=10))
        proof = make_proof(token, now=now, jti=self.sent.to_bytes(16, "big"))
        headers = {"Workload-Identity-Token": token, "Workload-Proof-Token": proof}
        async with self.client.post("/post", headers=headers) as response:
            body = await response.json()
        return [one["reason"] for one in body.get("findings", [])]

    def wait(self, seconds: float) -> None:
        self.verifier.now += timedelta(seconds=seconds)


@pytest.fixture
async def party() -> AsyncIterator[RelyingParty]:
    verifier = Publisher()

    async def post(_: web.Request) -> web.Response:
        return web.json_response({})

    publishes = web.Application()
    publishes.router.add_get("/v1/status/{number}", verifier.serve)
    async with TestServer(publishes) as published:
        reached_at = str(published.make_url("/"))
        place = Verifier(ISSUER, tls=ssl.create_default_context(), reached_at=reached_at)
        lists = StatusLists(place, keys=lambda: KEYS, clock=lambda: verifier.now)
        gate = Gate(
            keys=KEYS, require=REQUIRED, status=lists, seen=Seen(), clock=lambda: verifier.now
        )
        app = web.Application()
        guard(app, gate)
        app.router.add_post("/post", post)
        async with TestClient(TestServer(app)) as client:
            yield RelyingParty(verifier, client)


async def test_a_list_is_fetched_once_while_it_lives(party: RelyingParty) -> None:
    assert await party.ask() == []
    assert await party.ask() == []
    assert party.verifier.asked == ["/v1/status/3"]
    party.wait(30)
    assert await party.ask() == []
    assert len(party.verifier.asked) == 2


async def test_many_requests_wait_for_one_answer(party: RelyingParty) -> None:
    assert await asyncio.gather(*(party.ask() for _ in range(20))) == [[]] * 20
    assert len(party.verifier.asked) == 1


async def test_a_revocation_arrives_with_the_next_list(party: RelyingParty) -> None:
    assert await party.ask() == []
    party.verifier.at = Status.INVALID
    party.wait(29)
    assert await party.ask() == []
    party.wait(1)
    assert await party.ask() == ["token.revoked"]


async def test_a_suspension_is_lifted_in_the_same_way(party: RelyingParty) -> None:
    party.verifier.at = Status.SUSPENDED
    assert await party.ask() == ["token.suspended"]
    party.verifier.at = Status.VALID
    party.wait(30)
    assert await party.ask() == []


async def test_the_last_list_serves_for_five_minutes(party: RelyingParty) -> None:
    """After that a reason of its own; and once the verifier is back, all is well."""
    assert await party.ask() == []
    party.verifier.is_away = True
    party.wait(300)
    assert await party.ask() == []
    party.wait(1)
    assert await party.ask() == ["status.list-too-old"]
    party.verifier.is_away = False
    party.wait(30)
    assert await party.ask() == []


async def test_the_verifier_that_is_away_is_asked_in_growing_pauses(party: RelyingParty) -> None:
    assert await party.ask() == []
    party.verifier.is_away = True
    party.wait(30)
    party.verifier.asked.clear()
    for _ in range(120):
        await party.ask()
        party.wait(1)
    pauses = (0, 1, 2, 4, 8, 16, 30, 30, 30)
    assert len(party.verifier.asked) == sum(sum(pauses[:n]) < 120 for n in range(1, 10))


async def test_the_first_list_that_cannot_be_had(party: RelyingParty) -> None:
    party.verifier.is_away = True
    assert await party.ask() == ["status.list-missing"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param("junk", id="junk"),
        pytest.param("x" * (2 * MOST_BYTES), id="far too long"),
        pytest.param(make_list(key=OTHER_KEY), id="by somebody else"),
        pytest.param(make_token(), id="a token"),
    ],
)
async def test_what_is_no_list_replaces_none(party: RelyingParty, answer: str) -> None:
    assert await party.ask() == []
    party.verifier.answer = answer
    party.wait(30)
    assert await party.ask() == []
    party.wait(271)
    assert await party.ask() == ["status.list-too-old"]


async def test_an_older_list_replaces_none(party: RelyingParty) -> None:
    """Whoever stands in between cannot take a revocation back."""
    old = make_list()
    party.wait(60)
    party.verifier.at = Status.INVALID
    assert await party.ask() == ["token.revoked"]
    party.verifier.answer = old
    party.wait(30)
    assert await party.ask() == ["token.revoked"]


async def test_a_list_of_another_uri_is_not_taken_for_this_one(party: RelyingParty) -> None:
    party.verifier.answer = make_list(uri=f"{ISSUER}/v1/status/4")
    assert await party.ask() == ["status.of-another-list"]


async def test_nobody_is_asked_for_what_the_verifier_has_not_signed(party: RelyingParty) -> None:
    forged = make_token(key=OTHER_KEY)
    assert await party.ask(forged) == ["token.signature-invalid"]
    assert await party.ask("junk") == ["token.malformed"]
    assert party.verifier.asked == []


@pytest.mark.parametrize(
    "uri",
    [
        "https://verifier.example.org.evil.example/v1/status/3",
        "https://verifier.example.org/v1/status/3/x",
        "https://verifier.example.org/v1/keys",
        "http://verifier.example.org/v1/status/3",
    ],
)
async def test_nobody_else_is_asked(party: RelyingParty, uri: str) -> None:
    place = type(PLACE)(uri=uri, index=1)
    assert await party.ask(make_token(status=place)) == ["status.list-missing"]
    assert party.verifier.asked == []


async def test_only_so_many_lists_are_kept(
    party: RelyingParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_LISTS", 2)
    for number in (1, 2, 3, 3, 1):
        uri = f"{ISSUER}/v1/status/{number}"
        party.verifier.answer = make_list(uri=uri)
        assert await party.ask(make_token(status=type(PLACE)(uri=uri, index=1))) == []
    assert party.verifier.asked == [f"/v1/status/{number}" for number in (1, 2, 3, 1)]
