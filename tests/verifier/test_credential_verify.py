"""`credential verify` and the gate against a running verifier: its keys, its lists, its answers."""

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from credential import Caller, Keys, Requirements, use, wit, wpt
from credential.__main__ import main
from credential.servers.gate import Gate, Refusal, Request
from credential.servers.introspection import Introspection
from credential.servers.verifier import Verifier
from tests.relying_party import Party, token_of
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import AUDIENCE, ISSUER, TRUST_DOMAIN
from tests.simulated_process import SimulatedProcess

URL = f"{AUDIENCE}/post"
REQUIRED = Requirements(audience=AUDIENCE, minimum="lab", allow_lab=True)


@dataclass
class Scene:
    """A process with its token, and a relying party that asks the verifier over its door."""

    verifier: RunningVerifier
    player: Player
    process: SimulatedProcess
    party: Party
    directory: Path

    @property
    def home(self) -> str:
        return f"http://127.0.0.1:{self.party.door.port}"

    @property
    def token(self) -> str:
        return token_of(self.player, self.process)

    @property
    def proof(self) -> str:
        return wpt.compose(
            token=self.token, audience=AUDIENCE, method="POST", url=URL, now=self.verifier.time,
            jti=bytes(16),
        ).sign(self.process.use_key)  # fmt: skip

    @property
    def secret(self) -> Path:
        return self.directory / "secret"

    @property
    def offline(self) -> list[str]:
        uri = wit.read_unverified(self.token).status.uri
        return ["--status", self.home + urlsplit(uri).path]

    @property
    def online(self) -> list[str]:
        return ["--introspect", self.home, "--name", "ledger", "--secret", str(self.secret)]

    def verify(self, *more: str) -> int:
        """Run `credential verify` on the token that the process has."""
        texts = {"token": self.token, "proof": self.proof, "secret": self.party.secret}
        for name, text in texts.items():
            (self.directory / name).write_text(text + "\n")
        return main([
            "verify", str(self.directory / "token"), str(self.directory / "proof"), "--keys",
            f"{self.home}/v1/keys", "--trust-domain", TRUST_DOMAIN, "--audience", AUDIENCE,
            "--method", "POST", "--url", URL, "--minimum", "lab", "--allow-lab",
            "--at", self.verifier.time.isoformat(), "--json", *more,
        ])  # fmt: skip

    def revoke(self) -> None:
        self.verifier.operators.credential_revoke(self.player.claims(self.process).jti)

    def gate(self, asking: Introspection, log: Callable[[str], object]) -> Gate:
        key = self.verifier.service.keys.wit
        keys = Keys.of(TRUST_DOMAIN, [(key.kid, key.point)])
        clock = self.verifier.now
        return Gate(keys=keys, require=REQUIRED, status=asking, clock=clock, log=log)

    async def ask(self, gate: Gate) -> Caller | Refusal:
        headers = ((wit.HEADER, self.token), (wpt.HEADER, self.proof))
        return await gate.admit(Request(method="POST", target="/post", headers=headers))


@pytest.fixture
def scene(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    party: Party,
    tmp_path: Path,
) -> Scene:
    return Scene(verifier, player, process, party, tmp_path)


def told_reasons(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [one["reason"] for one in json.loads(capsys.readouterr().out)["findings"]]


def test_by_list_and_by_introspection_until_it_is_revoked(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    for ways in (scene.offline, scene.online):
        assert scene.verify(*ways) == 0
    capsys.readouterr()
    scene.revoke()
    assert scene.verify(*scene.offline) == 1
    assert told_reasons(capsys) == ["token.revoked"]
    assert scene.verify(*scene.online) == 1
    assert told_reasons(capsys) == ["token.not-active"]


def test_who_is_not_the_relying_party_is_told_nothing(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """It could not tell: that is no acceptance."""
    wrong = ["--introspect", scene.home, "--name", "other", "--secret", str(scene.secret)]
    assert scene.verify(*wrong) == 3
    assert "401" in capsys.readouterr().err


def test_a_question_needs_a_name_and_a_secret(scene: Scene) -> None:
    for more in ([], ["--name", "ledger"]):
        with pytest.raises(SystemExit) as exit_:
            scene.verify("--introspect", scene.home, *more)
        assert exit_.value.code == 2


def test_a_verifier_that_is_not_there(scene: Scene, unused_tcp_port: int) -> None:
    nowhere = f"http://127.0.0.1:{unused_tcp_port}"
    assert scene.verify("--status", f"{nowhere}/v1/status/1") == 3
    assert scene.verify("--status-unchecked", "--keys", f"{nowhere}/v1/keys") == 3


def test_what_is_there_and_is_something_else(scene: Scene) -> None:
    assert scene.verify("--status", f"{scene.home}/v1/keys") == 2
    assert scene.verify("--status", f"{scene.home}/v1/status/7") == 3
    assert scene.verify("--status-unchecked", "--keys", f"{scene.home}/v1/trust-domain") == 2


async def test_a_gate_that_asks_about_each_token(scene: Scene) -> None:
    lines: list[str] = []
    place = Verifier(
        ISSUER, tls=ssl.create_default_context(), reached_at=scene.home, name="ledger",
        secret=scene.party.secret,
    )  # fmt: skip
    asking = Introspection(place, clock=scene.verifier.now)
    async with scene.gate(asking, lines.append).open():
        assert isinstance(await scene.ask(scene.gate(asking, lines.append)), Caller)
        scene.revoke()
        refused = await scene.ask(scene.gate(asking, lines.append))
        assert isinstance(refused, Refusal)
        assert refused.status == 403
    shut = await scene.ask(scene.gate(asking, lines.append))
    assert isinstance(shut, Refusal)
    assert shut.status == 503
    assert [use.read(line).reasons for line in lines] == [
        (), ("token.not-active",), ("request.not-judged",),
    ]  # fmt: skip


async def test_without_an_answer_nobody_is_let_in(scene: Scene, unused_tcp_port: int) -> None:
    lines: list[str] = []
    nowhere = f"http://127.0.0.1:{unused_tcp_port}"
    asking = Introspection(Verifier(ISSUER, tls=ssl.create_default_context(), reached_at=nowhere))
    gate = scene.gate(asking, lines.append)
    async with gate.open():
        refused = await scene.ask(gate)
    assert isinstance(refused, Refusal)
    assert refused.status == 503
    assert use.read(lines[0]).reasons == ("introspection.unanswered",)
