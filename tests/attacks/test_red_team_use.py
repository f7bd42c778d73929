"""What a red team found in the use of identities: each of these got through once."""
# ruff: noqa: ANN401 - messages of ASGI are of any type

import asyncio
import json
import os
import signal
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import uvicorn
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from credential import Caller, Malformed, Refused, Seen, crypto, keys, use
from credential.dpop import DPoP
from credential.seen_file import SeenFile
from credential.servers.aiohttp import guard
from credential.servers.asgi import Guarded
from credential.servers.configuration import load_gate
from credential.servers.gate import Refusal
from tests.credential.test_gate import admit, make_gate, request
from tests.credential.test_spool import Ledger, reporting, until
from tests.credential.world import (
    AUDIENCE,
    KEYS,
    NONCES,
    NOW,
    OTHER_KEY,
    TOKEN,
    URL,
    USE_KEY,
    accept,
    make_dpop,
    make_proof,
    make_token,
    parts_of,
    reasons,
    sign_payload,
)
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import SimulatedNode
from tests.simulated_process import SimulatedProcess
from tests.verifier.test_origin import JOB, new_step, step_toml
from verifier import Reason
from verifier.case import WORKLOAD

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
    async with asyncio.timeout(60):
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


# A relying party with several processes, or with one after another


@pytest.mark.attack(number=103, attacker=HEARER, asset=ACCESS)
@pytest.mark.parametrize("kind", ["wpt", "dpop"])
async def test_a_proof_replayed_to_the_next_process_of_a_server(tmp_path: Path, kind: str) -> None:
    """Another worker, or the server after it was killed: the file knows what they have let in."""
    (tmp_path / "keys.json").write_text(json.dumps(KEYS.to_jwks()))
    path = tmp_path / "gate.toml"
    path.write_text(
        'verifier = "https://verifier.example.org"\ntrust_domain = "example.org"\n'
        f'keys = "keys.json"\naudience = "{AUDIENCE}"\nminimum = "L2"\nstatus = "unchecked"\n'
        'seen = "seen.sqlite"\n'
    )
    lines: list[str] = []
    one, other = (load_gate(path, log=lines.append) for _ in range(2))
    now = datetime.now(UTC).replace(microsecond=0)
    token = make_token(issued=now, expires=now + timedelta(minutes=10))
    asked = request(token, make_proof(token, now=now))
    if kind == "dpop":
        nonce = SeenFile(tmp_path / "seen.sqlite").nonces.at(now)
        proof = make_dpop(token, now=now, nonce=nonce).proof
        asked = request(headers=(("Authorization", f"DPoP {token}"), ("DPoP", proof)))
    assert isinstance(await one.admit(asked), Caller)
    for gate in (one, other, load_gate(path, log=lines.append)):
        assert isinstance(await gate.admit(asked), Refusal)
    assert [use.read(line).reasons for line in lines] == [(), *[("proof.replayed",)] * 3]


@pytest.mark.attack(number=103, attacker=HEARER, asset=ACCESS)
def test_a_proof_replayed_after_sigkill_or_in_a_forked_worker(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    later = NOW + timedelta(seconds=90)
    seen = SeenFile(path)
    for proof, is_killed in (("a", True), ("b", False)):
        child = os.fork()
        if child == 0:
            try:
                is_new = seen.add(proof, now=NOW, until=later)
                os.kill(os.getpid(), signal.SIGKILL if is_killed and is_new else signal.SIGTERM)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == (signal.SIGKILL if is_killed else signal.SIGTERM)
        assert not seen.add(proof, now=NOW, until=later)
    assert not SeenFile(path).add("a", now=NOW, until=later)
    assert seen.add("c", now=NOW, until=later)


def test_of_many_processes_one_lets_a_proof_in(tmp_path: Path) -> None:
    stores = [SeenFile(tmp_path / "seen") for _ in range(4)]

    def add(number: int) -> bool:
        return stores[number % 4].add(f"{number // 4}", now=NOW, until=NOW + timedelta(seconds=9))

    with ThreadPoolExecutor(4) as threads:
        for numbers in (range(start, start + 4) for start in range(0, 80, 4)):
            assert sum(threads.map(add, numbers)) == 1


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=40))
@settings(max_examples=40, deadline=None)
def test_the_file_says_what_the_memory_says(steps: list[tuple[int, int]]) -> None:
    second = timedelta(seconds=1)
    with TemporaryDirectory() as directory:
        memory, file = Seen(), SeenFile(Path(directory) / "seen")
        for now, end in steps:
            told = {"now": NOW + now * second, "until": NOW + end * second}
            assert file.add(str(end), **told) == memory.add(str(end), **told)
        file.close()


