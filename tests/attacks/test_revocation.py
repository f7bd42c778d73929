"""A credential after its time, in the hands of somebody who would go on using it.

The relying party is real (`credential.check`, with the list that it fetches), and so is the
verifier behind its door; the attestor is one that goes on signing, as a lying one would.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from credential import Refused, Seen, check, wpt
from credential.check import SKEW
from tests.relying_party import REVOKED, SUSPENDED, Party, token_of
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_process import IDENTITY, SimulatedProcess
from verifier import Reason, Rejected
from verifier.case import WORKLOAD
from verifier.ledger import Cause

AUDIENCE = "https://ledger.example.org"
URL = f"{AUDIENCE}/post"
REQUIRED: dict[str, Any] = {"audience": AUDIENCE, "minimum": "lab", "allow_lab": True}

ACCESS = "the access"
CREDENTIAL = "the credential"
ROOT = "root on the node"


@dataclass
class Scene:
    """A process with a credential, and a relying party of its audience."""

    verifier: RunningVerifier
    player: Player
    process: SimulatedProcess
    party: Party
    token: str

    def prove(self) -> str:
        """A proof of now, by the key that the token names: its holder makes one any time."""
        return wpt.compose(
            token=self.token, audience=AUDIENCE, method="POST", url=URL, now=self.verifier.time,
            jti=bytes(16),
        ).sign(self.process.use_key)  # fmt: skip

    def ask(self, proof: str, **changes: Any) -> list[str]:  # noqa: ANN401
        """Return why the relying party refuses the request; nothing where it lets it in.

        Its list is the newest, unless `status` is another one.
        """
        found = self.party.list_of(self.token)
        given = {"status": {found.uri: found}, **changes}
        try:
            check(
                self.token, proof, keys=self.party.keys, **REQUIRED, method="POST", url=URL,
                now=self.verifier.time, seen=Seen(), **given,
            )  # fmt: skip
        except Refused as refused:
            return [str(one.reason) for one in refused.findings]
        return []

    @property
    def state(self) -> str:
        return self.party.state(self.token)


@pytest.fixture
def scene(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> Scene:
    return Scene(verifier, player, process, party, token_of(player, process))


def process_exits(scene: Scene) -> None:
    scene.player.door.gone(scene.player.node.gone(scene.process))


def process_executes(scene: Scene) -> None:
    scene.player.door.gone(scene.player.node.gone(scene.process, str(Cause.EXECUTED)))


def process_drifts(scene: Scene) -> None:
    scene.player.processes = [scene.process.looking(anonymous_executable=4096)]
    scene.player.attest()


def node_drifts(scene: Scene) -> None:
    scene.player.node.measure("usr/bin/odd", b"odd")
    with pytest.raises(Rejected):
        scene.player.attest()


def operator_revokes(scene: Scene) -> None:
    scene.verifier.operators.credential_revoke(scene.player.claims(scene.process).jti)


def operator_removes_the_workload(scene: Scene) -> None:
    scene.verifier.operators.remove(WORKLOAD, IDENTITY)


HAPPENS = (
    process_exits, process_executes, process_drifts, node_drifts, operator_revokes,
    operator_removes_the_workload,
)  # fmt: skip
Happens = Callable[[Scene], None]
every_cause = pytest.mark.parametrize("happens", HAPPENS, ids=lambda one: one.__name__)


@pytest.mark.attack(number=102, attacker=ROOT, asset=ACCESS)
@every_cause
def test_102_the_end_comes_between_mint_and_use(scene: Scene, happens: Happens) -> None:
    """The attestor signs all the same; nobody believes it any more."""
    assert scene.ask(scene.prove()) == []
    happens(scene)
    scene.verifier.wait(1)
    assert scene.ask(scene.prove()) == ["token.revoked"]


@pytest.mark.attack(number=102, attacker=ROOT, asset=ACCESS)
@every_cause
def test_102_the_end_comes_between_use_and_check(scene: Scene, happens: Happens) -> None:
    """The request was under way: its proof was made when all was well."""
    proof = scene.prove()
    happens(scene)
    assert scene.ask(proof) == ["token.revoked"]


@pytest.mark.attack(number=102, attacker="the network", asset=ACCESS)
def test_102_whoever_keeps_newer_lists_from_the_relying_party(scene: Scene) -> None:
    """The old list serves for five minutes, and no longer: that is what a cut costs."""
    found = scene.party.list_of(scene.token)
    old = {found.uri: found}
    process_exits(scene)
    scene.verifier.wait(300)
    assert scene.ask(scene.prove(), status=old) == []
    scene.verifier.wait(1)
    assert scene.ask(scene.prove(), status=old) == ["status.list-too-old"]
    assert scene.ask(scene.prove(), status={}) == ["status.list-missing"]


@pytest.mark.attack(number=85, attacker="whoever copied the token", asset=CREDENTIAL)
@every_cause
def test_85_a_token_after_its_revocation(scene: Scene, happens: Happens) -> None:
    """Introspection and the list say so from then on, whatever its own times say."""
    happens(scene)
    assert scene.state == REVOKED
    scene.verifier.wait(60)
    assert scene.state == REVOKED
    assert scene.ask(scene.prove()) == ["token.revoked"]


@pytest.mark.attack(number=85, attacker="the process itself", asset=CREDENTIAL)
def test_85_no_renewal_after_a_revocation(scene: Scene) -> None:
    operator_revokes(scene)
    (outcome,) = scene.player.attest().outcomes
    assert not outcome.grant
    assert {one.reason for one in outcome.findings} == {Reason.PROCESS_UNKNOWN_KEY}
    assert scene.state == REVOKED


@pytest.mark.attack(number=129, attacker="the network", asset=ACCESS)
def test_129_an_attestor_that_is_cut_off(scene: Scene) -> None:
    """It signs on without a lease, which the honest one does not; after 90 s nobody takes it."""
    scene.verifier.watch(90)
    assert scene.ask(scene.prove()) == []
    scene.verifier.watch(1)
    assert scene.ask(scene.prove()) == ["token.suspended"]
    assert scene.state == SUSPENDED
    scene.verifier.watch(210)
    assert scene.ask(scene.prove()) == ["token.revoked"]
    scene.player.processes = []
    scene.player.attest()
    assert scene.state == REVOKED


@pytest.mark.attack(number=129, attacker="the network", asset=ACCESS)
def test_129_an_attestor_that_speaks_and_says_nothing(scene: Scene) -> None:
    """Questions are no evidence: challenges that it asks for do not break the silence."""
    for _ in range(10):
        scene.verifier.watch(10)
        scene.player.challenge()
        scene.player.door.wanted(scene.player.node.wanted(scene.process))
    assert scene.state == SUSPENDED


@pytest.mark.attack(number=129, attacker="the network", asset=ACCESS)
def test_129_the_token_ends_by_itself_where_nobody_is_asked(scene: Scene) -> None:
    """A relying party that checks no status is left with the token's ten minutes."""
    scene.verifier.watch(400)
    assert scene.ask(scene.prove(), status="unchecked") == []
    scene.verifier.time = scene.player.claims(scene.process).expires + SKEW
    assert scene.ask(scene.prove(), status="unchecked") == ["token.expired"]
