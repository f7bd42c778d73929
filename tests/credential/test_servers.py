"""The middlewares: aiohttp's client and server, talking to each other over a socket."""
# ruff: noqa: ANN401 - `changes` are of any type

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from credential import Keys, Seen
from credential.servers.aiohttp import CALLER, guard
from credential.servers.gate import Gate
from tests.credential.world import ID, KEYS, NOW, REQUIRED, TOKEN, make_proof, make_token

Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Any]
HEADERS = ("Workload-Identity-Token", "Workload-Proof-Token")


async def post(request: web.Request) -> web.Response:
    return web.json_response({"id": request[CALLER].id, "use": request[CALLER].use})


async def away(request: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect(request.query["to"])


def make_app(**changes: Any) -> web.Application:
    options: dict[str, Any] = {
        "keys": KEYS, "require": REQUIRED, "clock": lambda: NOW, "status": "unchecked",
    }  # fmt: skip
    app = web.Application()
    guard(app, Gate(**{**options, **changes}))
    app.router.add_post("/post", post)
    app.router.add_post("/away", away)
    return app


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with TestClient(TestServer(make_app())) as one:
        yield one


def headers(token: str = TOKEN, proof: str | None = None) -> dict[str, str]:
    return dict(zip(HEADERS, (token, proof or make_proof(token)), strict=True))


async def reasons_of(client: Client, given: Any, path: str = "/post") -> tuple[int, list[str]]:
    async with client.post(path, headers=given) as response:
        body = await response.json()
        assert body["verdict"] == "refused"
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, [finding["reason"] for finding in body["findings"]]


async def test_a_proven_request_reaches_the_application(client: Client) -> None:
    async with client.post("/post?draft=1", headers=headers()) as response:
        assert (response.status, (await response.json())["id"]) == (200, ID)


@pytest.mark.parametrize(
    ("given", "status", "reason"),
    [
        pytest.param({}, 403, "token.missing", id="nothing"),
        pytest.param({HEADERS[1]: make_proof()}, 403, "token.missing", id="a proof alone"),
        pytest.param({HEADERS[0]: TOKEN}, 403, "proof.missing", id="a token alone"),
        pytest.param({HEADERS[0]: TOKEN, HEADERS[1]: ""}, 403, "proof.missing", id="no proof"),
        pytest.param(headers("x"), 400, "token.malformed", id="no token"),
        pytest.param(headers(TOKEN, "x"), 400, "proof.malformed", id="no proof at all"),
        pytest.param(
            headers(make_token(level="lab")), 403, "token.level-lab", id="a token of level lab"
        ),
        pytest.param(
            [*headers().items(), (HEADERS[0], TOKEN)], 400, "token.malformed", id="two tokens"
        ),
        pytest.param(
            [*headers().items(), (HEADERS[1], make_proof())], 400, "proof.malformed",
            id="two proofs",
        ),
        pytest.param(
            {**headers(), "Host": "evil.example", "X-Forwarded-Host": "ledger.example.org"},
            200, None, id="its own name does not come from a header",
        ),
    ],
)  # fmt: skip
async def test_what_is_answered(
    given: Any, status: int, reason: str | None, client: Client
) -> None:
    if reason is None:
        async with client.post("/post", headers=given) as response:
            assert response.status == status
    else:
        assert await reasons_of(client, given) == (status, [reason])


@pytest.mark.parametrize("path", ["/%70ost", "/post/", "/post//", "/other", "/POST"])
async def test_another_path_is_another_target(path: str, client: Client) -> None:
    """Also one that the router would take for the same: proofs are for the path as it was sent."""
    from yarl import URL  # noqa: PLC0415  (aiohttp's)

    status = await reasons_of(client, headers(), URL(path, encoded=True))  # type: ignore[arg-type]
    assert status == (403, ["proof.of-another-url"])


async def test_a_proof_counts_once(client: Client) -> None:
    given = headers()
    async with client.post("/post", headers=given) as response:
        assert response.status == 200
    assert await reasons_of(client, given) == (403, ["proof.replayed"])


async def test_a_full_store_is_503() -> None:
    async with TestClient(TestServer(make_app(seen=Seen(most=0)))) as client:
        assert await reasons_of(client, headers()) == (503, ["proof.replay-store-full"])


async def test_keys_may_be_fetched_anew() -> None:
    known = [Keys.of("example.org", [("old", KEYS.points[next(iter(KEYS.points))])])]
    async with TestClient(TestServer(make_app(keys=lambda: known[-1]))) as client:
        assert await reasons_of(client, headers()) == (403, ["token.key-unknown"])
        known.append(KEYS)
        async with client.post("/post", headers=headers()) as response:
            assert response.status == 200
