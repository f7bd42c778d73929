"""Attacks on the way from a process to its attestor, against a daemon that runs.

The node's list is on paper (tests/attestor/world.py); the kernel that runs the tests tells who
speaks. The same attacks on the kernels that nodes have: tests/attacks/test_binding.py.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from credential import local, wit
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.puppets import LocalPuppet, Puppet, packet, reasons
from tests.attestor.world import (
    ATTACHED_ID,
    AUDIENCE,
    DAEMON,
    LAUNCHED_ID,
    NOBODY,
    OTHER_ID,
    World,
    open_world,
)

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]

WRONG_NONCE = local.Nonce(nonce="0" * 64)
WRONG_OBTAIN = local.Obtain(nonce=WRONG_NONCE.nonce)
NOT_FROM_PROCESS = ["local.message-not-from-the-process"]


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    with open_world(manufacturer, make_tpm(), user_requests_per_minute=6000) as one:
        yield one


@pytest.fixture
def puppet(world: World) -> Iterator[LocalPuppet]:
    with world.start_puppet() as one:
        yield one


@pytest.fixture
def handover() -> Iterator[Path]:
    path = Path(f"/tmp/procseal-handover-{os.getpid()}")
    yield path
    path.unlink(missing_ok=True)


def granted(message: local.Message | None, world: World) -> local.Credential:
    assert isinstance(message, local.Credential), (message, world.log())
    return message


def test_an_attached_process_obtains_and_proves(world: World, puppet: Puppet) -> None:
    credential = granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    claims = wit.read_unverified(credential.token)
    assert (credential.id, credential.level) == (ATTACHED_ID, "lab")
    assert (claims.procseal.binding, claims.procseal.peer_proof) == ("attached", "pidfs")
    proof = puppet.prove(AUDIENCE)
    assert isinstance(proof, local.Proof)
    assert proof.token == credential.token
    puppet.do(f"send {packet(local.Token())}")
    assert granted(puppet.receive(), world).token == credential.token


def test_a_launched_process_obtains_and_proves(world: World) -> None:
    with world.launch_puppet() as puppet:
        credential = granted(puppet.obtain(world.socket, LAUNCHED_ID), world)
        claims = wit.read_unverified(credential.token)
        assert (claims.procseal.binding, claims.procseal.peer_proof) == ("launched", "child")
        assert isinstance(puppet.prove(AUDIENCE), local.Proof)


# The handshake


@pytest.mark.attack(number=67, attacker="a child of the process", asset="the credential")
def test_a_child_answers(world: World, puppet: Puppet) -> None:
    nonce = puppet.meet(world.socket)
    assert reasons(puppet.answer(nonce, ATTACHED_ID, how="child-give")) == NOT_FROM_PROCESS


@pytest.mark.attack(number=67, attacker="a child of the process", asset="the credential")
def test_a_child_asks_for_a_proof(world: World, puppet: Puppet) -> None:
    granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    assert reasons(puppet.prove(AUDIENCE, how="child-send")) == NOT_FROM_PROCESS
    assert isinstance(puppet.prove(AUDIENCE), local.Proof)  # the process itself still can


@pytest.mark.attack(number=69, attacker="whoever was given the socket", asset="the credential")
def test_the_socket_is_given_away_before_the_answer(
    world: World, puppet: Puppet, handover: Path
) -> None:
    nonce = puppet.meet(world.socket)
    with world.start_puppet() as thief:
        thief.do(f"take {handover}")
        puppet.do(f"pass {handover}")
        assert thief.hear() == "done"
        assert reasons(thief.answer(nonce, ATTACHED_ID)) == NOT_FROM_PROCESS


@pytest.mark.attack(number=69, attacker="whoever was given the socket", asset="the credential")
def test_the_socket_is_given_away_after_the_credential(
    world: World, puppet: Puppet, handover: Path
) -> None:
    granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    with world.start_puppet() as thief:
        thief.do(f"take {handover}")
        puppet.do(f"pass {handover}")
        assert thief.hear() == "done"
        assert reasons(thief.prove(AUDIENCE)) == NOT_FROM_PROCESS
        puppet.end()
        thief.tell(f"send {packet(local.Token())}")
        thief.hear()
        assert thief.receive() is None  # the owner is dead, and nobody inherits


@pytest.mark.attack(number=66, attacker="the process itself", asset="the credential")
def test_exec_before_the_answer(world: World, puppet: Puppet) -> None:
    nonce = puppet.meet(world.socket)
    assert puppet.say(f"exec {world.puppet}") == "ready"
    puppet.do("use 9")
    assert reasons(puppet.answer(nonce, ATTACHED_ID)) == ["local.process-changed"]


@pytest.mark.attack(number=66, attacker="the process itself", asset="the credential")
def test_exec_after_the_credential(world: World, puppet: Puppet) -> None:
    """Even of the same program: it may have other arguments, or another's environment."""
    credential = granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    assert puppet.say(f"exec {world.puppet}") == "ready"
    puppet.do("use 9")
    assert reasons(puppet.prove(AUDIENCE)) == ["process.executed"]
    cause_is(world, credential, "process.executed")