@pytest.mark.attack(number=103, attacker=PROCESS, asset=SERVICE)
@pytest.mark.parametrize("is_file", [True, False])
def test_103_one_process_leaves_room_for_the_proofs_of_all_others(
    tmp_path: Path, *, is_file: bool
) -> None:
    """It is told to wait; the others are let in, and so is whoever comes next."""
    seen = SeenFile(tmp_path / "seen", most=10) if is_file else Seen(most=10)
    loud = [request(proof=make_proof(jti=bytes([number] * 16))) for number in range(6)]
    found = [admit(one, seen=seen) for one in loud]
    assert [isinstance(caller, Caller) for caller, _ in found] == [True] * 5 + [False]
    refusal, line = found[-1]
    assert isinstance(refusal, Refusal)
    assert (refusal.status, line.reasons) == (429, ("request.too-many",))
    for jti in ("b3RoZXJvdGhlcm90aGVyb3", "dGhpcmR0aGlyZHRoaXJkdA"):
        caller, _ = admit(request(make_token(jti=jti)), seen=seen)
        assert isinstance(caller, Caller)


def test_a_file_that_is_full_or_broken_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "seen"
    full = SeenFile(path, most=1)
    until = NOW + timedelta(seconds=90)
    assert full.add("a", now=NOW, until=until)
    with pytest.raises(Refused) as refusal:
        full.add("b", now=NOW, until=until)
    assert reasons(refusal.value) == ["proof.replay-store-full"]
    assert full.add("b", now=until, until=until + timedelta(seconds=1))
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE proofs")
    other.close()
    found, line = admit(request(), seen=full)
    assert isinstance(found, Refusal)
    assert (found.status, line.reasons) == (503, ("proof.replay-store-failed",))
    (tmp_path / "junk").write_bytes(b"no file of SQLite's" * 100)
    for junk in (tmp_path / "junk", tmp_path, tmp_path / "nowhere" / "seen"):
        with pytest.raises((OSError, sqlite3.Error)):
            SeenFile(junk)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# What is written down of it


@pytest.mark.attack(number=119, attacker="a stranger", asset="the ledger")
async def test_119_strangers_keep_no_misused_token_out_of_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand requests without a token, and then one with somebody else's."""
    monkeypatch.setattr("credential.servers.reports.MOST_REFUSED_PER_HOUR", 2)
    ledger = Ledger()
    async with reporting(ledger, tmp_path / "spool") as made:
        gate = make_gate(lambda _line: None, reports=made)
        for asked in (request(headers=()),) * 5 + (request(proof=make_proof(key=OTHER_KEY)),) * 5:
            assert isinstance(await gate.admit(asked), Refusal)
        found = await until(ledger, 4)
    assert [bool(line.subject) for line in found] == [False, False, True, True]


# Approvals and jobs

APPROVED = 'grant = "approval"\n'


@pytest.fixture
def node(node: SimulatedNode, verifier: RunningVerifier) -> SimulatedNode:
    """A node whose signer, a step of the controller's, is to be approved each time."""
    verifier.operators.put(WORKLOAD, step_toml(node) + APPROVED)
    return node


def start(player: Player, process: SimulatedProcess) -> bool:
    """Start a process; say whether it has a credential."""
    player.attest([process])
    return process.key_name in player.tokens


@pytest.mark.attack(number=115, attacker="the same user", asset="a build's signature")
def test_115_an_approval_of_one_job_and_the_same_step_of_another(
    verifier: RunningVerifier, player: Player
) -> None:
    controller = player.node.new_process()
    assert start(player, controller)
    assert not start(player, new_step(player.node, controller))
    [waiting] = verifier.operators.grant_list()
    assert waiting["job"] == JOB, "the operator sees what it is for"
    verifier.operators.grant_approve(waiting["grant"], 900)
    assert not start(player, new_step(player.node, controller, job="build-18"))
    assert start(player, new_step(player.node, controller))
    states = {one["job"]: one["state"] for one in verifier.operators.grant_list()}
    assert states == {JOB: "open", "build-18": "waits"}


@pytest.mark.attack(
    number=115, attacker="another program of the same user", asset="the operators' attention"
)
def test_115_no_operator_is_asked_for_a_step_without_a_parent(
    verifier: RunningVerifier, player: Player
) -> None:
    controller = player.node.new_process()
    assert start(player, controller)
    orphan = new_step(player.node, controller, parent_key=b"x" * 34)
    outcomes = player.attest([orphan]).outcomes
    [outcome] = [one for one in outcomes if one.key_name == orphan.key_name]
    assert [one.reason for one in outcome.findings] == [Reason.PROCESS_PARENT_GONE]
    assert verifier.operators.grant_list() == []
