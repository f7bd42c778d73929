"""What watching costs a node: an attestor with 200 processes, at the interval of 30 s.

Real daemon, real processes of several mapped files, a software TPM (not counted), a real verifier
(neither). Needs root, as the attestor's looks at other users' processes do here.
"""

import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from credential import local
from swtpm import Manufacturer
from tests.attestor.puppets import SOURCE, LocalPuppet
from tests.attestor.world import ATTACHED_ID, OTHERS, World, open_world

PROCESSES = 200
INTERVAL_SECONDS = 30
INTERVALS = 2
MOST_PERCENT = 5.0
AT_ONCE = 16
"""Puppets that ask for their credential at a time."""
LIBRARIES = ("-lssl", "-lcrypto", "-lz", "-lm")
KNOWN = ("/usr/bin/openssl", "/usr/bin/python3")
"""Programs whose libraries the verifier knows besides, and with them the puppet's."""
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def show_watching() -> int:
    """Print the share of a core; return whether it is too much."""
    print(f"\nwatching {PROCESSES} processes, next to a core's time (some minutes):", flush=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        manufacturer = Manufacturer.at(directory / "manufacturer")
        world = stack.enter_context(
            open_world(
                manufacturer,
                manufacturer.make_tpm(directory / "tpm"),
                interval=f"{INTERVAL_SECONDS}s",
                make_puppet=_build,
                others=(*OTHERS, *KNOWN),
                user_requests_per_minute=60_000,
                most_user_waiting=4 * AT_ONCE,
            )
        )
        files = _start(world, PROCESSES, stack)
        percent = _measure(world, INTERVALS)
    most = MOST_PERCENT / 100
    print(f"  {percent / 100:7.4f}  {files} mapped files each; at most {most:.2f} is allowed")
    return int(percent > MOST_PERCENT)


def _build(target: Path) -> Path:
    """Compile a puppet with libraries, as programs have them."""
    subprocess.run(  # noqa: S603 - the project's own source
        ["/usr/bin/gcc", "-O2", "-Wl,--no-as-needed", "-o", target, SOURCE, *LIBRARIES], check=True
    )
    return target


def _start(world: World, count: int, stack: ExitStack) -> int:
    """Start so many processes with a credential each; return how many files one maps."""
    puppets = [stack.enter_context(world.start_puppet()) for _ in range(count)]

    def obtain(puppet: LocalPuppet) -> None:
        answer = puppet.obtain(world.socket, ATTACHED_ID)
        if not isinstance(answer, local.Credential):
            raise SystemExit(f"no credential: {answer}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(obtain, puppets))
    maps = Path(f"/proc/{puppets[0].pid}/maps").read_text().splitlines()
    return len({line.split()[5] for line in maps if " r-xp " in line and "/" in line})


def _measure(world: World, intervals: int) -> float:
    """Return the share of a core that the attestor's processes take, in per cent."""
    before, started = world.status(), time.monotonic()
    cpu = _cpu_seconds(world.attestor_pid)
    shares = {pid: -seconds for pid, seconds in cpu.items()}
    time.sleep(intervals * INTERVAL_SECONDS)
    for pid, seconds in _cpu_seconds(world.attestor_pid).items():
        shares[pid] = shares.get(pid, 0) + seconds
    taken = time.monotonic() - started
    rounds = world.status()["rounds"] - before["rounds"]
    each = ", ".join(f"{seconds:.2f}" for seconds in shares.values())
    print(f"  {rounds} rounds in {taken:.0f} s; CPU seconds of each of its processes: {each}")
    return 100 * sum(shares.values()) / taken


def _cpu_seconds(pid: int) -> dict[int, float]:
    """Return the CPU seconds so far of a process and its descendants, by pid (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    found = {pid: (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found |= _cpu_seconds(int(child))
    return found
