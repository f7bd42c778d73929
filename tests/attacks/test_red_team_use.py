"""What a red team found in the use of identities: each of these got through once."""
# ruff: noqa: ANN401 - messages of ASGI are of any type

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from credential import Malformed, Refused, crypto, use
from credential.dpop import DPoP
from credential.servers.aiohttp import guard
from credential.servers.asgi import Guarded
from credential.servers.gate import Refusal
from tests.credential.test_gate import admit, make_gate, request
from tests.credential.world import (
    AUDIENCE,
    NONCES,
    TOKEN,
    URL,
    USE_KEY,
    accept,
    keys,
    make_proof,
    parts_of,
    reasons,
    sign_payload,
)

HEARER = "whoever hears a request"
PROCESS = "the process itself"
ACCESS = "the access"
SERVICE = "the relying party's service"

LAST_SECOND = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


# A proof is for the path that the application sees


@pytest.mark.attack(number=103, attacker=HEARER, asset=ACCESS)
@pytest.mark.parametrize("target", ["/post#", "/post#/../admin", "/post#?a", "/post?a#b"])
def test_a_fragment_in_the_request_line(target: str) -> None:
    """No client sends one (RFC 9112, section 3.2); a proof's URL has none, but a path may."""
    found, line = admit(request(target=target))
    assert isinstance(found, Refusal)
    assert line.reasons == ("proof.of-another-url",)


@pytest.mark.attack(number=103, attacker=HEARER, asset=ACCESS)
async def test_a_proof_for_a_path_and_an_application_that_sees_a_longer_one() -> None:
    paths: list[str] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(
        Guarded(app, make_gate(lambda _line: None)), port=0, ws="none", http="h11", log_config=None
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - it has nothing to wait for
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /post#/admin HTTP/1.1\r\nHost: a\r\nWorkload-Identity-Token: {TOKEN}\r\n"
            f"Workload-Proof-Token: {make_proof()}\r\nContent-Length: 0\r\n\r\n".encode()
        )
        answer = await reader.readline()
        writer.close()
    server.should_exit = True
    await serving
    assert (answer.split()[1], [one for one in paths if one]) == (b"403", [])


# What the process signs itself


@pytest.mark.attack(number=103, attacker=PROCESS, asset=SERVICE)
@pytest.mark.parametrize("seconds", [0, 1, 29, 59, 24 * 3600 - 1])
def test_a_proof_of_the_end_of_all_times(seconds: int) -> None:
    """A process that holds its key writes what it likes; it is refused, whatever the arithmetic."""
    proof = parts_of(make_proof())[1] | {"exp": LAST_SECOND - seconds}
    with pytest.raises((Malformed, Refused)) as refusal:
        accept(TOKEN, sign_payload(proof, USE_KEY, typ="wpt+jwt"))
    assert {*reasons(refusal.value)} & {"proof.malformed", "proof.lives-too-long"}
    claims = {
        "jti": "j" * 22, "htm": "POST", "htu": URL, "iat": LAST_SECOND - seconds,
        "ath": proof["wth"],
    }  # fmt: skip
    jwk = keys.to_bare_jwk(crypto.point_of(USE_KEY))
    signed = sign_payload(claims, USE_KEY, typ="dpop+jwt", jwk=jwk)
    with pytest.raises((Malformed, Refused)) as refusal:
        accept(TOKEN, DPoP(proof=signed, nonces=NONCES))
    assert {*reasons(refusal.value)} & {"proof.malformed", "proof.early"}


# A connection that lasts


@pytest.mark.attack(number=102, attacker=PROCESS, asset=ACCESS)
@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket"])
async def test_a_websocket_at_an_aiohttp_server(upgrade: str) -> None:
    """Who was let in once would stay in, whatever becomes of the process."""
    opened: list[bool] = []

    async def chat(asked: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(asked)
        opened.append(True)
        return socket

    lines: list[str] = []
    app = web.Application()
    guard(app, make_gate(lines.append))
    app.router.add_get("/chat", chat)
    given = {
        "Workload-Identity-Token": TOKEN,
        "Workload-Proof-Token": make_proof(method="GET", url=f"{AUDIENCE}/chat"),
        "Connection": "Upgrade",
        "Upgrade": upgrade,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with TestClient(TestServer(app)) as client, client.get("/chat", headers=given) as answer:
        assert (answer.status, opened) == (403, [])
    [line] = lines
    assert use.read(line).reasons == ("request.not-http",)
