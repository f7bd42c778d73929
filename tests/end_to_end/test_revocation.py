"""Every cause for which a credential ends, on real kernels: within its stated time, told by both.

A machine of each kernel and the demo's world, whose node brings evidence every 2 s. The
verifier is asked as relying parties ask it: introspection and the status list have to agree. The
node's drift comes last, since nothing but a reboot cures it.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from credential import local, wit, wpt
from demo.names import ISSUER, NODE
from demo.stage import Setting, set_up
from demo.waiting import wait
from demo.world import INTERVAL_SECONDS, World
from tests.attacks.machine import (
    ATTACHED_MODE,
    AUDIENCE,
    ID,
    LAUNCHED_WORKLOAD,
    PATH,
    PUPPETS,
    SOCKET,
    WORKLOAD,
    MachinePuppet,
    granted,
    in_both_modes,
    sha256,
)
from tests.attestor.puppets import build, reasons
from tests.lateness import again_if_late, demand_within, once_only
from tests.open_doors import Door, trusting
from tests.relying_party import REVOKED, SUSPENDED, VALID, Party
from verifier.ledger import Cause
from verifier.policy import ReferenceSet
from verifier.reference import encode_reference

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(400), again_if_late]

EXIT_SECONDS = 1.0
EXEC_SECONDS = 2.0
DRIFT_SECONDS = INTERVAL_SECONDS + 1.0
"""The evidence that shows it, and the time in which that is collected, sent and judged."""
AT_ONCE_SECONDS = 1.0
SUSPEND_AFTER, LATE_AFTER = 5, 10
SILENCE_SECONDS = SUSPEND_AFTER * INTERVAL_SECONDS + 2.0
"""A sweep every second, and times in whole ones."""
TOO_OLD_SECONDS = LATE_AFTER * INTERVAL_SECONDS + 2.0
PATIENCE_SECONDS = 60

ACCESS = "the access"
ROOT = "root on the node"

SIGNAL_ATTESTOR = """\
for one in /proc/[0-9]*; do
    case $(tr '\\0' ' ' <$one/cmdline) in *"attestor serve "*) kill -%s ${one#/proc/} ;; esac
done
"""


@dataclass
class Scene:
    """The machine, and a relying party of the puppet's audience."""

    world: World
    party: Party
    program: bytes

    def put(self, kind: str, text: str) -> None:
        """Have an operator put a document."""
        document = self.world.directory / f"puppet-{kind}.toml"
        document.write_text(text)
        self.world.operator(kind, "put", str(document))

    def put_policy(self, *, workload: str = WORKLOAD) -> None:
        """What the verifier accepts when nothing is wrong."""
        known = ReferenceSet(name="puppet", files={"usr/bin/puppet": (sha256(self.program),)})
        self.put("reference", encode_reference(known))
        self.put("workload", LAUNCHED_WORKLOAD)
        self.put("workload", workload)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Stop the attestor, whatever it is doing, for the time of the block."""
        self.world.machine.run(SIGNAL_ATTESTOR % "STOP").check()
        try:
            yield
        finally:
            self.world.machine.run(SIGNAL_ATTESTOR % "CONT").check()

    def seconds_until(self, token: str, state: str) -> float:
        """Return how long it takes until the verifier says so, in both ways."""
        started = time.monotonic()
        while (found := self.party.state(token)) != state:
            waited = time.monotonic() - started
            assert waited < PATIENCE_SECONDS, f"{found} for {waited:.0f} s, not {state}"
            time.sleep(0.02)
        return time.monotonic() - started

    def cause(self, token: str) -> str:
        jti = wit.read_unverified(token).jti
        found = self.world.operator("credential", "list", "--all")
        return next(str(one["cause"]) for one in found if one["jti"] == jti)

    def demand_end(
        self, token: str, happens: Callable[[], object], *, seconds: float, cause: Cause
    ) -> None:
        """Let something happen, after which the token has to be revoked in time, for this cause."""
        assert self.seconds_until(token, VALID) < PATIENCE_SECONDS
        happens()  # how long the test takes to make it happen says nothing of the verifier
        waited = self.seconds_until(token, REVOKED)
        assert self.cause(token) == cause
        demand_within(seconds, waited)


@pytest.fixture(scope="module", params=["6.12", "6.1"])
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    program = build(tmp_path_factory.mktemp("programs") / "puppet").read_bytes()
    options: dict[str, str | int] = {
        "interval": f"{INTERVAL_SECONDS}s", "suspend_after": SUSPEND_AFTER,
        "late_after": LATE_AFTER,
    }  # fmt: skip
    with set_up(Setting(kernel=request.param, options=options)) as world:
        tls = trusting(world.config.parent / "ca.pem")
        tls.check_hostname = False  # the certificate is for verifier.lab
        told = world.operator("relying-party", "add", "ledger", AUDIENCE, "--may-revoke")
        party = Party(Door(world.verifier_port, tls), "ledger", told["secret"])
        scene = Scene(world, party, program)
        scene.put_policy()
        world.machine.put(PATH, program, mode=0o755)
        yield scene


@pytest.fixture(params=[ATTACHED_MODE])
def binding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def puppet(scene: Scene, binding: str) -> Iterator[MachinePuppet]:
    with PUPPETS[binding](scene.world) as one:
        yield one


@pytest.fixture
def token(puppet: MachinePuppet) -> str:
    return granted(puppet.obtain(SOCKET, ID)).token


@in_both_modes
@pytest.mark.attack(number=102, attacker="time", asset=ACCESS, outcome="detected")
def test_exit(scene: Scene, puppet: MachinePuppet, token: str) -> None:
    scene.demand_end(token, puppet.end, seconds=EXIT_SECONDS, cause=Cause.EXITED)


def test_hanging_up(scene: Scene, puppet: MachinePuppet, token: str) -> None:
    """Nobody can use the credential any more."""
    scene.demand_end(token, lambda: puppet.tell("close"), seconds=EXIT_SECONDS, cause=Cause.EXITED)


@in_both_modes
@pytest.mark.attack(number=102, attacker="time", asset=ACCESS, outcome="detected")
def test_exec(scene: Scene, puppet: MachinePuppet, token: str) -> None:
    """The kernel tells nobody; the attestor looks after memories twice a second."""
    scene.demand_end(
        token, lambda: puppet.tell(f"exec {PATH}"), seconds=EXEC_SECONDS, cause=Cause.EXECUTED
    )


@in_both_modes
@pytest.mark.attack(number=102, attacker="time", asset=ACCESS, outcome="detected")
def test_drift_of_the_process(scene: Scene, puppet: MachinePuppet, token: str) -> None:
    """Its text is no longer its file's."""
    scene.demand_end(token, lambda: puppet.tell("poke"), seconds=DRIFT_SECONDS, cause=Cause.REFUSED)


def test_an_operator(scene: Scene, token: str) -> None:
    jti = wit.read_unverified(token).jti
    scene.demand_end(
        token,
        lambda: scene.world.operator("credential", "revoke", jti),
        seconds=AT_ONCE_SECONDS,
        cause=Cause.OPERATOR,
    )


def test_a_relying_party(scene: Scene, token: str) -> None:
    scene.demand_end(
        token,
        lambda: scene.party.post("/v1/revoke", {"token": token}),
        seconds=AT_ONCE_SECONDS,
        cause=Cause.RELYING_PARTY,
    )


def test_credential_verify_offline_and_by_introspection(
    scene: Scene, puppet: MachinePuppet, token: str, tmp_path: Path
) -> None:
    """The command says what both say: let in while it is valid, refused once it is revoked."""
    check = CredentialVerify(scene, tmp_path)
    for way in ("offline", "introspection"):
        assert check(puppet, way) == (0, [])
    scene.world.operator("credential", "revoke", wit.read_unverified(token).jti)
    assert check(puppet, "offline", check.last) == (1, ["token.revoked"])
    assert check(puppet, "introspection", check.last) == (1, ["token.not-active"])


RELYING_PARTY = """
import asyncio, json, sys
from credential import Caller
from credential.servers.configuration import load_gate
from credential.servers.gate import Request

async def main():
    gate = load_gate("gate.toml")
    headers = tuple(map(tuple, json.loads(sys.stdin.readline())))
    request = Request(method="POST", target="/post", headers=headers)
    async with gate.open():
        caller, refusal = [await gate.admit(request) for _ in range(2)]
        assert isinstance(caller, Caller), caller
        reasons = [one["reason"] for one in json.loads(refusal.body)["findings"]]
        print(json.dumps([caller.id, caller.node, caller.jti, caller.use, reasons]), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def test_a_real_processs_request_and_its_replay_are_in_the_ledger(
    scene: Scene, puppet: MachinePuppet, token: str, tmp_path: Path
) -> None:
    """A relying party as an operator describes it, which fetches lists and reports."""
    made = puppet.prove(AUDIENCE)
    assert isinstance(made, local.Proof)
    describe_gate(scene, tmp_path)
    command = [sys.executable, "-c", RELYING_PARTY]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as party:
        assert party.stdin is not None
        assert party.stdout is not None
        headers = [(wit.HEADER, made.token), (wpt.HEADER, made.proof)]
        print(json.dumps(headers), file=party.stdin, flush=True)
        *who, use, refused = json.loads(party.stdout.readline())
        uses = wait(
            lambda: both(scene.world.operator("ledger", "uses", "--of", ID)),
            PATIENCE_SECONDS,
            "both in the ledger",
        )
        party.stdin.close()
    assert party.returncode == 0
    jti = wit.read_unverified(made.token).jti
    assert token
    assert (who, refused) == ([ID, NODE, jti], ["proof.replayed"])
    assert [(one["verdict"], one["reasons"]) for one in uses] == [
        ("accepted", []), ("refused", refused),
    ]  # fmt: skip
    assert uses[0]["id"] == use
    assert {(one["jti"], one["node"], one["is_ours"]) for one in uses} == {(jti, NODE, True)}


def both(uses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return uses if len(uses) > 1 else []


def describe_gate(scene: Scene, directory: Path) -> None:
    """Write what a relying party of the scene's audience needs."""
    (directory / "keys.json").write_bytes(scene.party.door.request("GET", "/v1/keys")[1])
    (directory / "secret").write_text(scene.party.secret)
    options = {
        "verifier": ISSUER, "reached_at": f"https://127.0.0.1:{scene.world.verifier_port}",
        "ca": str(scene.world.config.parent / "ca.pem"), "trust_domain": "example.org",
        "keys": "keys.json", "audience": AUDIENCE, "minimum": "lab", "allow_lab": True,
        "report": True, "spool": "uses.sqlite", "name": "ledger", "secret": "secret",
    }  # fmt: skip
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in options.items()]
    (directory / "gate.toml").write_text("".join(lines))


