"""Attacks on the binding of a credential to its process, on the kernels that nodes have.

A virtual machine with the demo's world: kernel, measurement list, attestor under its own uid. The
attacker is tests/attacks/programs/puppet.c, a known program, so that nothing but the binding is
in his way. Kernel 6.1 tells neither SO_PEERPIDFD nor pidfs; 6.12 has both.
"""

import pytest

from credential import local, wit
from demo.world import World
from tests.attacks.machine import (
    AUDIENCE,
    ID,
    LAUNCHED_MODE,
    PATH,
    SOCKET,
    MachinePuppet,
    Programs,
    Start,
    granted,
    in_both_modes,
)
from tests.attestor.puppets import packet, reasons

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(400)]


def peer_proof(world: World) -> str:
    release = world.machine.run("uname -r").output
    return "pid" if release.startswith("6.1.") else "pidfs"


def test_the_puppet_itself(world: World, puppet: MachinePuppet) -> None:
    credential = granted(puppet.obtain(SOCKET, ID))
    procseal = wit.read_unverified(credential.token).procseal
    assert (procseal.binding, procseal.peer_proof) == ("attached", peer_proof(world))
    assert isinstance(puppet.prove(AUDIENCE), local.Proof)


@pytest.mark.attack(number=67, attacker="a child of the process", asset="the credential")
def test_a_child_speaks(puppet: MachinePuppet) -> None:
    nonce = puppet.meet(SOCKET)
    refused = puppet.answer(nonce, ID, how="child-give")
    assert reasons(refused) == ["local.message-not-from-the-process"]


@in_both_modes
@pytest.mark.attack(number=69, attacker="whoever was given the socket", asset="the credential")
def test_the_socket_is_given_away(world: World, puppet: MachinePuppet) -> None:
    granted(puppet.obtain(SOCKET, ID))
    with MachinePuppet(world) as thief:
        handover = f"/tmp/{puppet.name}.socket"
        thief.do(f"take {handover}")
        puppet.do(f"pass {handover}")
        assert thief.hear() == "done"
        assert reasons(thief.prove(AUDIENCE)) == ["local.message-not-from-the-process"]


@in_both_modes
@pytest.mark.attack(number=66, attacker="the process itself", asset="the credential")
def test_exec_after_the_credential(puppet: MachinePuppet) -> None:
    granted(puppet.obtain(SOCKET, ID))
    assert puppet.say(f"exec {PATH}") == "ready"
    puppet.do("use 9")
    assert reasons(puppet.prove(AUDIENCE)) == ["process.executed"]


@in_both_modes
@pytest.mark.attack(number=66, attacker="the process itself", asset="the credential")
def test_exec_between_nonce_and_answer(puppet: MachinePuppet) -> None:
    nonce = puppet.meet(SOCKET)
    assert puppet.say(f"exec {PATH}") == "ready"
    puppet.do("use 9")
    assert reasons(puppet.answer(nonce, ID)) == ["local.process-changed"]


@pytest.mark.attack(number=81, attacker="an ordinary user", asset="another process's identity")
@pytest.mark.attack(number=123, attacker="an ordinary user", asset="another process's identity")
def test_credentials_forged_in_namespaces_of_ones_own(puppet: MachinePuppet) -> None:
    """Its child, root in there, names it as the sender of what the child sends."""
    puppet.do("namespaces")
    nonce = puppet.meet(SOCKET)
    puppet.do(f"child-forged-give 1 {packet(local.Obtain(nonce=nonce, id=ID))}")
    assert reasons(puppet.receive()) == ["local.pid-namespace-not-trusted"]


@in_both_modes
@pytest.mark.attack(number=49, attacker="an ordinary user", asset="the identity")
def test_an_executable_that_is_only_claimed(
    world: World, programs: Programs, start: Start, binding: str
) -> None:
    """The file that /proc/PID/exe names is golden, and is not what runs."""
    impostor = "/home/payments/impostor"
    world.machine.put(impostor, programs.puppet + b"\0", owner="payments", mode=0o755)
    with start(impostor) as puppet:
        puppet.do(f"spoof {PATH}")
        claimed = world.machine.run(f"readlink /proc/{puppet.pid}/exe").output
        assert claimed == PATH
        found = reasons(puppet.obtain(SOCKET, ID))
    # What was launched has been looked at before, when it named the file that it is.
    is_launched = binding == LAUNCHED_MODE
    told = "local.process-changed" if is_launched else "process.executable-not-what-is-mapped"
    assert told in found


@pytest.mark.attack(
    number=67, attacker="a grandchild", asset="the credential", bindings=[LAUNCHED_MODE]
)
@pytest.mark.attack(number=124, attacker="a grandchild", asset="the launched process's credential")
def test_a_grandchild_speaks_on_the_launched_channel(world: World) -> None:
    run = f"/usr/bin/attestor run -- {PATH}"
    with MachinePuppet(world, path=run) as puppet:
        puppet.do("use 3")
        nonce = puppet.expect(local.Nonce).nonce
        refused = puppet.answer(nonce, ID, how="child-give")
        assert reasons(refused) == ["local.message-not-from-the-process"]


@pytest.mark.attack(number=125, attacker="the same user", asset="the identity")
def test_the_golden_program_started_by_its_user_outside_its_unit(world: World) -> None:
    with MachinePuppet(world) as puppet:
        world.machine.run(f"echo {puppet.pid} >/sys/fs/cgroup/cgroup.procs").check()
        assert reasons(puppet.obtain(SOCKET, ID)) == ["process.unit-not-the-workloads"]
