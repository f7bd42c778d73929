"""The programs of ours that run on the host: the verifier and the relying party."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.names import ISSUER, LEDGER
from demo.waiting import wait
from swtpm import Failed

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.executable).parent
"""Where `verifier` is."""
LISTEN_SECONDS = 20


def verifier_command(config: Path) -> list[str | Path]:
    """Return how the verifier is started."""
    return [PROGRAMS / "verifier", "serve", "--config", config]


def ledger_command(keys: Path, verifier_port: int, minimum: str) -> list[str | Path]:
    """Return how the relying party is started; `minimum` is the level that it asks for."""
    allowed = ["--allow-lab"] if minimum == "lab" else []
    return [
        sys.executable, HERE / "relying_party.py", "--cert", keys / "ledger.pem",
        "--key", keys / "ledger.key", "--keys-url", f"https://127.0.0.1:{verifier_port}/v1/keys",
        "--ca", keys / "ca.pem", "--audience", LEDGER, "--minimum", minimum, *allowed,
        "--verifier", ISSUER, "--reached-at", f"https://127.0.0.1:{verifier_port}",
    ]  # fmt: skip


@contextmanager
def running(name: str, directory: Path, command: list[str | Path]) -> Iterator[int]:
    """Run a server; give the port that its first line names; end it."""
    path = directory / f"{name}.log"
    log = path.open("wb")
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        yield wait(lambda: _port(path, process), LISTEN_SECONDS, f"the {name} to listen")
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()


def _port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    text = log.read_text()
    if process.poll() is not None:
        raise Failed(f"ended at once:\n{text}")
    found = re.search(r"listen.*?(\d+)/?$", text, re.MULTILINE)
    return int(found[1]) if found else 0
