"""How long it takes to look at a process: `python -m benchmarks.look [--json]`, as root.

A Python program that maps a dozen files is looked at as the attestor does it: for the first time,
with every file hashed; again, when nothing has changed; and by the glance before each proof.
Times are of the processor, the best and the middle one of many, in milliseconds. Exit status 1
where looking again takes more than LIMIT_MS.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from attestor.digests import Digests
from attestor.interpreter import resolve
from attestor.look import Codes, Pins, glance, look, pin
from attestor.modules import ModuleTrees
from attestor.sharers import Sharers
from evidence.modules import ModuleTree

PROGRAM = "import bz2, lzma, ssl, zlib; print(flush=True); input()"
MOST_FILE_BYTES = 512 << 20
TIMES = 200
LIMIT_MS = 5.0
"""For a process with 12 mapped files (issue 4)."""


def main() -> int:
    """Measure, print, compare with the limit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    wants_json = parser.parse_args().json
    with subprocess.Popen(  # noqa: S603 - this program, with constant arguments
        ["/usr/bin/python3", "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pins = pin(os.pidfd_open(process.pid))
        found = measure(pins)
        pins.close()
        process.kill()
    print(json.dumps(found) if wants_json else text(found))
    return 1 if found["look again"]["best"] > LIMIT_MS else 0


def measure(pins: Pins) -> dict[str, dict[str, float]]:
    """Return the times of each way to look."""
    known, sharers = Codes(Digests(most_bytes=MOST_FILE_BYTES)), Sharers()
    seen, _ = look(pins, known, sharers)
    return {
        "process": {
            "files": len(seen.files),
            "bytes": sum(file.size for file in seen.files),
            "text_bytes": sum(mapping.length for mapping in seen.mappings),
        },
        "look, hashing every file": timed(
            lambda: look(pins, Codes(Digests(most_bytes=MOST_FILE_BYTES)), Sharers()),
            times=TIMES // 10,
        ),
        "look again": timed(lambda: look(pins, known, sharers)),
        "look again, after a while": timed(lambda: look(pins, known, Sharers())),
        "glance before a proof": timed(lambda: glance(pins)),
        **measure_modules(),
    }


def measure_modules() -> dict[str, dict[str, float]]:
    """Return the times of listing what a Python program could import: once for each round."""
    with TemporaryDirectory() as directory:
        script = Path(directory, "agent.py")
        script.touch()
        program = resolve("/usr/bin/python3", str(script))
        known = ModuleTrees(Digests(most_bytes=MOST_FILE_BYTES), lasts_seconds=0)
        listed = ModuleTree.decode(known.of(program).encoded).modules
        return {
            f"{len(listed)} modules, hashed": timed(
                lambda: ModuleTrees(Digests(most_bytes=MOST_FILE_BYTES)).of(program),
                times=TIMES // 20,
            ),
            f"{len(listed)} modules again": timed(lambda: known.of(program)),
        }


def timed(work: Callable[[], object], *, times: int = TIMES) -> dict[str, float]:
    """Return how long some work takes, in milliseconds."""
    took = []
    for _ in range(times):
        before = time.process_time_ns()
        work()
        took.append((time.process_time_ns() - before) / 1e6)
    return {"best": round(min(took), 3), "median": round(statistics.median(took), 3)}


def text(found: dict[str, dict[str, float]]) -> str:
    """Return the same for people."""
    process = found.pop("process")
    lines = [f"{process['files']} files of {process['bytes'] / 1e6:.1f} MB"]
    lines += [
        f"{what:<26} best {one['best']:8.3f} ms   median {one['median']:8.3f} ms"
        for what, one in found.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
