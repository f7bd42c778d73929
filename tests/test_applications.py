"""The application owner's page: its code, run as it stands, with a verifier and real servers."""

import asyncio
import difflib
import importlib.util
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import httpx
import pytest
from aiohttp.test_utils import TestServer

from credential import Caller, Reason, use, wit, wpt
from credential.__main__ import main as credential_main
from credential.servers.configuration import DEMANDS, Misconfigured, load_gate
from tests.credential.test_asgi import served
from tests.open_doors import open_doors, trusting
from tests.relying_party import token_of
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import AUDIENCE, SimulatedNode
from tests.simulated_process import IDENTITY, SimulatedProcess
from verifier.__main__ import main as verifier_main
from verifier.case import BOOT_POLICY
from verifier.commands import YES
from verifier.ledger import Kind

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "applications.md").read_text()
VERIFIER = "https://verifier.example.org:8443"
"""The page's: the one thing in its blocks in whose place a test puts another."""
MOST_LINES = 5
PATIENCE_SECONDS = 60

Serve = Callable[[ModuleType], AbstractAsyncContextManager[httpx.AsyncClient]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", PAGE)


GATE, INTROSPECTION, REPORT, SEEN = blocks("toml")
AIOHTTP_BEFORE, AIOHTTP, ASGI_BEFORE, ASGI = blocks("python")


@asynccontextmanager
async def serve_aiohttp(application: ModuleType) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        TestServer(application.app) as server,
        httpx.AsyncClient(base_url=str(server.make_url("/"))) as client,
    ):
        yield client


def serve_asgi(application: ModuleType) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return served(application.app)


SERVERS = [
    pytest.param(AIOHTTP, serve_aiohttp, id="aiohttp"),
    pytest.param(ASGI, serve_asgi, id="ASGI"),
]


@dataclass
class Site:
    """A verifier behind TLS, a process with a token of level L2, and an application's files."""

    verifier: RunningVerifier
    player: Player
    process: SimulatedProcess
    directory: Path

    @property
    def token(self) -> str:
        return token_of(self.player, self.process)

    def headers(self) -> dict[str, str]:
        """A request's, with a proof of now."""
        proof = wpt.compose(
            token=self.token, audience=AUDIENCE, method="POST", url=f"{AUDIENCE}/post",
            now=datetime.now(UTC), jti=uuid4().bytes,
        ).sign(self.process.use_key)  # fmt: skip
        return {wit.HEADER: self.token, wpt.HEADER: proof}

    def configure(self, *parts: str) -> Path:
        path = self.directory / "gate.toml"
        path.write_text("".join(parts).replace(VERIFIER, self.verifier.config.issuer))
        return path

    def load(self, code: str) -> ModuleType:
        """Run an application's code."""
        path = self.directory / "application.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location("application", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.fixture
def site(tmp_path: Path, unused_tcp_port: int) -> Iterator[Site]:
    home, directory = tmp_path / "home", tmp_path / "application"
    directory.mkdir()
    arguments = ["--host", "localhost", "--port", "0", "--quiet"]
    assert verifier_main(["init", str(home), *arguments]) == YES
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(home / "server.pem", home / "server.key")
    (directory / "ca.pem").write_bytes((home / "ca.pem").read_bytes())
    verifier = RunningVerifier(tmp_path, issuer=f"https://localhost:{unused_tcp_port}")
    verifier.time = datetime.now(UTC)
    node = SimulatedNode(needs_canary=True)  # or its level is lab
    verifier.trust(node)
    verifier.operators.put(BOOT_POLICY, node.boot_policy_toml())
    player = Player(node, verifier.service)
    player.enrol()
    player.attest()
    process = node.new_process()
    player.attest([process])
    told = verifier.operators.relying_party_add("ledger", AUDIENCE)
    (directory / "secret").write_text(told["secret"] + "\n")
    doors = partial(open_doors, server=server, client=trusting(home / "ca.pem"))
    with doors(verifier.service, port=unused_tcp_port) as door:
        (directory / "keys.json").write_bytes(door.request("GET", "/v1/keys")[1])
        yield Site(verifier, player, process, directory)
    verifier.close()


@pytest.mark.parametrize(
    ("before", "after"), [(AIOHTTP_BEFORE, AIOHTTP), (ASGI_BEFORE, ASGI)], ids=["aiohttp", "ASGI"]
)
def test_adding_the_check_takes_five_lines_at_most(before: str, after: str) -> None:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    added = [line for line in lines if line.startswith("+ ") and line[2:].strip()]
    assert 0 < len(added) <= MOST_LINES, added


