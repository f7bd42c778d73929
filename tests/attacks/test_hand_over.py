"""The attestor is started anew in a running machine: with its own word for it, and without."""

import json
import shlex
from collections.abc import Iterator

import pytest

from credential import wit
from demo.world import CAPABILITIES, NODE
from tests.attacks.machine import AUDIENCE, SOCKET, Machine, MachinePuppet
from tests.open_doors import Door, trusting
from tests.relying_party import REVOKED, VALID, Party
from verifier import Reason
from verifier.ledger import Cause

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(600)]

ROOT = "root on the node"
ASSET = "the attestor's voice"


def status(machine: Machine) -> dict[str, object]:
    told = machine.world.machine.run(f"[ -S {SOCKET} ] && attestor status --json").output
    found = json.loads(told) if told.startswith("{") else {}
    assert isinstance(found, dict)
    return found


def wait_for_instance(machine: Machine, instance: str) -> None:
    """Wait until the verifier has accepted this one."""
    machine.world.wait_for(
        lambda: any(one["instance"] == instance for one in machine.world.operator("node", "list")),
        f"instance {instance} to be accepted",
    )


def hand_over(machine: Machine) -> int:
    """Have the attestor hand over; return its successor's pid, once the node is accepted."""
    found = json.loads(machine.run("attestor restart --json"))
    wait_for_instance(machine, found["instance"])
    return int(found["pid"])


@pytest.fixture
def party(machine: Machine) -> Iterator[Party]:
    world = machine.world
    tls = trusting(world.config.parent / "ca.pem")
    tls.check_hostname = False  # the certificate is for verifier.lab
    told = world.operator("relying-party", "add", "hand-over", AUDIENCE)
    yield Party(Door(world.verifier_port, tls), "hand-over", told["secret"])
    world.operator("relying-party", "remove", "hand-over")


@pytest.mark.attack(number=102, attacker="whoever carries the token", asset="the credential")
def test_102_a_token_of_the_instance_before(
    machine: Machine, puppet: MachinePuppet, party: Party
) -> None:
    """No operator is asked, the process obtains again, and what it had is revoked."""
    before = puppet.obtain_granted()
    assert party.state(before.token) == VALID
    instances = status(machine)["instances"]
    hand_over(machine)
    found = status(machine)
    assert found["accepted"]
    assert found["instances"] == int(str(instances)) + 1
    assert party.state(before.token) == REVOKED
    jti = wit.read_unverified(before.token).jti
    known = machine.world.operator("credential", "list", "--all")
    assert [one["cause"] for one in known if one["jti"] == jti] == [Cause.INSTANCE_REPLACED]
    assert puppet.receive() is None  # the one before has hung up
    after = puppet.obtain_granted()
    assert party.state(after.token) == VALID
    assert puppet.is_proven()


def test_a_hand_over_by_signal(machine: Machine) -> None:
    """As `systemctl reload` does it."""
    pid = hand_over(machine)
    instances = int(str(status(machine)["instances"]))
    machine.run(f"kill -HUP {pid}")
    machine.world.wait_for(
        lambda: status(machine).get("instances") == instances + 1, "the successor"
    )
    machine.world.wait_for(lambda: status(machine).get("accepted"), "its node's acceptance")
    with machine.puppet() as puppet:
        puppet.obtain_granted()


@pytest.mark.attack(number=122, attacker="an ordinary user", asset=ASSET)
def test_122_a_user_who_hangs_up_on_the_attestor(machine: Machine) -> None:
    """He may neither signal it nor tell it to."""
    pid = hand_over(machine)
    said = machine.world.machine.run(f"kill -HUP {pid}", user="alice")
    assert "ermitted" in said.output
    said = machine.world.machine.run("attestor restart --json", user="alice")
    assert [one["reason"] for one in json.loads(said.output)["findings"]] == [
        "local.user-not-allowed"
    ]


@pytest.mark.attack(number=122, attacker=ROOT, asset=ASSET)
def test_122_an_attestor_that_was_killed_and_started_again(machine: Machine) -> None:
    """Without the word of the one before: it does not start, or is refused until approved."""
    pid = hand_over(machine)
    machine.run(f"kill -KILL {pid}")
    again = machine.world.machine.run(
        "/usr/bin/attestor serve", user="attestor", capabilities=CAPABILITIES
    )
    assert again.code == 1
    assert "--second-start" in again.output
    machine.world.machine.start(
        "/usr/bin/attestor serve --second-start",
        output="/run/attestor.log",
        user="attestor",
        capabilities=CAPABILITIES,
    )
    machine.world.wait_for(
        lambda: status(machine).get("findings") == [str(Reason.INSTANCE_SECOND)], "a refusal"
    )
    refused = machine.world.operator("ledger", "tail")
    (instance,) = {
        one["found"]
        for row in refused
        for one in row["body"].get("findings", ())
        if one["reason"] == Reason.INSTANCE_SECOND
    }
    machine.world.operator("node", "approve-instance", NODE, shlex.quote(instance))
    wait_for_instance(machine, instance)
    with machine.puppet() as puppet:
        puppet.obtain_granted()
