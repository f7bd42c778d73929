"""Proofs of real processes on a real kernel, at a relying party that listens on a real socket.

One machine, three workloads of one program: their proofs are signed by the attestor, by the TPM and
by the process. The relying party's clock can be put ahead; nothing else of it is a test's.
"""

import asyncio
import http.client
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from aiohttp import web

from credential import Keys, Requirements, crypto, local, presentation, wit
from credential.check import SKEW
from credential.presentation import KINDS, Kind
from credential.servers.aiohttp import CALLER, guard
from credential.servers.gate import Gate
from demo.stage import Setting, set_up
from demo.waiting import wait
from demo.world import World
from tests.attacks.machine import (
    AUDIENCE,
    PATH,
    SOCKET,
    MachinePuppet,
    granted,
    sha256,
    workload,
)
from tests.attestor.puppets import build, reasons
from tests.open_doors import Door, trusting
from verifier.policy import ReferenceSet
from verifier.reference import encode_reference

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(400)]

TRUST_DOMAIN = "example.org"
PROOF_KEYS = ("attestor", "tpm", "process")
both_kinds = pytest.mark.parametrize("kind", KINDS)
each_key = pytest.mark.parametrize("proof_key", PROOF_KEYS)
HEARER, SIBLING = "whoever hears a request", "a sibling process"
CREDENTIAL = "the credential"


def id_of(proof_key: str) -> str:
    return f"spiffe://{TRUST_DOMAIN}/puppet-{proof_key}"


