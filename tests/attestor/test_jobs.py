"""Jobs: who can have a step launched, and what ends the credentials of steps.

The puppet is the controller, and the test is whoever the controller has given the job to: it runs
`attestor run --job` as the puppet's user, with the descriptor and without.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from attestor.jobs import MOST_JOBS
from credential import local, wit
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.puppets import CHANNEL, Launched, LocalPuppet, reasons
from tests.attestor.world import (
    ATTACHED_ID,
    AUDIENCE,
    DAEMON,
    NOBODY,
    ROOT,
    World,
    open_world,
    workload,
)

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]

STEP_ID = "spiffe://example.org/step"
BELOW_ID = "spiffe://example.org/step/of/step"
JOB = "build-17"
VARIABLE = "PROCSEAL_JOB_FD"


def step_of(parent: str, id_: str) -> str:
    return workload(id_).replace("any_starter = true", f'parent = "{parent}"')


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    with open_world(manufacturer, make_tpm(), user_requests_per_minute=6000) as one:
        one.operator("put", kind="workload", text=step_of(ATTACHED_ID, STEP_ID))
        one.operator("put", kind="workload", text=step_of(STEP_ID, BELOW_ID))
        yield one


@pytest.fixture
def controller(world: World) -> Iterator[LocalPuppet]:
    with world.start_puppet() as puppet:
        assert isinstance(puppet.obtain(world.socket, ATTACHED_ID), local.Credential)
        yield puppet


@pytest.fixture
def job(world: World, controller: LocalPuppet) -> Iterator[int]:
    """A job of the controller's, as it has given it to us."""
    assert controller.open_job(JOB) == local.Opened(name=JOB)
    with given(world, controller) as descriptor:
        yield descriptor


@contextmanager
def given(world: World, puppet: LocalPuppet) -> Iterator[int]:
    """Have a puppet hand us its job, and give it up at the end."""
    path = world.directory / f"hand-{puppet.pid}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        puppet.do(f"pass-job {path}")
        connection, _ = listener.accept()
        with connection:
            _, (descriptor,), _, _ = socket.recv_fds(connection, 1, 1)
    path.unlink()
    try:
        yield descriptor
    finally:
        give_up(descriptor)


def give_up(descriptor: int) -> None:
    """Close a descriptor unless it is closed already."""
    try:
        os.close(descriptor)
    except OSError:
        return


def command(world: World, *words: str, name: str = JOB) -> list[str]:
    start = [sys.executable, "-m", "attestor", "run", "--config", str(world.config)]
    return [*start, *(["--job", name] if name else []), "--", *words]


def holding(descriptor: int) -> dict[str, Any]:
    return {"pass_fds": [descriptor], "env": {**os.environ, VARIABLE: str(descriptor)}}


def launch(world: World, descriptor: int, *, name: str = JOB) -> Launched:
    return Launched(
        command(world, str(world.puppet), name=name),
        uid=NOBODY,
        directory=ROOT,
        **(holding(descriptor) if descriptor >= 0 else {}),
    )


def run(
    words: Sequence[str],
    *,
    uid: int = NOBODY,
    **options: Any,  # noqa: ANN401
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, user=uid, group=uid, extra_groups=[], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False, **options,
    )  # fmt: skip


@pytest.fixture
def step(world: World, job: int) -> Iterator[Launched]:
    with launch(world, job) as puppet:
        assert isinstance(puppet.obtain(world.socket, STEP_ID), local.Credential)
        yield puppet


def token_of(puppet: LocalPuppet) -> wit.Claims:
    proof = puppet.prove(AUDIENCE)
    assert isinstance(proof, local.Proof), proof
    return wit.read_unverified(proof.token)


def cause(world: World, claims: wit.Claims) -> str:
    return next(str(one["cause"]) for one in world.credentials() if one["jti"] == claims.jti)


def demand_end(world: World, step: Launched, claims: wit.Claims, expected: str) -> None:
    """The verifier knows within a second, and its attestor signs nothing any more."""
    world.wait_until(lambda: cause(world, claims), "the end of the step's credential")
    assert cause(world, claims) == expected
    assert reasons(step.prove(AUDIENCE)) == [expected]


