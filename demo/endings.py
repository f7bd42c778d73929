"""Scenes of credentials that end: with their process, its program, or their node's trust."""

import json
import time

from demo.attacker import attack
from demo.golden import cause_of_end, live_token, start_golden
from demo.said import reasons_in
from demo.scene import Played
from demo.waiting import PATIENCE_SECONDS, wait
from demo.world import INTERVAL_SECONDS, World


def play_gone(world: World) -> Played:
    """End the golden process, and see its credential end."""
    jti = live_token(world)
    started = time.monotonic()
    world.machine.run(f"kill -KILL {world.golden}").check()
    cause = wait(lambda: cause_of_end(world, jti), PATIENCE_SECONDS, "the credential's end")
    seconds = time.monotonic() - started
    held = json.loads(
        world.machine.run("attestor status --json", user="payments", timeout=60).output
    )
    signs = bool(held["yours"])
    return Played(
        got="granted" if signs else "revoked",
        reasons=(cause,),
        why=(
            f"revoked {seconds:.1f} s after the process was killed",
            f"keys that the attestor still holds for this user: {len(held['yours'])}",
        ),
    )


def play_text_patched(world: World) -> Played:
    """Let a process of the same user change the text of a golden one that has its credential."""
    pid, jti = start_golden(world, "victim")
    attack(world, f"patch {pid}")
    before = len(world.output("victim").splitlines())
    world.machine.run("echo 'POST /post' >/tmp/victim.in").check()
    lines = wait(
        lambda: world.output("victim").splitlines()[before:], PATIENCE_SECONDS, "an answer"
    )
    cause = wait(lambda: cause_of_end(world, jti), PATIENCE_SECONDS, "the credential's end")
    world.machine.run(f"kill -KILL {pid}").check()
    refusals = reasons_in("\n".join(lines))
    return Played(
        got="refused" if refusals else "granted",
        reasons=(*refusals, cause),
        why=("eight bytes of its text were changed, and it asked for a proof:", *lines),
    )


def play_exec_after(world: World) -> Played:
    """Let a golden process that has its credential execute another program, also known."""
    pid, jti = start_golden(world, "changeling")
    attack(world, f"execute {pid} /usr/bin/cat")
    started = time.monotonic()
    cause = wait(lambda: cause_of_end(world, jti), PATIENCE_SECONDS, "the credential's end")
    seconds = time.monotonic() - started
    now = world.machine.run(f"readlink /proc/{pid}/exe").check().output
    world.machine.run(f"kill -KILL {pid}").check()
    return Played(
        got="revoked" if now == "/usr/bin/cat" else "granted",
        reasons=(cause,),
        why=(
            f"pid {pid}, its start and its parent are the same; it runs {now} now",
            f"revoked {seconds:.1f} s later",
        ),
    )


def play_unknown_root_program(world: World) -> Played:
    """Run a program that nobody knows as root, beside a golden process that has a credential."""
    world.golden, jti = start_golden(world, "again")
    world.machine.run("cp /usr/bin/true /root/unknown && echo >>/root/unknown").check()
    started = time.monotonic()
    world.machine.run("/root/unknown").check()
    cause = wait(lambda: cause_of_end(world, jti), PATIENCE_SECONDS, "the credential's end")
    seconds = time.monotonic() - started
    refusal = _last_refusal(world)
    return Played(
        got="revoked",
        reasons=(cause, *(one["reason"] for one in refusal)),
        why=(
            f"revoked {seconds:.1f} s later; the node brings evidence every {INTERVAL_SECONDS} s",
            *(_told(one) for one in refusal),
        ),
    )


def _last_refusal(world: World) -> list[dict[str, str]]:
    """Return the findings of the node's last refused evidence."""
    rows = world.operator("ledger", "tail", "-n", "50")
    refused = [row for row in rows if row["kind"] == "evidence.refused"]
    findings: list[dict[str, str]] = refused[-1]["body"]["findings"] if refused else []
    return findings


def _told(finding: dict[str, str]) -> str:
    return f"{finding['what']}: expected {finding['expected']}, found {finding['found']}"
