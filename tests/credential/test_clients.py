"""The clients that prove each request, of both kinds of proof and both libraries, over sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler, Middleware

from credential import Identity, Requirements, obtain, presentation
from credential.clients import aiohttp as aiohttp_client
from credential.clients import httpx as httpx_client
from credential.local import Prove
from credential.presentation import KINDS, Kind
from credential.servers.aiohttp import CALLER, guard
from credential.servers.gate import Gate
from tests.credential.fake_attestor import FakeAttestor
from tests.credential.world import AUDIENCE, ID, KEYS

HEADERS = {"Workload-Identity-Token", "Workload-Proof-Token", "Authorization", "DPoP"}
Body = bytes | AsyncIterator[bytes] | None


class Post(Protocol):
    """Make a request, and return status and text of the answer."""

    async def __call__(self, url: str, body: Body = None) -> tuple[int, str]: ...


@asynccontextmanager
async def with_aiohttp(identity: Identity, home: str, kind: Kind) -> AsyncIterator[Post]:
    prover = aiohttp_client.proving(identity, audience=AUDIENCE, origin=home, kind=kind)
    async with ClientSession(middlewares=[prover]) as session:

        async def post(url: str, body: Body = None) -> tuple[int, str]:
            async with session.post(url, data=body) as response:
                return response.status, await response.text()

        yield post


@asynccontextmanager
async def with_httpx(identity: Identity, home: str, kind: Kind) -> AsyncIterator[Post]:
    transport = httpx_client.proving(identity, audience=AUDIENCE, origin=home, kind=kind)
    async with httpx.AsyncClient(transport=transport, follow_redirects=True) as client:

        async def post(url: str, body: Body = None) -> tuple[int, str]:
            response = await client.post(url, content=body)
            return response.status_code, response.text

        yield post


LIBRARIES: dict[str, Any] = {"aiohttp": with_aiohttp, "httpx": with_httpx}
both_libraries = pytest.mark.parametrize("library", LIBRARIES)
both_kinds = pytest.mark.parametrize("kind", KINDS)


class Party:
    """A relying party at `home`."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.answers: list[int] = []
        self.app = web.Application()
        gate = Gate(
            keys=KEYS,
            require=Requirements(audience=AUDIENCE, minimum="lab", allow_lab=True),
            status="unchecked",
            base_url=home,
            log=lambda _line: None,
        )
        guard(self.app, gate)
        self.app.middlewares.insert(0, self._noting())
        self.app.router.add_post("/post", self._post)
        self.app.router.add_post("/away", self._away)

    def _noting(self) -> Middleware:
        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            self.answers.append(response.status)
            return response

        return note

    async def _post(self, request: web.Request) -> web.Response:
        return web.Response(text=f"{request[CALLER].id} {await request.text()}")

    async def _away(self, request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(request.query["to"])


@pytest.fixture
async def party(unused_tcp_port: int) -> AsyncIterator[Party]:
    party = Party(f"http://127.0.0.1:{unused_tcp_port}")
    async with TestServer(party.app, port=unused_tcp_port):
        yield party


@pytest.fixture
async def post(
    library: str, kind: Kind, attestor: FakeAttestor, party: Party
) -> AsyncIterator[Post]:
    async with (
        obtain(path=attestor.path) as identity,
        LIBRARIES[library](identity, party.home, kind) as post,
    ):
        yield post


async def chunks() -> AsyncIterator[bytes]:
    yield b"a "
    yield b"stream"


@both_kinds
@both_libraries
async def test_each_request_is_proven_anew(post: Post, party: Party, kind: Kind) -> None:
    """The first DPoP proof lacks the server's nonce, and no later one does."""
    for _ in range(3):
        assert await post(f"{party.home}/post?a=b", b"body") == (200, f"{ID} body")
    assert party.answers == [401, 200, 200, 200][kind == "wpt" :]


@both_kinds
@both_libraries
async def test_a_redirect_to_the_same_origin_is_proven_for_its_own_url(
    post: Post, party: Party
) -> None:
    assert await post(f"{party.home}/away?to=/post", b"body") == (200, f"{ID} body")


@both_kinds
@both_libraries
async def test_nothing_is_proven_elsewhere(
    post: Post, party: Party, unused_tcp_port_factory: Callable[[], int]
) -> None:
    """Neither token nor proof goes to another server, asked directly or by a redirect."""
    port = unused_tcp_port_factory()
    elsewhere = f"http://127.0.0.1:{port}"
    heard = []

    async def listen(request: web.Request) -> web.Response:
        heard.append(request)
        challenge = {"WWW-Authenticate": presentation.CHALLENGE, "DPoP-Nonce": "theirs"}
        return web.Response(status=401, headers=challenge)

    other = web.Application()
    other.router.add_post("/", listen)
    async with TestServer(other, port=port):
        assert (await post(f"{party.home}/away?to={elsewhere}/"))[0] == 401
        assert (await post(f"{elsewhere}/"))[0] == 401
    assert len(heard) == 2
    assert not any(HEADERS & set(one.headers) for one in heard)
    assert (await post(f"{party.home}/post"))[0] == 200


@both_libraries
async def test_a_server_that_was_started_anew_has_nonces_of_its_own(
    library: str, attestor: FakeAttestor, unused_tcp_port: int
) -> None:
    home = f"http://127.0.0.1:{unused_tcp_port}"
    async with (
        obtain(path=attestor.path) as identity,
        LIBRARIES[library](identity, home, "dpop") as post,
    ):
        for _ in range(2):
            party = Party(home)
            async with TestServer(party.app, port=unused_tcp_port):
                assert (await post(f"{home}/post"))[0] == 200
                assert (await post(f"{home}/post"))[0] == 200
            assert party.answers == [401, 200, 200]


@both_libraries
@pytest.mark.parametrize("kind", ["dpop"])
async def test_requests_at_the_same_time_each_get_their_nonce(post: Post, party: Party) -> None:
    answers = await asyncio.gather(*(post(f"{party.home}/post", b"x") for _ in range(5)))
    assert [status for status, _ in answers] == [200] * 5


@both_libraries
@pytest.mark.parametrize("kind", ["dpop"])
async def test_a_stream_is_sent_once(post: Post, party: Party) -> None:
    """Its 401 is the caller's to see; the nonce is known from then on."""
    assert (await post(f"{party.home}/post", chunks()))[0] == 401
    assert party.answers == [401]
    assert await post(f"{party.home}/post", chunks()) == (200, f"{ID} a stream")


@both_libraries
@pytest.mark.parametrize("kind", ["dpop"])
async def test_a_server_that_is_never_content_is_asked_twice(
    library: str, kind: Kind, attestor: FakeAttestor, unused_tcp_port: int
) -> None:
    home = f"http://127.0.0.1:{unused_tcp_port}"
    heard = 0

    async def refuse(_request: web.Request) -> web.Response:
        nonlocal heard
        heard += 1
        challenge = {"WWW-Authenticate": presentation.CHALLENGE, "DPoP-Nonce": f"n{heard}"}
        return web.Response(status=401, headers=challenge)

    app = web.Application()
    app.router.add_post("/", refuse)
    async with (
        TestServer(app, port=unused_tcp_port),
        obtain(path=attestor.path) as identity,
        LIBRARIES[library](identity, home, kind) as post,
    ):
        assert (await post(f"{home}/"))[0] == 401
        assert heard == 2
    asked = [one for one in attestor.heard if isinstance(one, Prove)]
    assert [(one.kind, one.nonce) for one in asked] == [("dpop", ""), ("dpop", "n1")]


@both_libraries
@pytest.mark.parametrize("nonce", ["", 'a"b', "é", "x" * 257])
async def test_what_is_no_nonce_is_not_used(
    library: str, nonce: str, attestor: FakeAttestor, unused_tcp_port: int
) -> None:
    home = f"http://127.0.0.1:{unused_tcp_port}"

    async def refuse(_request: web.Request) -> web.Response:
        challenge = {"WWW-Authenticate": presentation.CHALLENGE, "DPoP-Nonce": nonce}
        return web.Response(status=401, headers=challenge)

    app = web.Application()
    app.router.add_post("/", refuse)
    async with (
        TestServer(app, port=unused_tcp_port),
        obtain(path=attestor.path) as identity,
        LIBRARIES[library](identity, home, "dpop") as post,
    ):
        for _ in range(2):
            assert (await post(f"{home}/"))[0] == 401
    assert [one.nonce for one in attestor.heard if isinstance(one, Prove)] == ["", ""]


@pytest.mark.parametrize("proving", [aiohttp_client.proving, httpx_client.proving])
@pytest.mark.parametrize("origin", ["https://a.example/path", "payments", "https://a.example:x"])
async def test_what_is_no_origin(
    proving: Callable[..., object], origin: str, attestor: FakeAttestor
) -> None:
    async with obtain(path=attestor.path) as identity:
        with pytest.raises(ValueError, match=r"expected|Port"):
            proving(identity, audience=AUDIENCE, origin=origin)
        with pytest.raises(ValueError, match="kind"):
            proving(identity, audience=AUDIENCE, kind="bearer")


@pytest.mark.parametrize(
    ("challenge", "answer"),
    [
        (presentation.CHALLENGE, True),
        ('dpop realm="a", error="use_dpop_nonce"', True),
        ('Basic realm="a", DPoP algs="ES256", error="use_dpop_nonce"', True),
        ('DPoP error="invalid_token"', False),
        ('Bearer error="use_dpop_nonce"', False),
        ('DPoPe error="use_dpop_nonce"', False),
        ("", False),
    ],
)
def test_what_asks_for_a_nonce(challenge: str, answer: bool) -> None:  # noqa: FBT001
    assert presentation.asks_for_nonce(challenge) is answer