@pytest.mark.attack(number=66, attacker="the process itself", asset="the credential")
def test_exec_is_noticed_without_a_request(world: World, puppet: Puppet) -> None:
    credential = granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    puppet.tell("exec /usr/bin/sleep 100")
    cause_is(world, credential, "process.executed")


def test_exec_while_a_relative_keeps_the_old_memory_alive(
    world: World, puppet: LocalPuppet
) -> None:
    credential = granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    puppet.do("leave")
    cause_is(world, credential, "process.executed")


def cause_is(world: World, credential: local.Credential, cause: str) -> None:
    """Wait until the verifier has ended a credential, for this cause."""
    jti = wit.read_unverified(credential.token).jti

    def causes() -> list[str]:
        return [one["cause"] for one in world.credentials() if one["jti"] == jti]

    world.wait_until(lambda: any(causes()), "its end")
    assert causes() == [cause]


def test_a_golden_messenger(world: World, puppet: LocalPuppet, handover: Path) -> None:
    """A thief connects, becomes a golden `cat`, and has it carry his words.

    Everything about the message is right but one thing: `cat` gives no descriptor along.
    """
    with world.start_puppet() as thief:
        with frozen(world):
            puppet.do(f"connect {world.socket}")
            thief.do(f"take {handover}")
            puppet.do(f"pass {handover}")
            assert thief.hear() == "done"
            puppet.tell("speak /usr/bin/cat")
            until_executed(puppet.pid, "/usr/bin/cat")
        nonce = thief.expect(local.Nonce).nonce
        puppet.tell(local.Obtain(nonce=nonce, id=ATTACHED_ID).encode().decode().removesuffix("\n"))
        assert reasons(thief.receive()) == ["local.descriptor-missing"]


@contextmanager
def frozen(world: World) -> Iterator[None]:
    """Stop the attestor for the time of the block, as a busy machine would."""
    assert world.attestor_pid
    os.kill(world.attestor_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(world.attestor_pid, signal.SIGCONT)


def until_executed(pid: int, path: str) -> None:
    """Wait until a process has loaded this program whole, and sleeps in it."""
    process = Path(f"/proc/{pid}")
    while str((process / "exe").readlink()) != path or state(process) != "S":
        time.sleep(0.005)


def state(process: Path) -> str:
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(f"give {packet(WRONG_OBTAIN)}", "local.nonce-wrong", id="nonce"),
        pytest.param("give procseal/1 obtain|", "local.malformed", id="no nonce"),
        pytest.param("give procseal/1 conquer|", "local.malformed", id="unknown verb"),
        pytest.param("give hello", "local.malformed", id="no message"),
        pytest.param(f"send {packet(local.Token())}", "local.unexpected-message", id="too early"),
        pytest.param(f"give {packet(WRONG_NONCE)}", "local.unexpected-message", id="ours"),
    ],
)  # fmt: skip
def test_another_answer(world: World, puppet: LocalPuppet, message: str, expected: str) -> None:
    puppet.meet(world.socket)
    puppet.do(message)
    assert reasons(puppet.receive()) == [expected]
    assert puppet.receive() is None


def test_an_answer_without_a_descriptor(world: World, puppet: Puppet) -> None:
    nonce = puppet.meet(world.socket)
    assert reasons(puppet.answer(nonce, ATTACHED_ID, how="send")) == ["local.descriptor-missing"]