@pytest.mark.parametrize(("code", "serve"), SERVERS)
async def test_the_code_lets_in_who_is_proven_and_nobody_else(
    site: Site, code: str, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    site.configure(GATE)
    async with serve(site.load(code)) as client:
        answer = await client.post("/post", headers=site.headers())
        assert (answer.status_code, answer.json()) == (200, {"hello": IDENTITY})
        refused = await client.post("/post")
        assert refused.status_code == 403
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [use.read(line).reasons for line in lines] == [(), ("token.missing",)]


@pytest.mark.parametrize(("code", "serve"), SERVERS)
async def test_the_code_asks_by_introspection(site: Site, code: str, serve: Serve) -> None:
    site.configure(GATE, INTROSPECTION)
    async with serve(site.load(code)) as client:
        assert (await client.post("/post", headers=site.headers())).status_code == 200
        site.verifier.operators.credential_revoke(site.player.claims(site.process).jti)
        refused = await client.post("/post", headers=site.headers())
        assert [one["reason"] for one in refused.json()["findings"]] == ["token.not-active"]


@pytest.mark.parametrize(("code", "serve"), SERVERS)
async def test_the_code_reports(
    site: Site, code: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("credential.servers.reports.GATHER_SECONDS", 0.05)
    site.configure(GATE, REPORT)
    async with serve(site.load(code)) as client:
        assert (await client.post("/post", headers=site.headers())).status_code == 200
    async with serve(site.load(code)) as client:  # what the first one did not send, the next does
        assert (await client.post("/post", headers=site.headers())).status_code == 200
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(kinds := [kind for kind in site.verifier.kinds() if "use." in kind]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert kinds == [Kind.USE_ACCEPTED] * 2


def test_the_application_gets_what_the_page_says() -> None:
    [listed] = re.findall(r"(?s)`credential.Caller`: (.*?)the id\nof the request's log line", PAGE)
    assert set(re.findall(r"`(\w+)`", listed)) == {field.name for field in fields(Caller)}


def test_each_demand_is_on_the_page() -> None:
    rows = re.findall(r"(?m)^\| `(\w+) = .*?\| `--([a-z-]+).*?\|(.*)\|$", PAGE)
    assert sorted(name for name, _, _ in rows) == sorted(DEMANDS)
    reasons = {reason for _, _, told in rows for reason in re.findall(r"`([a-z.-]+)`", told)}
    assert reasons <= set(Reason)


@pytest.mark.parametrize("name", DEMANDS)
def test_each_demand_is_an_option_as_the_page_has_it(site: Site, name: str) -> None:
    [line] = re.findall(rf"(?m)^\| `({name} = .*?)`", PAGE)
    others = [one for one in GATE.splitlines(keepends=True) if not one.startswith(name)]
    load_gate(site.configure(*others, f"{line.replace('…', 'ab' * 32)}\n"))


def test_each_demand_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        credential_main(["verify", "--help"])
    told = capsys.readouterr().out
    for flag in re.findall(r"(?m)^\| `\w+ = .*?\| `(--[a-z-]+)", PAGE):
        assert flag in told


# What a gate's file may say


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param("mininum = 1\n", "unknown option mininum", id="unknown"),
        pytest.param('report = "yes"\n', "report: expected true", id="a text for a flag"),
        pytest.param("report = true\n", "report: expected name and secret", id="no secret"),
        pytest.param(
            'report = true\nname = "ledger"\nsecret = "secret"\n', "report: expected a spool",
            id="no spool",
        ),
        pytest.param('status = "introspection"\n', "status: expected name", id="no name"),
        pytest.param('status = ""\n', "status: expected one of", id="another status"),
        pytest.param('binding = "started"\n', "binding: expected one of", id="another binding"),
        pytest.param("binding = 1\n", "binding: expected a text", id="a number"),
        pytest.param('labels = "zone=a"\n', "labels: expected an array", id="no array"),
        pytest.param("labels = []\n", "labels: expected a tuple of at least one", id="no label"),
        pytest.param('max_evidence_age = "soon"\n', "expected a duration", id="no duration"),
        pytest.param('url = "ledger"\n', "expected an absolute http", id="no URL"),
        pytest.param("=\n", "Invalid", id="no TOML"),
    ],
)  # fmt: skip
def test_a_file_that_nobody_can_mean(site: Site, more: str, said: str) -> None:
    path = site.configure(GATE, more)
    with pytest.raises(Misconfigured, match=re.escape(said)) as refused:
        load_gate(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("name", ["verifier", "trust_domain", "keys", "audience", "minimum"])
def test_what_has_to_be_said(site: Site, name: str) -> None:
    lines = [line for line in GATE.splitlines(keepends=True) if not line.startswith(name)]
    with pytest.raises(Misconfigured, match=f"missing: {name}"):
        load_gate(site.configure(*lines))


@pytest.mark.parametrize("name", ["keys.json", "ca.pem"])
def test_a_file_that_is_not_there(site: Site, name: str) -> None:
    (site.directory / name).unlink()
    with pytest.raises(OSError, match="No such file"):
        load_gate(site.configure(GATE))


def test_keys_that_are_none(site: Site) -> None:
    (site.directory / "keys.json").write_text(json.dumps({"keys": []}))
    with pytest.raises(Misconfigured, match=r"keys\.malformed"):
        load_gate(site.configure(GATE))
