"""Where, when and what for, on a real kernel: each condition that fails, and what opens and closes.

One machine as a distribution's kernel boots it, so that every posture is missing, and one program
that is many workloads. Times are the verifier's own: a window closes at the full minute.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from credential import Malformed, Refused, Seen, check, local, wit
from demo.names import NODE
from demo.stage import Setting, set_up
from demo.world import World
from tests.attacks.machine import (
    AUDIENCE,
    ID,
    PATH,
    SOCKET,
    MachinePuppet,
    granted,
    sha256,
    until_refused,
    workload,
)
from tests.attestor.puppets import build, reasons
from tests.lateness import again_if_late, demand_within
from tests.open_doors import Door, trusting
from tests.relying_party import REVOKED, VALID, Party
from verifier.ledger import Cause
from verifier.policy import ReferenceSet
from verifier.posture import DEMANDS
from verifier.reference import encode_reference

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(600), again_if_late]

PROCESS, SIBLING, AGENT = (
    "the process itself", "a sibling process", "another program of the same user",
)  # fmt: skip
ACCESS, IDENTITY, CREDENTIAL = "the access", "the identity", "the credential"
OTHER = "https://archive.example.org"
AT_ONCE_SECONDS = 1.0
SWEEP_SECONDS = 2.5
"""A sweep every second, times in whole ones, and what a busy machine takes to answer."""
PATIENCE_SECONDS = 150
OBTAIN_SECONDS = 50
"""More than an emulated machine takes for a credential: a window this short cannot be met."""
OUT_OF_TREE = 1 << 12


@dataclass
class Scene:
    """The machine, and a relying party of the puppet's audience."""

    world: World
    party: Party

    def put(self, name: str, *lines: str, uses: str = "") -> str:
        """Have an operator put a workload of the puppet with these lines; return its id."""
        id_ = f"{ID}-{name}"
        text = workload(id_, PATH)
        text = text.replace("canary = ", "\n".join((*lines, "canary = ")), 1)
        head, usual = text.split("[[use]]")
        document = self.world.directory / f"{name}.toml"
        document.write_text(head + (uses or f"[[use]]{usual}"))
        self.world.operator("workload", "put", str(document))
        return id_

    def grants(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.world.operator("grant", "list")
        return found

    def rows(self, kind: str) -> list[dict[str, Any]]:
        rows = self.world.operator("ledger", "tail", "-n", "1000")
        return [row["body"] for row in rows if row["kind"] == kind]

    def cause(self, token: str) -> str:
        jti = wit.read_unverified(token).jti
        found = self.world.operator("credential", "list", "--all")
        return next(str(one["cause"]) for one in found if one["jti"] == jti)

    def seconds_until_revoked(self, token: str) -> float:
        started = time.monotonic()
        while (found := self.party.state(token)) != REVOKED:
            waited = time.monotonic() - started
            assert waited < PATIENCE_SECONDS, f"{found} for {waited:.0f} s"
            time.sleep(0.05)
        return time.monotonic() - started

    def check(self, proof: local.Proof, token: str = "", **require: Any) -> list[str]:  # noqa: ANN401
        """Return why a relying party refuses the request; nothing where it lets it in."""
        token = token or proof.token
        found = self.party.list_of(token)
        try:
            check(
                token,
                proof.proof,
                keys=self.party.keys,
                audience=AUDIENCE,
                minimum="lab",
                allow_lab=True,
                **require,
                method="POST",
                url=f"{AUDIENCE}/post",
                now=datetime.now(UTC),
                seen=Seen(),
                status={found.uri: found},
            )
        except (Refused, Malformed) as refused:
            return [str(one.reason) for one in refused.findings]
        return []


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    program = build(tmp_path_factory.mktemp("programs") / "puppet").read_bytes()
    with set_up(Setting(kernel="6.12", interval_seconds=10)) as world:
        tls = trusting(world.config.parent / "ca.pem")
        tls.check_hostname = False  # the certificate is for verifier.lab
        told = world.operator("relying-party", "add", "ledger", AUDIENCE)
        scene = Scene(world, Party(Door(world.verifier_port, tls), "ledger", told["secret"]))
        known = ReferenceSet(name="puppet", files={"usr/bin/puppet": (sha256(program),)})
        document = world.directory / "puppet.toml"
        document.write_text(encode_reference(known))
        world.operator("reference", "put", str(document))
        world.machine.put(PATH, program, mode=0o755)
        yield scene


@pytest.fixture
def puppet(scene: Scene) -> Iterator[MachinePuppet]:
    with MachinePuppet(scene.world) as one:
        yield one


def why(answer: local.Message | None) -> Mapping[str, str]:
    """Return the one reason of a refusal, and what it says."""
    assert isinstance(answer, local.Refusal), answer
    [finding] = answer.findings
    return {"reason": finding.reason, "expected": finding.expected, "found": finding.found}


def proof_of(puppet: MachinePuppet) -> local.Proof:
    answer = puppet.prove(AUDIENCE)
    assert isinstance(answer, local.Proof), answer
    return answer


def use(*scopes: str, more: str = "", audience: str = AUDIENCE) -> str:
    listed = ", ".join(f'"{one}"' for one in scopes)
    return f'[[use]]\naudience = "{audience}"\nscopes = [{listed}]\n{more}\n'


# Posture


@pytest.mark.attack(number=118, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.parametrize("word", [word for word in DEMANDS if word != "untainted"])
def test_118_a_kernel_that_is_not_set_as_demanded(
    scene: Scene, puppet: MachinePuppet, word: str
) -> None:
    id_ = scene.put(word, f'posture = ["{word}"]')
    assert why(puppet.obtain(SOCKET, id_))["reason"] == "process.posture-not-as-demanded"


@pytest.mark.attack(number=118, attacker=PROCESS, asset=CREDENTIAL)
def test_118_a_kernel_that_is_tainted_later(scene: Scene, puppet: MachinePuppet) -> None:
    """The credential that it had before ends too. A flag stays until the machine reboots."""
    id_ = scene.put("untainted", 'posture = ["untainted"]')
    token = granted(puppet.obtain(SOCKET, id_)).token
    scene.world.machine.run(f"echo {OUT_OF_TREE} >/proc/sys/kernel/tainted").check()
    scene.seconds_until_revoked(token)
    assert scene.cause(token) == Cause.REFUSED
    assert why(puppet.obtain(SOCKET, id_))["found"] == "flags 12"


# Place


@pytest.mark.attack(number=118, attacker="another node", asset=IDENTITY)
def test_118_the_label_of_its_node(scene: Scene, puppet: MachinePuppet) -> None:
    """Refused without it; granted with it; revoked at once when it is taken away."""
    scene.world.operator("node", "label", NODE, "zone=", "rack=")
    id_ = scene.put("labelled", 'nodes = { zone = "eu-1" }')
    answer = why(puppet.obtain(SOCKET, id_))
    assert answer["reason"] == "process.node-labels-not-the-workloads"
    assert (answer["expected"], answer["found"]) == ("zone=eu-1", "no zone")
    scene.world.operator("node", "label", NODE, "zone=eu-1", "rack=7")
    token = granted(puppet.obtain(SOCKET, id_)).token
    assert wit.read_unverified(token).procseal.labels == {"zone": "eu-1", "rack": "7"}
    assert scene.check(proof_of(puppet), labels=("zone=eu-1",)) == []
    assert scene.check(proof_of(puppet), labels=("zone=eu-2",)) == ["token.label-missing"]
    scene.world.operator("node", "label", NODE, "zone=eu-2", "rack=", "--reason", "moved")
    waited = scene.seconds_until_revoked(token)
    assert scene.cause(token) == Cause.LABELS_CHANGED
    demand_within(AT_ONCE_SECONDS, waited)
    assert scene.rows("node.labelled")[-1]["reason"] == "moved"


@pytest.mark.attack(number=118, attacker="another node", asset=IDENTITY)
def test_118_the_network_of_its_node(scene: Scene, puppet: MachinePuppet) -> None:
    """The recorder stands between them: its address is the one that counts."""
    id_ = scene.put("elsewhere", 'network = ["10.1.0.0/16"]')
    answer = why(puppet.obtain(SOCKET, id_))
    assert answer["reason"] == "process.network-not-the-workloads"
    assert (answer["expected"], answer["found"]) == ("10.1.0.0/16", "127.0.0.1")
    here = scene.put("here", 'network = ["127.0.0.0/8"]')
    granted(puppet.obtain(SOCKET, here))


# Purpose


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_outside_its_audience_and_its_scope(scene: Scene, puppet: MachinePuppet) -> None:
    uses = use("post", "read") + use("read", audience=OTHER)
    id_ = scene.put("uses", uses=uses)
    for wanted, reason in (
        ({"audience": "https://x.example.org"}, "use.audience-not-the-workloads"),
        ({"audience": OTHER, "scope": ("post",)}, "use.scope-not-the-workloads"),
        ({}, "use.more-than-one"),
    ):
        assert why(puppet.obtain(SOCKET, id_, **wanted))["reason"] == reason
    granted(puppet.obtain(SOCKET, id_, audience=AUDIENCE, scope=("read",)))
    assert reasons(puppet.prove(OTHER)) == ["local.audience-not-allowed"]
    proof = proof_of(puppet)
    assert scene.check(proof, scopes=("read",)) == []
    assert scene.check(proof, scopes=("post",)) == ["token.scope-missing"]


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_a_window_that_opens_and_closes(scene: Scene, puppet: MachinePuppet) -> None:
    """Refused before, granted in it, and nothing left of it a second after."""
    opens = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    if opens - datetime.now(UTC) < timedelta(seconds=OBTAIN_SECONDS):
        opens += timedelta(minutes=1)
    closes = opens + timedelta(minutes=1)
    window = f"{opens:%H:%M}-{closes:%H:%M} UTC".replace("-00:00", "-24:00")
    id_ = scene.put("window", uses=use("post", more=f'window = "{window}"'))
    early = why(puppet.obtain(SOCKET, id_))
    assert early["reason"] == "use.outside-window"
    assert early["expected"] == f"{window}, opens {opens.isoformat()}"
    time.sleep(max(0.0, (opens - datetime.now(UTC)).total_seconds()))
    token = granted(puppet.obtain(SOCKET, id_)).token
    assert wit.read_unverified(token).expires == closes
    assert scene.check(proof_of(puppet)) == []
    assert scene.party.state(token) == VALID
    time.sleep(max(0.0, (closes - datetime.now(UTC)).total_seconds()))
    waited = scene.seconds_until_revoked(token)
    assert scene.cause(token) == Cause.WINDOW_CLOSED
    demand_within(SWEEP_SECONDS, waited)
    assert reasons(puppet.prove(AUDIENCE))
    assert why(puppet.obtain(SOCKET, id_))["reason"] == "use.outside-window"


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_a_grant_that_opens_and_closes(scene: Scene, puppet: MachinePuppet) -> None:
    """Asked for, approved, used; closed by an operator; asked for again, and over by itself."""
    id_ = scene.put("grant", uses=use("close-year", more='grant = "approval"'))
    waits = why(puppet.obtain(SOCKET, id_))
    [waiting] = scene.grants()
    assert waits["reason"] == "use.grant-missing"
    assert waits["expected"] == f"verifier grant approve {waiting['grant']}"
    assert (waiting["pid"], waiting["node"], waiting["workload"]) == (puppet.pid, NODE, id_)
    operate = scene.world.operator
    operate("grant", "approve", waiting["grant"], "--for", "10m", "--reason", "ticket 7")
    token = granted(puppet.obtain(SOCKET, id_)).token
    claims = wit.read_unverified(token).procseal
    assert (claims.grant, claims.scopes) == (waiting["grant"], ("close-year",))
    assert scene.check(proof_of(puppet), scopes=("close-year",)) == []
    operate("grant", "close", waiting["grant"], "--reason", "done")
    waited = scene.seconds_until_revoked(token)
    assert scene.cause(token) == Cause.GRANT_CLOSED
    demand_within(AT_ONCE_SECONDS, waited)
    until_refused(lambda: puppet.prove(AUDIENCE), "process.key-not-accepted-earlier")
    assert scene.rows("grant.approved")[-1]["reason"] == "ticket 7"
    assert scene.rows("grant.closed")[-1]["reason"] == "done"

    assert why(puppet.obtain(SOCKET, id_))["reason"] == "use.grant-missing"
    [again] = scene.grants()
    operate("grant", "approve", again["grant"], "--for", f"{OBTAIN_SECONDS}s")
    token = granted(puppet.obtain(SOCKET, id_)).token
    expires = wit.read_unverified(token).expires
    time.sleep(max(0.0, (expires - datetime.now(UTC)).total_seconds()))
    waited = scene.seconds_until_revoked(token)
    assert scene.cause(token) == Cause.GRANT_EXPIRED
    demand_within(SWEEP_SECONDS, waited)
    assert why(puppet.obtain(SOCKET, id_))["reason"] == "use.grant-missing"


# An agent's prompt sessions


@pytest.mark.attack(number=116, attacker=AGENT, asset=ACCESS)
def test_116_another_prompt_session_of_the_same_agent(scene: Scene, puppet: MachinePuppet) -> None:
    """Each has a token of its own: neither is good for the other, at the relying party's wish, and
    the ledger tells them apart.
    """
    id_ = scene.put("agent", 'context = ["session"]')
    assert why(puppet.obtain(SOCKET, id_))["reason"] == "use.context-not-the-workloads"
    first = granted(puppet.obtain(SOCKET, id_, context=("session=1",))).token
    with MachinePuppet(scene.world) as other:
        second = granted(other.obtain(SOCKET, id_, context=("session=2",))).token
        one, two = proof_of(puppet), proof_of(other)
        assert scene.check(one, context=("session=1",)) == []
        assert scene.check(two, context=("session=1",)) == ["token.context-missing"]
        assert scene.check(two, token=first) == ["proof.signature-invalid"]
    told = {row["jti"]: row["context"] for row in scene.rows("credential.issued")}
    sessions = [told[wit.read_unverified(token).jti] for token in (first, second)]
    assert sessions == [["session=1"], ["session=2"]]