@dataclass
class Ledger:
    """A relying party of the machine's verifier, with a clock that may go before."""

    keys: Keys
    ahead: timedelta = timedelta()
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        gate = Gate(
            keys=self.keys,
            require=Requirements(audience=AUDIENCE, minimum="lab", allow_lab=True),
            status="unchecked",
            clock=lambda: datetime.now(UTC) + self.ahead,
            log=self.lines.append,
        )
        guard(app, gate)
        app.router.add_route("*", "/{anything:.*}", self._tell)
        return app

    async def _tell(self, request: web.Request) -> web.Response:
        return web.json_response({"id": request[CALLER].id})

    def ask(
        self, headers: Mapping[str, str], method: str = "POST", path: str = "/post"
    ) -> tuple[int, Any, str]:
        """Return status and JSON of the answer, and the nonce that came with it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers))
            response = connection.getresponse()
            nonce = response.getheader("DPoP-Nonce", "")
            return response.status, json.loads(response.read()), nonce
        finally:
            connection.close()

    def judge(self, headers: Mapping[str, str], **request: str) -> list[str]:
        """Return why it refuses the request; nothing where it lets it in."""
        status, body, _ = self.ask(headers, **request)
        return [] if status == 200 else [one["reason"] for one in body["findings"]]


@contextmanager
def listening(ledger: Ledger) -> Iterator[Ledger]:
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    runner = web.AppRunner(ledger.app())

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    try:
        ledger.port = asyncio.run_coroutine_threadsafe(start(), loop).result()
        yield ledger
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass
class Scene:
    """The machine and the relying party."""

    world: World
    ledger: Ledger

    def put(self, kind: str, text: str) -> None:
        document = self.world.directory / f"puppet-{kind}.toml"
        document.write_text(text)
        self.world.operator(kind, "put", str(document))

    def operations(self) -> dict[str, int]:
        """Return what the attestor says that it has asked of the TPM."""
        told = self.world.machine.run("attestor status --json", timeout=60).check().output
        found: dict[str, int] = json.loads(told)["tpm_operations"]
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    program = build(tmp_path_factory.mktemp("programs") / "puppet").read_bytes()
    with set_up(Setting(kernel="6.12", interval_seconds=10)) as world:
        tls = trusting(world.config.parent / "ca.pem")
        tls.check_hostname = False  # the certificate is for verifier.lab
        _, jwks = Door(world.verifier_port, tls).request("GET", "/v1/keys")
        with listening(Ledger(Keys.read(jwks, trust_domain=TRUST_DOMAIN))) as ledger:
            scene = Scene(world, ledger)
            known = ReferenceSet(name="puppet", files={"usr/bin/puppet": (sha256(program),)})
            scene.put("reference", encode_reference(known))
            for one in PROOF_KEYS:
                scene.put("workload", f'proof_key = "{one}"\n{workload(id_of(one), PATH)}')
            world.machine.put(PATH, program, mode=0o755)
            yield scene


@dataclass
class Process:
    """A puppet with a credential, which proves requests as its workload says."""

    puppet: MachinePuppet
    proof_key: str
    ledger: Ledger
    own: crypto.PrivateKey = field(default_factory=crypto.generate)
    token: str = ""

    def obtain(self) -> None:
        id_ = id_of(self.proof_key)
        if self.proof_key == "process":
            found = self.puppet.obtain_with_key(SOCKET, id_, self.own)
        else:
            said = {} if self.proof_key == "attestor" else {"proof_key": self.proof_key}
            found = self.puppet.obtain(SOCKET, id_, **said)
        self.token = granted(found).token

    def prove(self, kind: Kind, nonce: str = "") -> dict[str, str]:
        """Return the headers of a POST to AUDIENCE/post."""
        proof = self._own_proof(kind, nonce) if self.proof_key == "process" else ""
        if not proof:
            members = {"kind": "dpop", "nonce": nonce} if kind == "dpop" else {}
            answer = self.puppet.prove(AUDIENCE, **members)
            assert isinstance(answer, local.Proof), answer
            self.token, proof = answer.token, answer.proof
        return presentation.headers(kind, token=self.token, proof=proof)

    def proven(self, kind: Kind) -> dict[str, str]:
        """Return such headers, with a nonce that the relying party has just given."""
        if kind == "wpt":
            return self.prove(kind)
        status, body, nonce = self.ledger.ask(self.prove(kind))
        assert (status, body["findings"][0]["reason"]) == (401, "proof.nonce-missing")
        return self.prove(kind, nonce)

    def _own_proof(self, kind: Kind, nonce: str) -> str:
        return presentation.compose(
            kind, token=self.token, use_key=crypto.point_of(self.own), audience=AUDIENCE,
            method="POST", url=f"{AUDIENCE}/post", nonce=nonce, now=datetime.now(UTC),
            jti=secrets.token_bytes(16),
        ).sign(self.own)  # fmt: skip


@contextmanager
def process_of(scene: Scene, proof_key: str) -> Iterator[Process]:
    with MachinePuppet(scene.world) as puppet:
        process = Process(puppet, proof_key, scene.ledger)
        process.obtain()
        yield process


@pytest.fixture(scope="module")
def processes(scene: Scene) -> Iterator[dict[str, Process]]:
    """One process of each workload, all of one executable and one unit."""
    with (
        process_of(scene, "attestor") as first,
        process_of(scene, "tpm") as second,
        process_of(scene, "process") as third,
    ):
        yield {one.proof_key: one for one in (first, second, third)}


@both_kinds
@each_key
def test_what_is_accepted(
    scene: Scene, processes: dict[str, Process], proof_key: str, kind: Kind
) -> None:
    process = processes[proof_key]
    status, body, _ = scene.ledger.ask(process.proven(kind))
    assert (status, body) == (200, {"id": id_of(proof_key)})
    claims = wit.read(process.token, scene.ledger.keys)
    assert claims.procseal.proof_key == proof_key


@both_kinds
@each_key
@pytest.mark.attack(number=103, attacker=HEARER, asset=CREDENTIAL)
def test_a_proof_replayed_late_or_for_another_request(
    scene: Scene, processes: dict[str, Process], proof_key: str, kind: Kind
) -> None:
    """Wrong requests first: they use up nothing."""
    heard = processes[proof_key].proven(kind)
    ledger = scene.ledger
    assert ledger.judge(heard, path="/post/more") == ["proof.of-another-url"]
    assert ledger.judge(heard, method="DELETE") == ["proof.of-another-method"]
    try:
        ledger.ahead = timedelta(seconds=100)
        assert ledger.judge(heard) == ["proof.late"]
        ledger.ahead = SKEW  # as the clock of an honest server may be
        assert ledger.judge(heard) == []
        assert ledger.judge(heard) == ["proof.replayed"]
    finally:
        ledger.ahead = timedelta()


@both_kinds
@each_key
@pytest.mark.attack(number=103, attacker="whoever copied the token", asset=CREDENTIAL)
def test_a_proof_signed_by_another_key(
    scene: Scene, processes: dict[str, Process], proof_key: str, kind: Kind
) -> None:
    thief = Process(processes[proof_key].puppet, "process", scene.ledger)
    thief.token = processes[proof_key].token
    nonce = scene.ledger.ask(processes["attestor"].prove("dpop"))[2]
    found = scene.ledger.judge(thief.prove(kind, nonce if kind == "dpop" else ""))
    assert found == [{"wpt": "proof.signature-invalid", "dpop": "proof.of-another-key"}[kind]]


@both_kinds
@each_key
@pytest.mark.attack(number=104, attacker=SIBLING, asset=CREDENTIAL)
def test_two_processes_of_one_executable(
    scene: Scene, processes: dict[str, Process], proof_key: str, kind: Kind
) -> None:
    """Each has a key and a credential of its own, and neither can use the other's."""
    first = processes[proof_key]
    with process_of(scene, proof_key) as second:
        pair = [first.proven(kind), second.proven(kind)]
        claims = [wit.read(one.token, scene.ledger.keys) for one in (first, second)]
        assert claims[0].id == claims[1].id
        assert claims[0].procseal.executable == claims[1].procseal.executable
        assert claims[0].use_key != claims[1].use_key
        assert claims[0].jti != claims[1].jti
        for own, other in (pair, pair[::-1]):
            names = list(own)  # of the token's header, and of the proof's
            stolen = {names[0]: other[names[0]], names[1]: own[names[1]]}
            reason = {"wpt": "proof.signature-invalid", "dpop": "proof.of-another-key"}[kind]
            assert scene.ledger.judge(stolen) == [reason]
            assert scene.ledger.judge(own) == []