def test_an_audience_that_is_not_allowed(world: World, puppet: Puppet) -> None:
    granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    assert reasons(puppet.prove("https://elsewhere.example.org")) == ["local.audience-not-allowed"]
    assert isinstance(puppet.prove(AUDIENCE), local.Proof)


def test_an_identity_of_another_user(world: World, puppet: Puppet) -> None:
    assert reasons(puppet.obtain(world.socket, OTHER_ID)) == ["process.user-not-the-workloads"]


@pytest.mark.attack(number=123, attacker="an ordinary user", asset="another process's identity")
def test_credentials_forged_in_a_pid_namespace_of_ones_own(world: World, puppet: Puppet) -> None:
    """Its child, root in there, may name it as the sender of what the child sends."""
    puppet.do("namespaces")
    nonce = puppet.meet(world.socket)
    message = packet(local.Obtain(nonce=nonce, id=ATTACHED_ID))
    puppet.do(f"child-forged-give 1 {message}")
    assert reasons(puppet.receive()) == ["local.pid-namespace-not-trusted"]


# What runs


@pytest.mark.attack(number=58, attacker="the process itself", asset="the identity")
def test_a_deleted_executable(world: World) -> None:
    copy = world.copy_of_puppet("deleted")
    with world.start_puppet(path=copy) as puppet:
        copy.unlink()
        assert "process.file-deleted" in reasons(puppet.obtain(world.socket, ATTACHED_ID))


@pytest.mark.attack(
    number=56, attacker="the process itself", asset="the identity", bindings=["attached"]
)
def test_a_golden_program_in_memory(world: World) -> None:
    memory = os.memfd_create("puppet")
    os.write(memory, world.puppet.read_bytes())
    with LocalPuppet(f"/proc/self/fd/{memory}", uid=NOBODY, pass_fds=[memory]) as puppet:
        os.close(memory)
        found = reasons(puppet.obtain(world.socket, ATTACHED_ID))
    assert {"process.file-deleted", "process.file-on-unmeasured-file-system"} <= set(found)


@pytest.mark.attack(number=49, attacker="an ordinary user", asset="the identity")
def test_an_executable_that_is_only_claimed(world: World) -> None:
    """An unknown program has /proc/PID/exe name the golden one."""
    copy = world.copy_of_puppet("impostor", more=b"\0")
    with world.start_puppet(path=copy) as puppet:
        puppet.do(f"spoof {world.puppet}")
        assert os.readlink(f"/proc/{puppet.pid}/exe") == str(world.puppet)  # noqa: PTH115
        found = reasons(puppet.obtain(world.socket, ATTACHED_ID))
    assert "process.executable-not-what-is-mapped" in found


def test_a_known_file_that_is_mapped_later(world: World, puppet: Puppet) -> None:
    """The next proof waits for the verifier's judgement, and comes."""
    granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    puppet.do("load /usr/lib/x86_64-linux-gnu/libc.so.6")
    assert isinstance(puppet.prove(AUDIENCE), local.Proof)


def test_an_unknown_file_that_is_mapped_later(world: World, puppet: Puppet) -> None:
    granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    puppet.do("load /usr/bin/who")
    assert "process.file-not-in-measurement-list" in reasons(puppet.prove(AUDIENCE))


@pytest.mark.attack(number=50, attacker="a process of the same user", asset="the credential")
def test_a_tracer_of_one_thread(world: World, puppet: Puppet) -> None:
    """The first thread, of which /proc/PID/status speaks, has none."""
    thread = puppet.say("another")
    granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    with world.start_puppet() as sibling:
        sibling.do(f"trace {thread}")
        assert reasons(puppet.prove(AUDIENCE)) == ["process.traced"]


def test_text_that_is_changed_later(world: World, puppet: Puppet) -> None:
    granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    puppet.do("poke")
    assert "process.text-patched" in reasons(puppet.prove(AUDIENCE))


def test_the_process_ends(world: World, puppet: Puppet) -> None:
    credential = granted(puppet.obtain(world.socket, ATTACHED_ID), world)
    puppet.end()
    cause_is(world, credential, "process.exited")


# Launched


