"""The handshake on kernels that say less of a peer: newer means are switched off, one by one.

Kernel 6.1, which has neither, is in the virtual machine as well (test_binding.py); no kernel with
SO_PEERPIDFD and without pidfs, 6.5 to 6.8, is to be had there.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attestor.peer import Kernel
from credential import local, wit
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.puppets import LocalPuppet, packet, reasons
from tests.attestor.world import ATTACHED_ID, AUDIENCE, LAUNCHED_ID, World, open_world

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]

KERNELS = {
    "pidfd": Kernel(has_peer_pidfd=True, has_pidfs=False),
    "pid": Kernel(has_peer_pidfd=False, has_pidfs=False),
}
NOT_FROM_PROCESS = ["local.message-not-from-the-process"]


@pytest.fixture(scope="module", params=KERNELS)
def world(
    request: pytest.FixtureRequest, manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]
) -> Iterator[World]:
    kernel = KERNELS[request.param]
    if kernel.has_peer_pidfd and not Kernel.find_out().has_peer_pidfd:
        pytest.skip("this kernel has no SO_PEERPIDFD")
    with open_world(manufacturer, make_tpm(), kernel=kernel, user_requests_per_minute=6000) as one:
        yield one


@pytest.fixture
def puppet(world: World) -> Iterator[LocalPuppet]:
    with world.start_puppet() as one:
        yield one


def granted(message: local.Message | None, world: World) -> local.Credential:
    assert isinstance(message, local.Credential), (message, world.log())
    return message


def test_the_record_says_how_the_process_is_known(world: World, puppet: LocalPuppet) -> None:
    assert world.kernel is not None
    credential = granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    proof = wit.read_unverified(credential.token).procseal.peer_proof
    assert proof == world.kernel.peer_proof == world.status()["peer_proof"]
    assert isinstance(puppet.prove(AUDIENCE), local.Proof)


@pytest.mark.attack(number=67, attacker="a child of the process", asset="the credential")
def test_a_child_speaks(world: World, puppet: LocalPuppet) -> None:
    nonce = puppet.meet(world.socket)
    assert reasons(puppet.answer(nonce, ATTACHED_ID, how="child-give")) == NOT_FROM_PROCESS
    with world.start_puppet() as other:
        granted(other.obtain(world.socket, ATTACHED_ID), world)
        assert reasons(other.prove(AUDIENCE, how="child-send")) == NOT_FROM_PROCESS


@pytest.mark.attack(number=69, attacker="whoever was given the socket", asset="the credential")
def test_the_socket_is_given_away(world: World, puppet: LocalPuppet) -> None:
    handover = Path(f"/tmp/procseal-older-{os.getpid()}")
    granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    with world.start_puppet() as thief:
        thief.do(f"take {handover}")
        puppet.do(f"pass {handover}")
        assert thief.hear() == "done"
        assert reasons(thief.prove(AUDIENCE)) == NOT_FROM_PROCESS
        puppet.end()
        thief.tell(f"send {packet(local.Token())}")
        thief.hear()
        assert thief.receive() is None
    handover.unlink()


@pytest.mark.attack(number=66, attacker="the process itself", asset="the credential")
def test_exec_before_and_after_the_credential(world: World, puppet: LocalPuppet) -> None:
    nonce = puppet.meet(world.socket)
    assert puppet.say(f"exec {world.puppet}") == "ready"
    puppet.do("use 9")
    assert reasons(puppet.answer(nonce, ATTACHED_ID)) == ["local.process-changed"]
    with world.start_puppet() as other:
        granted(other.obtain(world.socket, ATTACHED_ID), world)
        assert other.say(f"exec {world.puppet}") == "ready"
        other.do("use 9")
        assert reasons(other.prove(AUDIENCE)) == ["process.executed"]


@pytest.mark.attack(number=124, attacker="a grandchild", asset="the launched process's credential")
def test_a_grandchild_speaks_on_the_launched_channel(world: World) -> None:
    with world.launch_puppet() as puppet:
        granted(puppet.obtain(world.socket, LAUNCHED_ID), world)
        assert reasons(puppet.prove(AUDIENCE, how="child-send")) == NOT_FROM_PROCESS
        assert isinstance(puppet.prove(AUDIENCE), local.Proof)
