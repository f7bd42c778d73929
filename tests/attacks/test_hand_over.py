"""The attestor is started anew in a running machine: with its own word for it, and without."""

import json
from collections.abc import Iterator

import pytest

from credential import wit
from demo.names import NODE
from demo.world import CAPABILITIES
from tests.attacks.machine import AUDIENCE, SOCKET, Machine, MachinePuppet
from tests.open_doors import Door, trusting
from tests.relying_party import REVOKED, VALID, Party
from verifier import Reason
from verifier.ledger import Cause

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(600)]

START_SECONDS = 180
"""For a Python program to start, twice perhaps, in an emulator on a busy host."""

ROOT = "root on the node"
ASSET = "the attestor's voice"


def status(machine: Machine) -> dict[str, object]:
    told = machine.world.machine.run(f"[ -S {SOCKET} ] && attestor status --json").output
    found = json.loads(told) if told.startswith("{") else {}
    assert isinstance(found, dict)
    return found


def accepted_instance(machine: Machine) -> str:
    """Return which instance the verifier has accepted last; the machine is not asked."""
    (node,) = machine.world.nodes()
    return str(node["instance"])


def wait_for_instance(machine: Machine, other_than: str) -> None:
    """Wait until the verifier has accepted another one."""
    machine.world.wait_for(
        lambda: accepted_instance(machine) != other_than, "a later instance to be accepted"
    )


def refused_instances(machine: Machine) -> set[str]:
    """Return later starts that the verifier has refused of late."""
    return {
        str(one["found"])
        for row in machine.world.operator("ledger", "tail")
        for one in row["body"].get("findings", ())
        if one["reason"] == Reason.INSTANCE_SECOND
    }


@pytest.fixture
def party(machine: Machine) -> Iterator[Party]:
    world = machine.world
    tls = trusting(world.config.parent / "ca.pem")
    tls.check_hostname = False  # the certificate is for verifier.lab
    told = world.operator("relying-party", "add", "hand-over", AUDIENCE)
    yield Party(Door(world.verifier_port, tls), "hand-over", told["secret"])
    world.operator("relying-party", "remove", "hand-over")


@pytest.mark.attack(
    number=102,
    attacker="whoever carries the token",
    asset="the credential",
    outcome="detected",
)
def test_102_a_token_of_the_instance_before(
    machine: Machine, puppet: MachinePuppet, party: Party
) -> None:
    """No operator is asked, the process obtains again, and what it had is revoked."""
    before = puppet.obtain_granted()
    assert party.state(before.token) == VALID
    earlier = accepted_instance(machine)
    said = machine.world.machine.run("attestor restart --json", timeout=START_SECONDS)
    told = json.loads(said.check().output)
    wait_for_instance(machine, other_than=earlier)
    assert accepted_instance(machine) == told["instance"] != earlier
    assert party.state(before.token) == REVOKED
    jti = wit.read_unverified(before.token).jti
    known = machine.world.operator("credential", "list", "--all")
    assert [one["cause"] for one in known if one["jti"] == jti] == [Cause.INSTANCE_REPLACED]
    assert puppet.receive() is None  # the one before has hung up
    after = puppet.obtain_granted()
    assert party.state(after.token) == VALID
    assert puppet.is_proven()


@pytest.mark.attack(number=122, attacker="an ordinary user", asset=ASSET)
def test_122_a_user_who_hangs_up_on_the_attestor(machine: Machine) -> None:
    """He may neither signal it nor tell it to; root may, as `systemctl reload` does."""
    found, earlier = status(machine), accepted_instance(machine)
    said = machine.world.machine.run(f"kill -HUP {found['pid']}", user="alice")
    assert "ermitted" in said.output
    said = machine.world.machine.run("attestor restart --json", user="alice", timeout=START_SECONDS)
    assert [one["reason"] for one in json.loads(said.output)["findings"]] == [
        "local.user-not-allowed"
    ]
    assert accepted_instance(machine) == earlier
    machine.run(f"kill -HUP {found['pid']}")
    wait_for_instance(machine, other_than=earlier)
    assert status(machine)["instances"] == int(str(found["instances"])) + 1


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_an_attestor_that_was_killed_and_started_again(machine: Machine) -> None:
    """Without the word of the one before: it does not start, or is refused until approved."""
    earlier = accepted_instance(machine)
    machine.run(f"kill -KILL {status(machine)['pid']}")
    again = machine.world.machine.run(
        "/usr/bin/attestor serve",
        user="attestor",
        capabilities=CAPABILITIES,
        timeout=START_SECONDS,
    )
    assert again.code == 1
    assert "--second-start" in again.output
    machine.world.machine.start(
        "/usr/bin/attestor serve --second-start",
        output="/run/attestor.log",
        user="attestor",
        capabilities=CAPABILITIES,
    )
    machine.world.wait_for(lambda: refused_instances(machine), "a refusal")
    (instance,) = refused_instances(machine)
    machine.world.operator("node", "approve-instance", NODE, instance)
    wait_for_instance(machine, other_than=earlier)
    assert accepted_instance(machine) == instance
    with machine.puppet() as puppet:
        puppet.obtain_granted()