@pytest.mark.attack(number=104, attacker=SIBLING, asset=CREDENTIAL)
def test_a_sibling_asks_over_the_connection_of_the_other(
    processes: dict[str, Process],
) -> None:
    """A child has the descriptor, and is another process."""
    for proof_key in ("attestor", "tpm"):
        puppet = processes[proof_key].puppet
        found = reasons(puppet.prove(AUDIENCE, how="child-send"))
        assert found == ["local.message-not-from-the-process"]


def test_each_proof_of_the_tpms_is_one_operation_of_it(
    scene: Scene, processes: dict[str, Process]
) -> None:
    before = scene.operations().get("sign", 0)
    processes["tpm"].prove("wpt")
    processes["tpm"].prove("dpop")
    processes["attestor"].prove("wpt")
    assert scene.operations()["sign"] - before == 2


def test_an_attestor_has_no_key_of_a_process_that_signs_itself(
    processes: dict[str, Process],
) -> None:
    assert reasons(processes["process"].puppet.prove(AUDIENCE)) == ["local.use-key-not-ours"]


@each_key
def test_z_text_that_was_patched(
    scene: Scene, processes: dict[str, Process], proof_key: str
) -> None:
    """Who asks for a proof is looked at first, whoever signs; who signs itself is found out later.

    It is the last test: what was patched has lost its credential.
    """
    process = processes[proof_key]
    process.puppet.do("poke")
    if proof_key != "process":
        assert "process.text-patched" in reasons(process.puppet.prove(AUDIENCE))
        return
    jti = wit.read_unverified(process.token).jti

    def is_revoked() -> bool:
        found = scene.world.operator("credential", "list", "--all")
        return any(one["jti"] == jti and one["cause"] for one in found)

    wait(is_revoked, 60, "the evidence that shows it")
