"""What looking at a process costs next to hashing what it has mapped, as root.

A Python program that maps a dozen files is looked at as the attestor does it: for the first time,
with every file hashed; again, when nothing has changed; and by the glance before each proof.
"""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from attestor.digests import Digests
from attestor.interpreter import resolve
from attestor.look import Codes, Pins, glance, look, pin
from attestor.modules import ModuleTrees
from attestor.sharers import Sharers
from benchmarks.timing import Figure, measure
from evidence.modules import ModuleTree

PROGRAM = "import bz2, lzma, ssl, zlib; print(flush=True); input()"
MOST_FILE_BYTES = 512 << 20
MOST_AGAIN_SECONDS = 0.005
"""For a process with 12 mapped files of which nothing has changed (issue 4)."""


def show_looking(rounds: int) -> int:
    """Print what each way to look takes; return whether looking again takes too long."""
    with subprocess.Popen(  # noqa: S603 - this program, with constant arguments
        ["/usr/bin/python3", "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pins = pin(os.pidfd_open(process.pid))
        again = _show_looks(pins, rounds)
        pins.close()
        process.kill()
    _show_modules(rounds)
    return int(again > MOST_AGAIN_SECONDS)


def _show_looks(pins: Pins, rounds: int) -> float:
    """Print the looks at a process; return the seconds of looking again."""
    known, sharers = Codes(Digests(most_bytes=MOST_FILE_BYTES)), Sharers()
    seen, _ = look(pins, known, sharers)
    seconds, figures = measure(
        lambda: look(pins, Codes(Digests(most_bytes=MOST_FILE_BYTES)), Sharers()),
        {
            "again": lambda: look(pins, known, sharers),
            "again, after a while": lambda: look(pins, known, Sharers()),
            "the glance before a proof": lambda: glance(pins),
        },
        rounds=rounds,
    )
    size = sum(file.size for file in seen.files)
    what = f"a process with {len(seen.files)} mapped files, {size / 1e6:.1f} MB"
    _show(f"{what}, all hashed", seconds, figures)
    return figures[0].seconds


def _show_modules(rounds: int) -> None:
    """Print the listing of what a Python program could import: once for each round."""
    with TemporaryDirectory() as directory:
        script = Path(directory, "agent.py")
        script.touch()
        program = resolve("/usr/bin/python3", str(script))
        known = ModuleTrees(Digests(most_bytes=MOST_FILE_BYTES), lasts_seconds=0)
        listed = ModuleTree.decode(known.of(program).encoded).modules
        seconds, figures = measure(
            lambda: ModuleTrees(Digests(most_bytes=MOST_FILE_BYTES)).of(program),
            {"again": lambda: known.of(program)},
            rounds=rounds,
        )
    _show(f"{len(listed)} modules of an interpreter, all hashed", seconds, figures)


def _show(what: str, seconds: float, figures: list[Figure]) -> None:
    print(f"\n{what} in {1000 * seconds:.2f} ms; next to that:")
    for figure in figures:
        print(f"  {figure.ratio:5.2f}  {1000 * figure.seconds:9.2f} ms  {figure.name}")