class CredentialVerify:
    """The program `credential`, on the files of one request of the puppet's."""

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.home = f"https://127.0.0.1:{scene.world.verifier_port}"
        self.ca = scene.world.config.parent / "ca.pem"
        self.party = scene.party
        self.directory = directory
        self.last: tuple[str, str] = ("", "")
        """Token and proof."""

    def __call__(
        self, puppet: MachinePuppet, way: str, request: tuple[str, str] | None = None
    ) -> tuple[int, list[str]]:
        """Return exit status and reasons, of a new proof unless a request is given."""
        self.last = request or self.prove(puppet)
        keys = self.party.door.request("GET", "/v1/keys")[1].decode()
        listed = wit.read_unverified(self.last[0]).status.uri
        status = self.party.door.request("GET", urlsplit(listed).path)[1].decode()
        texts = (*self.last, keys, status, self.party.secret)
        names = ("token", "proof", "keys", "status", "secret")
        files = {name: str(self.directory / name) for name in names}
        for name, text in zip(names, texts, strict=True):
            Path(files[name]).write_text(f"{text}\n")
        ways = {
            "offline": ["--status", files["status"]],
            "introspection": [
                "--introspect", self.home, "--ca", str(self.ca), "--name", "ledger", "--secret",
                files["secret"],
            ],
        }  # fmt: skip
        program = Path(sys.executable).parent / "credential"
        done = subprocess.run(
            [
                program, "verify", files["token"], files["proof"], "--keys", files["keys"],
                "--trust-domain", "example.org", "--audience", AUDIENCE, "--method", "POST",
                "--url", f"{AUDIENCE}/post", "--minimum", "lab", "--allow-lab", "--json",
                *ways[way],
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        told = json.loads(done.stdout)
        return done.returncode, [one["reason"] for one in told.get("findings", [])]

    def prove(self, puppet: MachinePuppet) -> tuple[str, str]:
        proof = puppet.prove(AUDIENCE)
        assert isinstance(proof, local.Proof)
        return proof.token, proof.proof


def test_a_withdrawn_reference_value(scene: Scene, token: str) -> None:
    other = ReferenceSet(name="puppet", files={"usr/bin/puppet": (sha256(b"another"),)})
    scene.demand_end(
        token,
        lambda: scene.put("reference", encode_reference(other)),
        seconds=AT_ONCE_SECONDS,
        cause=Cause.REFERENCE_WITHDRAWN,
    )
    scene.put_policy()
    wait_for_acceptance(scene)


def wait_for_acceptance(scene: Scene) -> None:
    """Wait until the node is accepted again: while the puppet was unknown, it was not."""
    wait(
        lambda: any(one["accepted"] for one in scene.world.nodes()),
        PATIENCE_SECONDS,
        "the node to be accepted",
    )


def test_a_changed_workload(scene: Scene, token: str) -> None:
    scene.demand_end(
        token,
        lambda: scene.put_policy(workload=WORKLOAD.replace('["post"]', '["read"]')),
        seconds=AT_ONCE_SECONDS,
        cause=Cause.WORKLOAD_CHANGED,
    )
    scene.put_policy()


def test_a_removed_workload(scene: Scene, token: str) -> None:
    scene.demand_end(
        token,
        lambda: scene.world.operator("workload", "remove", ID),
        seconds=AT_ONCE_SECONDS,
        cause=Cause.WORKLOAD_REMOVED,
    )
    scene.put_policy()


def test_a_report_of_misuse(scene: Scene, puppet: MachinePuppet) -> None:
    scene.put_policy(workload=WORKLOAD.replace("[[use]]", 'on_misuse = "revoke"\n[[use]]'))
    token = granted(puppet.obtain(SOCKET, ID)).token
    scene.demand_end(
        token,
        lambda: scene.party.post("/v1/misuse", {"token": token, "misuse": "proof.missing"}),
        seconds=AT_ONCE_SECONDS,
        cause=Cause.MISUSED,
    )
    scene.put_policy()


@in_both_modes
@pytest.mark.attack(number=129, attacker=ROOT, asset=ACCESS, outcome="detected")
def test_silence(scene: Scene, puppet: MachinePuppet, token: str) -> None:
    """Suspended; given back when the node speaks again; revoked when it does not."""
    scene.seconds_until(token, VALID)
    with scene.silence():
        suspended = scene.seconds_until(token, SUSPENDED)
        assert scene.cause(token) == Cause.LATE
    scene.seconds_until(token, VALID)
    with scene.silence():
        revoked = scene.seconds_until(token, REVOKED)
        assert scene.cause(token) == Cause.TOO_OLD
    wait(lambda: not holds(scene), PATIENCE_SECONDS, "the attestor to forget the keys")
    assert reasons(puppet.prove(AUDIENCE))
    demand_within(SILENCE_SECONDS, suspended)
    demand_within(TOO_OLD_SECONDS, revoked)


def holds(scene: Scene) -> bool:
    """Say whether the attestor holds a credential of the puppet's user."""
    told = scene.world.machine.run("attestor status --json", user="payments", timeout=60)
    return bool(json.loads(told.output)["yours"])


def test_the_status_that_the_attestor_shows(scene: Scene, puppet: MachinePuppet) -> None:
    granted(puppet.obtain(SOCKET, ID))
    told = scene.world.machine.run("attestor status", user="payments", timeout=60).output
    assert NODE in told
    for word in ("last answer 20", "next ", "lease ", "quote ", "certify_creation "):
        assert word in told, told


@once_only
def test_z_drift_of_the_node(scene: Scene, token: str) -> None:
    """An unknown program runs as root."""
    scene.world.machine.run("cp /usr/bin/true /root/unknown && echo >>/root/unknown").check()
    scene.demand_end(
        token,
        lambda: scene.world.machine.run("/root/unknown").check(),
        seconds=DRIFT_SECONDS,
        cause=Cause.NODE_REFUSED,
    )
