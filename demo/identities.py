"""Scenes of programs that ask for the payment program's identity."""

import json
from http import HTTPStatus

from demo.attacker import ATTACKS
from demo.golden import ARGUMENTS, UNIT, ask
from demo.said import last_answer, line_after, reasons_in
from demo.scene import Played
from demo.world import World
from swtpm import Failed

PRELOADED = "/home/payments/preloaded.so"
PATCHED_BYTE = b"revision 1", b"revision 2"
"""The one byte by which the patched program differs."""


def play_golden(world: World) -> Played:
    """Run the payment program in its unit; it asks, and calls the relying party."""
    world.golden = world.start_as(
        "payments", UNIT, f"/usr/bin/payments {ARGUMENTS} -t -k /post", "golden"
    )
    said = world.wait_for_output("golden", "answer ")
    status, body = last_answer(said)
    world.token = line_after(said, "token ")
    if status != HTTPStatus.OK:
        return Played(got="refused", reasons=reasons_in(said), why=tuple(said.splitlines()))
    who = json.loads(body)
    why = (
        f"{who['executable']} is what the operator knows as payments",
        "it runs as its user, in its unit, and maps nothing but known files",
        f"credential {line_after(said, 'granted ')}",
        f"the relying party let it in: {body}",
    )
    return Played(got="granted", reasons=(), why=why)


def play_patched(world: World) -> Played:
    """Let an ordinary user run a copy of the payment program with one byte changed."""
    program = world.machine.get("/usr/bin/payments")
    changed = program.replace(*PATCHED_BYTE)
    if sum(a != b for a, b in zip(program, changed, strict=True)) != 1:
        raise Failed("expected to change exactly one byte of the payment program")
    world.machine.put("/home/alice/payments", changed, owner="alice", mode=0o755)
    return ask(world, "alice", "alice.service", "/home/alice/payments", "patched")


def play_preloaded(world: World) -> Played:
    """Start the payment program, as its user, with a library of that user's in it."""
    library = (ATTACKS / "preloaded.so").read_bytes()
    world.machine.put(PRELOADED, library, owner="payments", mode=0o755)
    program = f"env LD_PRELOAD={PRELOADED} /usr/bin/payments"
    played = ask(world, "payments", UNIT, program, "preloaded")
    if not any(line.startswith("preloaded: ") for line in played.why):
        raise Failed("the library was not in the program")
    return played


def play_sibling(world: World) -> Played:
    """Let another known program of the same user, in the same unit, ask for the same identity."""
    return ask(world, "payments", UNIT, "/usr/bin/sibling", "sibling")