def test_a_step(world: World, controller: LocalPuppet, step: Launched) -> None:
    """Its token says who had it launched, and for what; and so does the record of it."""
    claims = token_of(step)
    assert (claims.id, claims.procseal.binding) == (STEP_ID, "launched")
    assert (claims.procseal.parent, claims.procseal.job) == (ATTACHED_ID, JOB)
    assert claims.expires <= token_of(controller).expires
    (row,) = [
        one["body"]
        for one in world.operator("ledger_tail", most=1000)
        if one["kind"] == "credential.issued" and one["body"]["jti"] == claims.jti
    ]
    assert (row["parent"], row["job"]) == (ATTACHED_ID, JOB)


def test_what_a_step_is_given(world: World, job: int) -> None:
    """Neither the variable nor the job: it has its own channel, and nothing else of ours."""
    told = run(command(world, "/usr/bin/env"), **holding(job))
    assert VARIABLE not in told.stdout
    assert f"PROCSEAL_FD={CHANNEL}" in told.stdout
    told = run(command(world, "/usr/bin/ls", "/proc/self/fd"), **holding(job))
    assert told.stdout.split() == ["0", "1", "2", str(CHANNEL), str(CHANNEL + 1)]  # and its own


# Who cannot


def test_who_was_not_given_the_job(world: World, job: int) -> None:
    """Knowing what it is called, and which descriptor it is elsewhere, is not having it."""
    words = command(world, str(world.puppet))
    for environment in ({}, {VARIABLE: str(job)}, {VARIABLE: "x"}, {VARIABLE: "-1"}):
        told = run(words, env={**os.environ, **environment})
        assert (told.returncode, told.stdout) == (2, "")
        assert "job build-17" in told.stderr


def test_a_descriptor_that_is_no_job(world: World, job: int) -> None:
    assert job
    words = command(world, str(world.puppet))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    with ours, theirs:
        for descriptor in (ours.fileno(), reading, writing):
            told = run(words, **holding(descriptor))
            assert (told.returncode, told.stdout.split()[1]) == (1, "local.job-unknown")
    os.close(reading)
    os.close(writing)


def test_a_job_of_another_name(world: World, job: int) -> None:
    told = run(command(world, str(world.puppet), name="build-18"), **holding(job))
    assert (told.returncode, told.stdout.split()[1]) == (1, "local.job-of-another-name")


def test_a_job_in_the_hands_of_another_user(world: World, job: int) -> None:
    told = run(command(world, str(world.puppet)), uid=DAEMON, **holding(job))
    assert (told.returncode, told.stdout.split()[1]) == (1, "local.user-not-allowed")


def test_launches_with_too_few_descriptors_and_too_many(world: World) -> None:
    """A job that is named has to come along, and one that comes along has to be named."""
    for name, count in (("", 4), (JOB, 3), (JOB, 5), ("", 2)):
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel,
            open(os.devnull) as null,  # noqa: PTH123
        ):
            channel.connect(str(world.socket))
            local.Nonce.decode(channel.recv(local.MOST_BYTES))
            launch = local.Launch(argument=("/usr/bin/true",), environment=(), job=name)
            socket.send_fds(channel, [launch.encode()], [null.fileno()] * count)
            found = local.decode(channel.recv(local.MOST_BYTES))
        assert reasons(found) == ["local.descriptor-missing"]


@pytest.mark.attack(number=115, attacker="the same user", asset="a build's signature")
def test_115_a_step_that_its_user_starts(world: World, controller: LocalPuppet) -> None:
    """The controller runs, and has a job open; whoever was not given it has no step."""
    assert controller.open_job(JOB) == local.Opened(name=JOB)
    with launch(world, -1, name="") as puppet:
        assert reasons(puppet.obtain(world.socket, STEP_ID)) == ["process.parent-missing"]
    with world.start_puppet() as puppet:
        refused = reasons(puppet.obtain(world.socket, STEP_ID))
        assert set(refused) == {"process.parent-missing", "process.starter-not-proven"}


