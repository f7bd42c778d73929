"""Link 3 on real parts: a boot through firmware that a policy knows, and one that it does not."""

import json
from typing import Any

import pytest

from demo.golden import UNIT, ask
from demo.identities import play_golden
from demo.said import last_answer
from demo.stage import Setting, set_up
from demo.world import World
from verifier import Reason

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(600)]


def findings(world: World) -> list[dict[str, str]]:
    """Return why the node's evidence was refused last, nothing where it never was."""
    rows = world.operator("ledger", "tail", "-n", "1000")
    refused = [row for row in rows if row["kind"] == "evidence.refused"]
    told: list[dict[str, str]] = refused[-1]["body"]["findings"] if refused else []
    return told


def test_a_known_boot_reaches_a_level_and_another_command_line_is_refused() -> None:
    """The policy is made as an operator makes it, from the log of a boot that he trusts."""
    with set_up(Setting(kernel="6.12", firmware=True, minimum="L1")) as world:
        # (1) Nobody has judged the boot: the node is accepted, and its level is too low.
        early = ask(world, "payments", UNIT, "/usr/bin/payments", "early")
        assert early.reasons == (Reason.PROCESS_LEVEL,), early

        # (2) The boot is declared good: from now on it is the only good one.
        line = world.machine.get("/proc/cmdline").decode().rstrip("\n")
        world.trust_boot()
        policy = world.directory / "boot-policy.toml"
        assert 'secure_boot = "on"' in policy.read_text()

        # (3) The relying party checks with minimum="L1", and lets the program in, whose user has
        # no process outside its unit.
        played = play_golden(world)
        assert played.got == "granted", played
        assert answer(world)["level"] == "L2"
        [token] = world.operator("credential", "list")
        assert token["status"] == "valid"

        # (4) The same machine with one word more on its command line.
        world.reboot(append="rd.break")
        world.serve_attestor()
        told = world.wait_for(lambda: findings(world), "the node to be refused")
        assert {one["reason"] for one in told} == {Reason.BOOT_COMMAND_LINE, Reason.BOOT_IMAGE}
        lines = [one for one in told if one["reason"] == Reason.BOOT_COMMAND_LINE]
        assert [one["what"].split(",")[0] for one in lines] == [
            ".cmdline",
            "LOADED_IMAGE::LoadOptions",
        ]
        assert {one["expected"] for one in lines} == {line}
        [token] = world.operator("credential", "list", "--all")
        assert token["cause"] == "node.rebooted"


def answer(world: World) -> dict[str, Any]:
    """Return what the relying party knows of the golden program."""
    _, body = last_answer(world.output("golden"))
    told: dict[str, Any] = json.loads(body)
    return told
