"""A relying party that is killed, and a verifier that is away: nothing promised is lost or doubled.

A real process with a real server, its spool on a real disk, is sent SIGKILL again and again while
clients call it, each request with a proof of its own, good or bad; in the middle the verifier's
door is shut for a while. In the end the ledger has to have, once, each use that a client was
answered, and of others only such as a client waited for when the process died.
"""

import asyncio
import http.client
import json
import multiprocessing
import random
import secrets
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from aiohttp import web

from credential import Keys, Requirements, crypto, wpt
from credential.servers.aiohttp import CALLER, guard
from credential.servers.gate import Gate
from credential.servers.reports import Reports
from credential.servers.verifier import Verifier
from tests.open_doors import open_doors
from tests.relying_party import token_of
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import AUDIENCE, ISSUER, NOW, TRUST_DOMAIN
from tests.simulated_process import SimulatedProcess

KILLS = 12
CLIENTS = 4
PATIENCE_SECONDS = 60

Lost = (OSError, http.client.HTTPException)


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the relying party is started with."""

    jwks: bytes
    spool: Path
    verifier_port: int
    secret: str


def serve_until_killed(site: Site, ready: Connection) -> None:
    asyncio.run(_serve(site, ready))


async def _serve(site: Site, ready: Connection) -> None:
    verifier = Verifier(
        ISSUER, tls=ssl.create_default_context(), name="ledger", secret=site.secret,
        reached_at=f"http://127.0.0.1:{site.verifier_port}",
    )  # fmt: skip
    gate = Gate(
        keys=Keys.read(site.jwks, trust_domain=TRUST_DOMAIN),
        require=Requirements(audience=AUDIENCE, minimum="lab", allow_lab=True),
        status="unchecked",
        reports=Reports(verifier, site.spool),
        log=lambda _line: None,
        clock=lambda: NOW,
    )

    async def post(request: web.Request) -> web.Response:
        return web.json_response({"use": request[CALLER].use})

    app = web.Application()
    guard(app, gate)
    app.router.add_post("/post", post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ready.send(int(runner.addresses[0][1]))
    await asyncio.Event().wait()


@dataclass
class Clients:
    """What clients were answered, by the id of the use; and how many were left without."""

    token: str
    key: crypto.PrivateKey
    answered: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    is_over: bool = False

    def call_until_dead(self, port: int) -> None:
        while not self.is_over:
            try:
                self.call(port)
            except Lost:
                self.lost += 1
                return

    def call(self, port: int) -> None:
        is_good = secrets.randbelow(4) > 0
        proof = wpt.compose(
            token=self.token, audience=AUDIENCE, method="POST" if is_good else "GET",
            url=f"{AUDIENCE}/post", now=NOW, jti=secrets.token_bytes(16),
        ).sign(self.key)  # fmt: skip
        headers = {"Workload-Identity-Token": self.token, "Workload-Proof-Token": proof}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("POST", "/post", headers=headers)
            response = connection.getresponse()
            told = json.loads(response.read())
        finally:
            connection.close()
        assert response.status == (200 if is_good else 403), told
        self.answered[told["use"]] = "accepted" if is_good else "refused"


class RelyingParty:
    """The process that is killed."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.verifier.test_reports_kill"])

    def start(self) -> int:
        """Start it; return its port once it listens."""
        here, there = self._context.Pipe(duplex=False)
        target = partial(serve_until_killed, self.site, there)
        self.process = self._context.Process(target=target, daemon=True)
        self.process.start()
        there.close()
        with here:
            assert here.poll(20), "it does not start"
            port: int = here.recv()
            return port

    def kill(self) -> None:
        self.process.kill()
        self.process.join(20)


@pytest.fixture
def clients(player: Player, process: SimulatedProcess) -> Clients:
    return Clients(token_of(player, process), process.use_key)


def reported(verifier: RunningVerifier) -> list[tuple[str, str]]:
    """Return id and verdict of each use in the ledger."""
    rows = [row for row in verifier.ledger() if row.kind.startswith("use.")]
    return [(str(row.body["id"]), str(row.body["verdict"])) for row in rows]


def serve_and_kill(party: RelyingParty, clients: Clients, chance: random.Random) -> None:
    port = party.start()
    with ThreadPoolExecutor(CLIENTS) as pool:
        calls = [pool.submit(clients.call_until_dead, port) for _ in range(CLIENTS)]
        time.sleep(chance.uniform(0.1, 1.2))
        party.kill()
        for call in calls:
            call.result()


def test_sigkill_while_the_verifier_is_away(
    verifier: RunningVerifier, clients: Clients, tmp_path: Path, unused_tcp_port: int
) -> None:
    chance = random.Random()
    told = verifier.operators.relying_party_add("ledger", AUDIENCE)
    with open_doors(verifier.service, port=unused_tcp_port) as door:
        jwks = door.request("GET", "/v1/keys")[1]
        site = Site(
            jwks=jwks, spool=tmp_path / "spool", verifier_port=unused_tcp_port,
            secret=told["secret"],
        )  # fmt: skip
        party = RelyingParty(site)
        for _ in range(KILLS // 3):
            serve_and_kill(party, clients, chance)
    before = len(reported(verifier))
    for _ in range(KILLS // 3):
        serve_and_kill(party, clients, chance)
    assert len(reported(verifier)) == before, "the verifier was away"
    with open_doors(verifier.service, port=unused_tcp_port):
        for _ in range(KILLS // 3):
            serve_and_kill(party, clients, chance)
        party.start()
        try:
            demand_nothing_lost(verifier, clients)
        finally:
            party.kill()


def demand_nothing_lost(verifier: RunningVerifier, clients: Clients) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while clients.answered.keys() - dict(reported(verifier)).keys():
        assert time.monotonic() < deadline, "a use is lost"
        time.sleep(0.2)
    time.sleep(1)  # what would come twice has come by now
    found = reported(verifier)
    assert len(dict(found)) == len(found), "a use is there twice"
    assert {id_: dict(found)[id_] for id_ in clients.answered} == clients.answered
    assert len(found) - len(clients.answered) <= clients.lost
    assert set(clients.answered.values()) == {"accepted", "refused"}
