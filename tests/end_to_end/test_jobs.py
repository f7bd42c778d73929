"""A build on a real kernel: its controller, its step that signs, and everybody else who would.

The demo's world and its programs: /usr/bin/controller is attached, and has /usr/bin/signer launched
for a job. The relying party takes signatures of a build from a step of that build's job alone.
The tests are played in their order, on one machine.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from credential import wit
from demo.build import CALL, SIGNATURE, UNIT, Build
from demo.names import CONTROLLER, SIGNER
from demo.outsider import present
from demo.stage import Setting, set_up
from demo.waiting import wait

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(600)]

END_SECONDS = 1.0
SIGNING = "a build's signature"


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    with set_up(Setting(kernel="6.12")) as world:
        one = Build(world)
        one.start()
        one.open_job("build-17")
        yield one


@pytest.fixture(scope="module")
def token(build: Build) -> str:
    """The signing step's, which goes on running."""
    said = build.launch("signer", "signer", job="build-17", signs=SIGNATURE)
    assert 'answer 200 {"verdict": "granted"' in said, said
    return line_of(said, "token ")


def line_of(said: str, start: str) -> str:
    return next(one.removeprefix(start) for one in said.splitlines() if one.startswith(start))


def reasons(said: str) -> set[str]:
    return {one.split(" ")[1] for one in said.splitlines() if one.startswith("refused ")}


def issued(build: Build, token: str) -> Any:  # noqa: ANN401 - JSON
    """Return what the ledger says of the token."""
    jti = wit.read_unverified(token).jti
    rows = build.world.operator("ledger", "tail", "-n", "200")
    return next(one["body"] for one in rows if one["body"].get("jti") == jti)


def test_the_step_that_signs(build: Build, token: str) -> None:
    """Its token and the record of its issue say who had it launched, and for what."""
    claims = wit.read_unverified(token)
    said = claims.procseal
    assert (claims.id, said.binding, said.parent, said.job) == (
        SIGNER, "launched", CONTROLLER, "build-17",
    )  # fmt: skip
    body = issued(build, token)
    assert (body["parent"], body["job"]) == (CONTROLLER, "build-17")


@pytest.mark.usefixtures("token")
@pytest.mark.attack(number=115, attacker="a child of the process", asset=SIGNING)
def test_115_a_helper_that_was_not_given_the_job(build: Build) -> None:
    """The controller's own child, while the job is open; it knows what that is called."""
    said = build.launch("helper", "signer", job="", signs=SIGNATURE, is_given=False)
    assert reasons(said) == {"process.parent-missing"}
    said = build.launch("named", "signer", job="build-17", signs=SIGNATURE, is_given=False)
    assert "PROCSEAL_JOB_FD" in said
    assert "granted" not in said


@pytest.mark.usefixtures("token")
@pytest.mark.attack(number=115, attacker="another program of the same user", asset=SIGNING)
def test_115_another_program_that_was_given_the_job(build: Build) -> None:
    said = build.launch("other", "sibling", job="build-17", signs=SIGNATURE)
    assert "process.executable-unknown" in reasons(said)
    assert "granted" not in said


@pytest.mark.attack(number=115, attacker="the same user", asset=SIGNING)
def test_115_the_step_without_the_controller(build: Build) -> None:
    """Launched by its user's shell, and started by it in the build's own unit."""
    command = f"/usr/bin/signer {CALL} -i {SIGNER} {SIGNATURE}"
    told = build.world.machine.run(f"attestor run -- {command}", user="payments", timeout=120)
    assert reasons(told.output) == {"process.parent-missing"}
    build.world.start_as("payments", UNIT, command, "alone")
    said = build.world.wait_for_output("alone", "refused ")
    assert "process.parent-missing" in reasons(said)


@pytest.mark.attack(number=115, attacker="whoever copied the token", asset=SIGNING)
def test_115_a_copy_of_the_token(build: Build, token: str) -> None:
    """On another machine: without a proof, and with one that was heard, for another request."""
    proof = line_of(build.world.output("signer"), "presented ")
    headers = {"Workload-Identity-Token": token}
    found = {}
    for name, more in (("bare", {}), ("heard", {"Workload-Proof-Token": proof})):
        status, body = present(build.world, headers | more, SIGNATURE)
        assert status in (401, 403)
        found[name] = {one["reason"] for one in body["findings"]}
    assert found["bare"] == {"proof.missing"}
    assert found["heard"] <= {"proof.replayed", "proof.late"}


@pytest.mark.usefixtures("token")
@pytest.mark.attack(number=115, attacker="the process itself", asset=SIGNING)
def test_115_the_right_step_of_another_job(build: Build) -> None:
    """The same program of the same controller is another job's, and its relying party sees it."""
    build.open_job("build-18")
    said = build.launch("stray", "signer", job="build-18", signs=SIGNATURE)
    assert "granted spiffe" in said
    assert "build.of-another-job" in said
    assert "answer 403" in said


def ends(build: Build, token: str, happens: Callable[[], object]) -> tuple[str, float]:
    """Let something happen; return why the token was revoked then, and after how many seconds."""
    jti = wit.read_unverified(token).jti

    def cause() -> str:
        return next(str(one["cause"]) for one in build.world.credentials() if one["jti"] == jti)

    assert cause() == ""
    happens()
    started = time.monotonic()
    found = wait(cause, 60, "the end of the step's credential")
    return found, time.monotonic() - started


@pytest.mark.usefixtures("token")
def test_a_job_that_is_ended(build: Build) -> None:
    """The last one that was opened: its step loses its credential, and the other job's does not."""
    stray = line_of(build.world.output("stray"), "token ")
    cause, seconds = ends(build, stray, lambda: build.tell("end"))
    assert (cause, seconds <= END_SECONDS) == ("job.ended", True), seconds
    assert reasons(build.ask("stray", SIGNATURE)) == {"job.ended"}
    assert "answer 200" in build.ask("signer", SIGNATURE)


@pytest.mark.attack(number=102, attacker="time", asset="the access", outcome="detected")
def test_the_controller_is_killed(build: Build, token: str) -> None:
    live = [one for one in build.world.credentials() if one["status"] == "valid"]
    assert {one["workload"] for one in live} == {CONTROLLER, SIGNER}
    cause, seconds = ends(build, token, build.kill)
    assert (cause, seconds <= END_SECONDS) == ("parent.ended", True), seconds
    assert reasons(build.ask("signer", SIGNATURE)) == {"parent.ended"}
    assert (
        json.loads(
            build.world.machine.run("attestor status --json", user="payments", timeout=60).output
        )["yours"]
        == []
    )
