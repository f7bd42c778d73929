"""Why a process is no longer what it was, for real processes of this machine."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from attestor.look import pin
from attestor.watch import cause_of_end
from tests.attestor.conftest import Server
from tests.attestor.puppets import LocalPuppet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes")


def test_a_process_that_hangs_up_then_executes_then_ends() -> None:
    with subprocess.Popen(
        ["/bin/sh", "-c", "read line; exec sleep 100"], stdin=subprocess.PIPE
    ) as process:
        pidfd = os.pidfd_open(process.pid)
        pins = pin(pidfd)
        assert cause_of_end(pins) == "process.exited"  # it is as it was, and has hung up
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        while str(Path(f"/proc/{process.pid}/exe").readlink()) != "/usr/bin/sleep":
            time.sleep(0.01)
        assert cause_of_end(pins) == "process.executed"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie has a pid, no memory
        assert cause_of_end(pins) == "process.exited"
    assert cause_of_end(pins) == "process.exited"
    pins.close()
    os.close(pidfd)


def test_a_process_that_is_ending_has_executed_nothing() -> None:
    """While its memory is gone and it is not dead yet, as one of many threads ends slowly."""
    for _ in range(20):
        with subprocess.Popen(["/usr/bin/sleep", "100"]) as process:
            pidfd = os.pidfd_open(process.pid)
            pins = pin(pidfd)
            process.kill()
            found = {cause_of_end(pins) for _ in range(200)}
            assert found == {"process.exited"}
            pins.close()
            os.close(pidfd)


@pytest.mark.attack(number=79, attacker="the process itself", asset="the attestor's time")
def test_a_process_that_has_the_kernel_hold_its_memory(server: Server, puppet_path: Path) -> None:
    """Who reads its mappings waits for a server that takes no writes; the daemon does not.

    Since Linux 6.17 that is so of smaps, before of maps too, which the watch once read.
    """
    _, program = server
    with LocalPuppet(puppet_path, uid=0) as puppet:
        pidfd = os.pidfd_open(puppet.pid)
        pins = pin(pidfd)
        puppet.do(f"hold {program}")
        time.sleep(0.5)
        smaps = f"/proc/{puppet.pid}/smaps"
        with subprocess.Popen(["/usr/bin/cat", smaps], stdout=subprocess.DEVNULL) as reader:
            started = time.monotonic()
            assert pins.has_its_memory()
            assert cause_of_end(pins) == "process.exited"  # it is as it was, and has hung up
            assert time.monotonic() - started < 2
            assert reader.poll() is None, "it had an answer"
            reader.kill()
        server[0].kill()
    pins.close()
    os.close(pidfd)
