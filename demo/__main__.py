"""`make demo`: play every scene; exit 0 only if each ended as expected."""

import argparse
import json
import sys
import time
from pathlib import Path

from demo.scene import record, tell
from demo.scenes import SCENES
from demo.world import World
from swtpm import Failed

RESULT = Path("build/demo.json")


def main(argv: list[str] | None = None) -> int:
    """Play the demo and write build/demo.json."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--kernel", default="6.12", choices=["6.12", "6.1"])
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    try:
        with World.build(kernel=arguments.kernel) as world:
            records = []
            for scene in SCENES:
                played = scene.play(world)
                tell(scene, played)
                records.append(record(scene, played))
    except Failed as error:
        print(f"\nthe demo could not be played: {error}", file=sys.stderr)
        return 3
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
