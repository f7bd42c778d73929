"""Scenes of a build: its steps have an identity of their own, for one job."""

import json
import time
from http import HTTPStatus

from credential import wit
from demo.build import SIGNATURE, Build
from demo.golden import cause_of_end
from demo.said import last_answer, line_after, reasons_in
from demo.scene import Played
from demo.waiting import PATIENCE_SECONDS, wait
from demo.world import World


def play_build_step(world: World) -> Played:
    """Let a build's controller have a program launched that signs."""
    build = Build(world)
    build.start()
    build.open_job("build-17")
    said = build.launch("signer", "signer", job="build-17", signs=SIGNATURE)
    if "answer 200 " not in said:
        return Played(got="refused", reasons=reasons_in(said), why=tuple(said.splitlines()))
    why = (
        "the controller has a job, build-17, and the attestor launched the signer for it",
        f"credential {line_after(said, 'granted ')}",
        f"the relying party takes it from a step of that job: {last_answer(said)[1]}",
    )
    return Played(got="granted", reasons=(), why=why)


def play_build_helper(world: World) -> Played:
    """Let a helper of the controller's launch the signer: it was not given the job."""
    said = Build(world).launch("helper", "signer", job="", signs=SIGNATURE, is_given=False)
    return Played(
        got="granted" if "granted " in said else "refused",
        reasons=reasons_in(said),
        why=("a child of the controller's, while the job is open:", *said.splitlines()),
    )


def play_other_job(world: World) -> Played:
    """Let the controller have the same program launched for another job, and sign this one."""
    build = Build(world)
    build.open_job("build-18")
    status, body = last_answer(build.launch("stray", "signer", job="build-18", signs=SIGNATURE))
    findings = json.loads(body).get("findings", [])
    return Played(
        got="granted" if status == HTTPStatus.OK else "refused",
        reasons=tuple(one["reason"] for one in findings),
        why=(
            "its token names the job that it is a step of",
            *(f"expected {one['expected']}, found {one['found']}" for one in findings),
        ),
    )


def play_build_over(world: World) -> Played:
    """End the controller, and see the credential of its step end."""
    build = Build(world)
    jti = wit.read_unverified(line_after(world.output("signer"), "token ")).jti
    started = time.monotonic()
    build.kill()
    cause = wait(
        lambda: cause_of_end(world, jti), PATIENCE_SECONDS, "the end of the step's credential"
    )
    seconds = time.monotonic() - started
    said = build.ask("signer", SIGNATURE)
    return Played(
        got="revoked" if reasons_in(said) else "granted",
        reasons=(cause,),
        why=(
            f"revoked {seconds:.1f} s after the controller was killed",
            "the step itself runs, and asks for a proof:",
            *said.splitlines(),
        ),
    )