@pytest.mark.attack(number=124, attacker="a grandchild", asset="the launched process's credential")
def test_a_grandchild_speaks_on_the_launched_channel(world: World) -> None:
    with world.launch_puppet() as puppet:
        nonce = puppet.meet(world.socket)
        refused = puppet.answer(nonce, LAUNCHED_ID, how="child-give")
        assert reasons(refused) == NOT_FROM_PROCESS
    with world.launch_puppet() as puppet:
        granted(puppet.obtain(world.socket, LAUNCHED_ID), world)
        assert reasons(puppet.prove(AUDIENCE, how="child-send")) == NOT_FROM_PROCESS
        assert isinstance(puppet.prove(AUDIENCE), local.Proof)


def test_a_launched_process_that_executes_something_else(world: World) -> None:
    with world.launch_puppet() as puppet:
        nonce = puppet.meet(world.socket)
        assert puppet.say(f"exec {world.puppet}") == "ready"
        puppet.do("use 3")
        assert reasons(puppet.answer(nonce, LAUNCHED_ID)) == ["local.process-changed"]


def test_a_launched_program_has_the_variables_that_it_is_given(world: World) -> None:
    told = world.attestor("run", "--env", "A=b", "--env", "C=", "--", "/usr/bin/env")
    assert set(told.stdout.splitlines()) == {"A=b", "C=", "PROCSEAL_FD=3"}
    told = world.attestor("run", "--", "/usr/bin/env")
    assert len(told.stdout.splitlines()) > 3


def test_a_file_that_cannot_be_hashed_is_not_launched_with(world: World) -> None:
    for path in ("/no/such/file", "/etc", "/proc/self/status", "/etc/mtab"):
        told = world.attestor("run", "--file", path, "--", "/usr/bin/true", check=False)
        assert told.returncode == 1
        assert "local.look-failed" in told.stdout + told.stderr
    assert world.attestor("run", "--file", "/etc/passwd", "--", "/usr/bin/true").returncode == 0


def test_a_launched_program_ends_as_it_ends(world: World) -> None:
    assert world.attestor("run", "--", "/usr/bin/true").returncode == 0
    assert world.attestor("run", "--", "/usr/bin/false", check=False).returncode == 1
    told = world.attestor(
        "run", "--", "/usr/bin/sh", "-c", "echo $0 $1; exit 7", "a", "b", check=False
    )
    assert (told.returncode, told.stdout) == (7, "a b\n")
    assert world.attestor("run", "--", "sh", "-c", "kill -9 $$", check=False).returncode == 137


def test_only_root_names_another_user(world: World) -> None:
    told = world.attestor("run", "--user", "daemon", "--", "/usr/bin/id", "-u")
    assert told.stdout == f"{DAEMON}\n"
    told = world.attestor(
        "run", "--user", "daemon", "--", "/usr/bin/id", "-u", check=False, user=NOBODY
    )
    assert told.returncode == 1
    assert "local.user-not-allowed" in told.stdout


def test_a_script_is_not_launched(world: World) -> None:
    """What its interpreter would open is not what was hashed."""
    told = world.attestor("run", "--", "/usr/bin/ldd", "--version", check=False)
    assert told.returncode == 1
    assert "local.program-does-not-start" in told.stdout


# Many


@pytest.mark.attack(number=131, attacker="an ordinary user", asset="the TPM, and others' turn")
def test_a_thousand_connections(world: World) -> None:
    """One user opens as many as he can; another one is served meanwhile."""
    keys_before = world.status()["tpm_operations"].get("create", 0)
    with Crowd(world), world.start_puppet(uid=DAEMON) as puppet:
        granted(puppet.obtain(world.socket, OTHER_ID), world)
        assert isinstance(puppet.prove(AUDIENCE), local.Proof)
    keys = world.status()["tpm_operations"]["create"] - keys_before
    assert keys == 1  # none of the crowd has come as far as the TPM


class Crowd:
    """A user's thousand connections, by puppets that never answer and one that floods."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.puppets: list[LocalPuppet] = []

    def __enter__(self) -> None:
        for _ in range(20):
            puppet = self.world.start_puppet()
            self.puppets.append(puppet)
            for _ in range(50):
                puppet.tell(f"connect {self.world.socket}")

    def __exit__(self, *_: object) -> None:
        for puppet in self.puppets:
            puppet.end()