@pytest.mark.attack(
    number=115, attacker="another program of the same user", asset="a build's signature"
)
def test_115_a_helper_that_was_given_the_job(world: World, job: int) -> None:
    """It may have the job's steps launched; itself it is none."""
    helper = world.copy_of_puppet("helper", more=b"helper")
    with Launched(
        command(world, str(helper)), uid=NOBODY, directory=ROOT, **holding(job)
    ) as puppet:
        assert set(reasons(puppet.obtain(world.socket, STEP_ID))) == {"process.executable-unknown"}


TAKE = """\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
pid, number, *command = sys.argv[1:]
taken = libc.syscall(438, os.pidfd_open(int(pid)), int(number), 0)  # pidfd_getfd
if taken < 0:
    sys.exit(f"not taken: {os.strerror(ctypes.get_errno())}")
os.set_inheritable(taken, True)
os.execve(command[0], command, {**os.environ, "PROCSEAL_JOB_FD": str(taken)})
"""


def job_number(puppet: LocalPuppet) -> int:
    """Return the number that a puppet's job has there: its last socket."""
    places = Path(f"/proc/{puppet.pid}/fd").iterdir()
    return max(int(one.name) for one in places if os.readlink(one).startswith("socket:"))  # noqa: PTH115


@pytest.mark.attack(
    number=115,
    attacker="the same user",
    asset="a build's signature",
    outcome="residual",
    level="L2",
)
def test_115_a_job_that_is_taken_by_whoever_may_use_ptrace(
    world: World, controller: LocalPuppet
) -> None:
    """pidfd_getfd asks what ptrace asks: at L2 no ordinary process may, below it works."""
    assert controller.open_job(JOB) == local.Opened(name=JOB)
    words = [sys.executable, "-c", TAKE, str(controller.pid), str(job_number(controller))]
    with Launched(
        [*words, *command(world, str(world.puppet))], uid=NOBODY, directory=ROOT
    ) as puppet:
        assert isinstance(puppet.obtain(world.socket, STEP_ID), local.Credential)
    told = run([*words, *command(world, "/usr/bin/true")], uid=DAEMON)
    assert "not taken" in told.stderr


def test_a_step_under_an_identity_that_has_no_parent(world: World, job: int) -> None:
    with launch(world, job) as puppet:
        assert reasons(puppet.obtain(world.socket, ATTACHED_ID)) == [
            "process.parent-not-the-workloads"
        ]


def test_who_may_open_a_job(world: World, controller: LocalPuppet) -> None:
    """A process that has its credential, by itself."""
    with world.start_puppet() as puppet:
        puppet.meet(world.socket)
        assert reasons(puppet.open_job(JOB)) == ["local.unexpected-message"]
    assert reasons(controller.open_job(JOB, how="child-send")) == [
        "local.message-not-from-the-process"
    ]


def test_a_controller_that_has_changed_opens_no_job(controller: LocalPuppet) -> None:
    controller.do("poke")
    assert "process.text-patched" in reasons(controller.open_job(JOB))


def test_a_process_has_so_many_jobs(world: World, controller: LocalPuppet) -> None:
    """More are refused, and nothing else is."""
    for number in range(MOST_JOBS):
        assert controller.open_job(f"{number}") == local.Opened(name=f"{number}")
    assert reasons(controller.open_job("more")) == ["local.too-many"]
    controller.do("close-job")
    world.wait_until(
        lambda: isinstance(controller.open_job("more"), local.Opened), "room for a job"
    )
    assert isinstance(controller.prove(AUDIENCE), local.Proof)


# What ends a step


@pytest.mark.attack(number=102, attacker="time", asset="the access", outcome="detected")
def test_the_controller_ends(world: World, controller: LocalPuppet, step: Launched) -> None:
    claims = token_of(step)
    controller.end()
    demand_end(world, step, claims, "parent.ended")


def test_the_controller_hangs_up(world: World, controller: LocalPuppet, step: Launched) -> None:
    claims = token_of(step)
    controller.do("close")
    demand_end(world, step, claims, "parent.ended")


def test_the_controller_executes_something_else(
    world: World, controller: LocalPuppet, step: Launched
) -> None:
    claims = token_of(step)
    controller.tell("exec /usr/bin/sleep 600")
    demand_end(world, step, claims, "parent.ended")


