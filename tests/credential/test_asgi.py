"""The ASGI middleware: under a real server, uvicorn, and called as servers call it."""
# ruff: noqa: ANN401 - `changes` and messages are of any type

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from credential import use
from credential.servers.asgi import Guarded
from credential.servers.reports import Reports
from credential.servers.status_lists import StatusLists
from credential.servers.verifier import Verifier
from tests.credential.test_gate import make_gate
from tests.credential.world import ID, KEYS, NONCES, TOKEN, make_dpop, make_proof, make_token

HEADERS = ("Workload-Identity-Token", "Workload-Proof-Token")
VERIFIER = Verifier("https://verifier.example.org", tls=ssl.create_default_context())

App = Callable[[Any, Any, Any], Awaitable[None]]


async def post(request: Request) -> JSONResponse:
    caller = request.state.caller
    return JSONResponse(
        {"id": caller.id, "use": caller.use, "body": (await request.body()).decode()}
    )


def starlette() -> Starlette:
    return Starlette(routes=[Route("/post", post, methods=["POST"])])


async def bare(scope: Any, _receive: Any, send: Any) -> None:
    """An application without a framework, and without a lifespan."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["state"]["caller"].id.encode()})


@asynccontextmanager
async def served(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """Have uvicorn serve an application."""
    config = uvicorn.Config(app, port=0, ws="none", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(60):
            while not server.started:  # noqa: ASYNC110 - it has nothing to wait for
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        server.should_exit = True
        await serving


def headers(token: str = TOKEN, proof: str | None = None) -> dict[str, str]:
    return dict(zip(HEADERS, (token, proof or make_proof(token)), strict=True))


async def test_a_proven_request_reaches_the_application() -> None:
    lines: list[str] = []
    async with served(Guarded(starlette(), make_gate(lines.append))) as client:
        answer = await client.post("/post?draft=1", headers=headers(), content=b"x" * 100_000)
    assert answer.status_code == 200
    assert answer.json() == {
        "id": ID, "use": use.read(lines[0]).id, "body": "x" * 100_000,
    }  # fmt: skip


async def test_an_application_without_framework_and_lifespan() -> None:
    async with served(Guarded(bare, make_gate(lambda _line: None))) as client:
        assert (await client.post("/post", headers=headers())).text == ID


@pytest.mark.parametrize(
    ("path", "given", "status", "reason"),
    [
        pytest.param("/post", {}, 403, "token.missing", id="nothing"),
        pytest.param("/post", {HEADERS[0]: TOKEN}, 403, "proof.missing", id="a token alone"),
        pytest.param("/post", headers("x"), 400, "token.malformed", id="no token"),
        pytest.param(
            "/post", headers(make_token(level="lab")), 403, "token.level-lab", id="of level lab"
        ),
        pytest.param(
            "/post", [*headers().items(), (HEADERS[0], TOKEN)], 400, "token.malformed",
            id="two tokens",
        ),
        pytest.param("/%70ost", headers(), 403, "proof.of-another-url", id="another spelling"),
        pytest.param("/post/", headers(), 403, "proof.of-another-url", id="another path"),
        pytest.param("/other", headers(), 403, "proof.of-another-url", id="another route"),
    ],
)  # fmt: skip
async def test_what_is_refused(path: str, given: Any, status: int, reason: str) -> None:
    lines: list[str] = []
    async with served(Guarded(starlette(), make_gate(lines.append))) as client:
        answer = await client.post(path, headers=given)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (status, "no-store")
    assert [one["reason"] for one in answer.json()["findings"]] == [reason]
    [line] = lines
    assert (use.read(line).id, use.read(line).reasons) == (answer.json()["use"], (reason,))


async def test_a_proof_counts_once_and_its_own_name_comes_from_no_header() -> None:
    given = {**headers(), "Host": "evil.example", "X-Forwarded-Host": "ledger.example.org"}
    async with served(Guarded(starlette(), make_gate(lambda _line: None))) as client:
        assert (await client.post("/post", headers=given)).status_code == 200
        answer = await client.post("/post", headers=given)
    assert [one["reason"] for one in answer.json()["findings"]] == ["proof.replayed"]


async def test_dpop_with_the_nonce_that_the_refusal_gave() -> None:
    gate = make_gate(lambda _line: None, nonces=NONCES)

    def given(nonce: str) -> dict[str, str]:
        return {"Authorization": f"DPoP {TOKEN}", "DPoP": make_dpop(nonce=nonce).proof}

    async with served(Guarded(starlette(), gate)) as client:
        answer = await client.post("/post", headers=given(""))
        assert answer.status_code == 401
        nonce = answer.headers["DPoP-Nonce"]
        assert (await client.post("/post", headers=given(nonce))).status_code == 200


# As servers call it


class Server:
    """What an ASGI server tells an application, and hears."""

    def __init__(self, *messages: str) -> None:
        self._messages = [{"type": one} for one in messages]
        self.heard: list[Any] = []

    async def receive(self) -> Any:
        return self._messages.pop(0)

    async def send(self, message: Any) -> None:
        self.heard.append(message)

    async def call(self, app: App, **scope: Any) -> list[str]:
        await app(scope, self.receive, self.send)
        return [str(one["type"]) for one in self.heard]


def is_open(lists: StatusLists) -> bool:
    return lists._session is not None  # noqa: SLF001 - nobody else asks


async def unreachable(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("the application was called")


@pytest.mark.parametrize("kind", ["websocket", "webtransport", ""])
async def test_what_is_no_request_is_refused_whoever_asks(kind: str) -> None:
    lines: list[str] = []
    guarded = Guarded(unreachable, make_gate(lines.append))
    given = [(name.lower().encode(), value.encode()) for name, value in headers().items()]
    scope = {"type": kind, "raw_path": b"/post", "headers": given}
    told = await Server("websocket.connect").call(guarded, **scope)
    assert told == (["websocket.close"] if kind == "websocket" else [])
    said = use.read(lines[0])
    assert (said.reasons, said.subject) == (("request.not-http",), ID)


async def test_a_server_that_does_not_say_which_path_was_sent() -> None:
    guarded = Guarded(unreachable, make_gate(lambda _line: None))
    given = [(name.encode(), value.encode()) for name, value in headers().items()]
    for path in ({}, {"raw_path": None}, {"raw_path": b"http://evil.example/post"}):
        server = Server()
        scope = {"type": "http", "method": "POST", "path": "/post", "headers": given, **path}
        await server.call(guarded, **scope)
        assert server.heard[0]["status"] == 403
        assert b"proof.of-another-url" in server.heard[1]["body"]


async def test_the_gate_is_open_while_the_application_lives() -> None:
    lists = StatusLists(VERIFIER, keys=KEYS)
    seen = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        for name in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{name}"
            seen.append(is_open(lists))
            await send({"type": f"lifespan.{name}.complete"})

    gate = make_gate(lambda _line: None, status=lists)
    told = await Server("lifespan.startup", "lifespan.shutdown").call(
        Guarded(app, gate), type="lifespan"
    )
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert seen == [True, True]
    assert not is_open(lists)


async def test_a_gate_that_does_not_open_keeps_the_server_from_starting(tmp_path: Path) -> None:
    gate = make_gate(lambda _line: None, reports=Reports(VERIFIER, tmp_path / "nothing" / "spool"))
    server = Server("lifespan.startup")
    assert await server.call(Guarded(unreachable, gate), type="lifespan") == [
        "lifespan.startup.failed"
    ]
    assert "nothing" in server.heard[0]["message"]


async def test_an_application_that_fails_to_start_fails() -> None:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        raise RuntimeError("the application's own")

    guarded = Guarded(app, make_gate(lambda _line: None))
    with pytest.raises(RuntimeError, match="own"):
        await Server("lifespan.startup").call(guarded, type="lifespan")


async def test_without_lifespan_the_gate_is_shut() -> None:
    """Of the outermost application alone: a mounted one hears nothing of it."""
    gate = make_gate(lambda _line: None, status=StatusLists(VERIFIER, keys=KEYS))
    given = [(name.encode(), value.encode()) for name, value in headers().items()]
    scope = {"type": "http", "method": "POST", "raw_path": b"/post", "headers": given}
    server = Server()
    await server.call(Guarded(unreachable, gate), **scope)
    assert server.heard[0]["status"] == 503
