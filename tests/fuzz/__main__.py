"""`make fuzz`: run every target for a while, each in a process of its own, and say what came of it.

The growing corpus is kept in build/fuzz/TARGET, outside the repository. What is found is written
to tests/fuzz/found/TARGET, where `tests/fuzz/test_found.py` tries it for ever after.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.canary import CANARY
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
FOUND = ROOT / "tests" / "fuzz" / "found"
CORPUS = ROOT / "build" / "fuzz"

INPUT_SECONDS = 5
"""One input that takes longer has been found, as is one that needs more memory than this."""
MOST_MEGABYTES = 1024
EVERY_SECONDS = 10
"""Between two lines of progress."""

_PULSE = re.compile(
    r"#(\d+)\s+\S+\s+(?:cov: (\d+) ft: \d+ )?corp: (\d+)/\S+.* exec/s: (\d+) rss: (\d+)Mb"
)

CLEAN, NOT_CLEAN, MISUSED = 0, 1, 2


@dataclass(slots=True, kw_only=True)
class Run:
    """What is known of one target's run, the last that it said."""

    name: str
    seconds: float = 0
    executions: int = 0
    coverage: int = 0
    """Edges of our own code."""
    corpus: int = 0
    """Inputs of which each reaches something that no other does."""
    megabytes: int = 0
    found: tuple[Path, ...] = ()
    is_broken: bool = False
    """The target ended by itself, and found nothing: it could not be run."""

    def row(self) -> str:
        """Return the line of the table."""
        result = "could not be run" if self.is_broken else str(len(self.found))
        rate = self.executions / self.seconds if self.seconds else 0
        return (
            f"{self.name:<18} {self.seconds:>8.0f} {self.executions:>11} {rate:>8.0f} "
            f"{self.coverage:>6} {self.corpus:>7} {self.megabytes:>6}  {result}"
        )


HEADING = (
    f"{'target':<18} {'seconds':>8} {'executions':>11} {'per s':>8} "
    f"{'edges':>6} {'corpus':>7} {'MB':>6}  found"
)


def fuzz(name: str, target: Target, *, seconds: int, found: Path, corpus: Path) -> Run:
    """Run one target for so many seconds, or until it finds something."""
    found, corpus = found / name, corpus / name
    found.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    with tempfile.TemporaryDirectory() as seeds:
        for number, seed in enumerate(target.seeds()):
            Path(seeds, f"{number:04}").write_bytes(seed)
        started = time.monotonic()
        run, code, said = _run(name, _command(name, seconds, found, corpus, seeds))
    run.seconds = time.monotonic() - started
    run.found = tuple(sorted(set(found.iterdir()) - before))
    run.is_broken = code != 0 and not run.found
    if code != 0:
        print(said)
    if not any(found.iterdir()):
        found.rmdir()
    return run


def _command(name: str, seconds: int, found: Path, corpus: Path, seeds: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tests.fuzz.engine", name),
        f"-max_total_time={seconds}",
        f"-timeout={INPUT_SECONDS}",
        f"-rss_limit_mb={MOST_MEGABYTES}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
        *(str(corpus), seeds, str(FOUND / name)),
    ]


def _run(name: str, command: list[str]) -> tuple[Run, int, str]:
    """Run the engine and say how far it is; return its exit status and its last words too."""
    if not Path(command[-1]).is_dir():
        command = command[:-1]
    run, said, spoken = Run(name=name), list[str](), time.monotonic()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
    ) as engine:
        assert engine.stdout is not None
        for line in engine.stdout:
            said = [*said[-40:], line]
            _note(run, line)
            if time.monotonic() - spoken >= EVERY_SECONDS:
                spoken = time.monotonic()
                rate = f"{run.executions} executions, {run.coverage} edges, corpus {run.corpus}"
                print(f"{name}: {rate}, {run.megabytes} MB", flush=True)
    return run, engine.returncode, "".join(said)


def _note(run: Run, line: str) -> None:
    if (match := _PULSE.match(line)) is not None:
        executions, coverage, corpus, _, megabytes = match.groups()
        run.executions, run.corpus, run.megabytes = int(executions), int(corpus), int(megabytes)
        run.coverage = int(coverage or 0)
    if line.startswith("stat::number_of_executed_units:"):
        run.executions = int(line.rpartition(":")[2])


def main(argv: list[str] | None = None) -> int:
    """Run the targets one after the other; return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="by default all of them")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--found", type=Path, default=FOUND, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    known = TARGETS | CANARY
    unknown = sorted(set(arguments.targets) - set(known))
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    os.environ["PYTHONPATH"] = str(ROOT)
    runs = []
    for name in arguments.targets or TARGETS:
        print(f"{name}: {arguments.seconds} s", flush=True)
        places = {"found": arguments.found, "corpus": arguments.corpus}
        runs.append(fuzz(name, known[name], seconds=arguments.seconds, **places))
    print("\n".join([HEADING, *(run.row() for run in runs)]))
    return _conclude(runs)


def _conclude(runs: list[Run]) -> int:
    """Say what to do about what was found."""
    found = [path for run in runs for path in run.found]
    for path in found:
        print(f"found: {path}")
    if found:
        print(
            "\nEach of these bytes makes its target raise what it may not, or takes too long.\n"
            "See how:  python -m pytest tests/fuzz/test_found.py\n"
            "Then mend the parser, and keep the file where it is: the test tries it from now on.\n"
            "If it came from somebody else's file, write bytes of our own that show the same."
        )
    if any(run.is_broken for run in runs):
        return MISUSED
    return NOT_CLEAN if found else CLEAN


if __name__ == "__main__":
    sys.exit(main())