def test_an_operator_ends_the_controllers_credential(
    world: World, controller: LocalPuppet, step: Launched, job: int
) -> None:
    """The verifier ends both, whatever the attestor knows; which learns it with the next round."""
    claims, parents = token_of(step), token_of(controller)
    world.operator("credential_revoke", jti=parents.jti)
    assert (cause(world, parents), cause(world, claims)) == ("operator", "parent.ended")
    world.wait_until(lambda: isinstance(step.prove(AUDIENCE), local.Refusal), "no proofs")
    told = run(command(world, str(world.puppet)), **holding(job))
    assert (told.returncode, told.stdout.split()[0]) == (1, "refused")


@pytest.mark.parametrize("how", ["shut-job", "write"])
def test_a_job_that_a_holder_ends(
    world: World, controller: LocalPuppet, step: Launched, job: int, how: str
) -> None:
    """At once, whoever else holds it; and the controller's own credential goes on."""
    claims = token_of(step)
    if how == "write":
        os.write(job, b"anything")
    else:
        controller.do(how)
    demand_end(world, step, claims, "job.ended")
    told = run(command(world, str(world.puppet)), **holding(job))
    assert (told.returncode, told.stdout.split()[1]) == (1, "local.job-unknown")
    assert isinstance(controller.prove(AUDIENCE), local.Proof)


def test_a_job_that_nobody_holds(
    world: World, controller: LocalPuppet, step: Launched, job: int
) -> None:
    """It goes on for as long as somebody does: `attestor run` is not among them."""
    claims = token_of(step)
    controller.do("close-job")
    rounds = world.status()["rounds"]
    world.wait_until(lambda: world.status()["rounds"] > rounds + 1, "another round")
    assert isinstance(step.prove(AUDIENCE), local.Proof)
    os.close(job)
    demand_end(world, step, claims, "job.ended")


def test_a_step_that_asks_when_its_job_is_over(
    world: World, controller: LocalPuppet, job: int
) -> None:
    with launch(world, job) as puppet:
        nonce = puppet.meet(world.socket)
        controller.do("shut-job")
        world.wait_until(lambda: reasons_of_launch(world, job) == "local.job-unknown", "its end")
        assert reasons(puppet.answer(nonce, STEP_ID)) == ["job.ended"]


def reasons_of_launch(world: World, job: int) -> str:
    return run(command(world, "/usr/bin/true"), **holding(job)).stdout.split()[1]


def test_a_step_of_a_step(world: World, controller: LocalPuppet, step: Launched) -> None:
    """The chain dies from the top down; what is beside it lives."""
    assert step.open_job("deploy") == local.Opened(name="deploy")
    with ExitStack() as stack:
        deeper = stack.enter_context(given(world, step))
        below = stack.enter_context(launch(world, deeper, name="deploy"))
        assert isinstance(below.obtain(world.socket, BELOW_ID), local.Credential)
        claims = [token_of(one) for one in (step, below)]
        assert (claims[1].procseal.parent, claims[1].procseal.job) == (STEP_ID, "deploy")
        neighbour = stack.enter_context(world.start_puppet())
        assert isinstance(neighbour.obtain(world.socket, ATTACHED_ID), local.Credential)
        controller.end()
        demand_end(world, step, claims[0], "parent.ended")
        demand_end(world, below, claims[1], "parent.ended")
        assert isinstance(neighbour.prove(AUDIENCE), local.Proof)


def test_nothing_is_left_of_a_job(world: World) -> None:
    """Not a descriptor in the attestor, whatever ends first."""
    sockets = len(list(Path(f"/proc/{world.attestor_pid}/fd").iterdir()))
    with world.start_puppet() as puppet:
        assert isinstance(puppet.obtain(world.socket, ATTACHED_ID), local.Credential)
        for number in range(40):
            assert puppet.open_job(f"{number}") == local.Opened(name=f"{number}")
    world.wait_until(
        lambda: len(list(Path(f"/proc/{world.attestor_pid}/fd").iterdir())) <= sockets + 8,
        "all to be closed",
    )
