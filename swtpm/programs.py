"""Starting other programs, and saying what is going on."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

BUILD = ROOT / "build"
"""Everything that set-up makes; safe to delete."""


class Failed(Exception):
    """A program or a step of the set-up did not do its work; the message says what to do next."""


def say(text: str) -> None:
    """Tell the person who waits what is being done."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def run(
    *argv: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    data: bytes | None = None,
) -> bytes:
    """Return what a program wrote to its standard output; raise Failed with its complaint."""
    command = [str(word) for word in argv]
    need(command[0])
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip()[-2000:]
        raise Failed(f"{' '.join(command)} ended with {done.returncode}: {complaint}")
    return done.stdout


def need(program: str) -> None:
    """Raise Failed if a program is not installed."""
    if shutil.which(program) is None:
        raise Failed(f"{program} is not installed; run: make setup")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Let one process at a time make things in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
