"""`make demo`: play every scene, exit 0 if each ended as expected. `make lab`: give a shell."""

import argparse
import json
import sys
import time
from pathlib import Path

from demo.names import NODE
from demo.scene import record, tell
from demo.scenes import SCENES
from demo.stage import Setting, set_up
from demo.world import World
from swtpm import Failed
from swtpm.terminal import interact

RESULT = Path("build/demo.json")


def main(argv: list[str] | None = None) -> int:
    """Play the demo and write build/demo.json, or give a shell; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--kernel", default="6.12", choices=["6.12", "6.1"])
    parser.add_argument(
        "--firmware", action="store_true", help="boot through UEFI firmware with Secure Boot"
    )
    parser.add_argument(
        "--shell", action="store_true", help="play nothing: a root shell in the enrolled machine"
    )
    arguments = parser.parse_args(argv)
    try:
        with set_up(Setting(kernel=arguments.kernel, firmware=arguments.firmware)) as world:
            return _give_shell(world) if arguments.shell else _play(world)
    except Failed as error:
        print(f"\nthe demo could not be played: {error}", file=sys.stderr)
        return 3


def _give_shell(world: World) -> int:
    print(
        f"\n{NODE} is enrolled. On this host, the verifier's commands take"
        f"\n    --config {world.config}\nIn the machine, `attestor status` says what is going on."
    )
    interact(world.machine)
    return 0


def _play(world: World) -> int:
    started = time.monotonic()
    records = []
    for scene in SCENES:
        played = scene.play(world)
        tell(scene, played)
        records.append(record(scene, played))
    RESULT.write_text(json.dumps(records, indent=2) + "\n")
    failed = [one["scene"] for one in records if one["expected"] != one["got"]]
    seconds = time.monotonic() - started
    if failed:
        print(f"\n{len(failed)} of {len(records)} scenes did not end as expected: {failed}")
        return 1
    print(f"\nall {len(records)} scenes ended as expected, in {seconds:.0f} s; see {RESULT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
