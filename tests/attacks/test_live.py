"""Attacks on what a look sees of a process, on the kernels that nodes have.

The node stays accepted through all of them; test_live_node.py has those that end its trust.
"""

import hashlib
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from credential import local
from demo.waiting import wait
from swtpm import Failed
from tests.attacks.machine import (
    ATTACHED_MODE,
    AUDIENCE,
    DYNAMIC,
    DYNAMIC_ID,
    ID,
    INJECTED,
    LAUNCHED_MODE,
    PATH,
    SERVED,
    SOCKET,
    UID,
    UNIT,
    USER,
    Machine,
    MachinePuppet,
    Start,
    in_both_modes,
)
from tests.attestor.puppets import packet, reasons

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(400)]

PROCESS = "the process itself"
SIBLING = "a process of the same user"
ANYBODY = "an ordinary user"
ROOT = "root on the node"
IDENTITY = "the identity"
CREDENTIAL = "the credential"

NEVER_RUN = "/usr/bin/tac"
"""Known, and nobody executes it."""
KNOWN_LIBRARY = "/usr/lib/x86_64-linux-gnu/libz.so.1"
"""Known, and not allowed for the workload."""
LIST = "/sys/kernel/security/ima/ascii_runtime_measurements"


# What is done to text


@in_both_modes
@pytest.mark.attack(number=50, attacker=SIBLING, asset=CREDENTIAL)
def test_050_text_changed_with_ptrace(machine: Machine, puppet: MachinePuppet) -> None:
    puppet.obtain_granted()
    with machine.puppet() as sibling:
        sibling.do(f"poke-other {puppet.pid}")
    assert puppet.why_no_proof() == ["process.text-patched"]


@in_both_modes
@pytest.mark.attack(number=50, attacker=SIBLING, asset=CREDENTIAL)
def test_050_a_tracer_of_one_thread(machine: Machine, puppet: MachinePuppet) -> None:
    """The first thread, of which /proc/PID/status speaks, has none."""
    thread = puppet.say("another")
    puppet.obtain_granted()
    with machine.puppet() as sibling:
        sibling.do(f"trace {thread}")
        assert puppet.why_no_proof() == ["process.traced"]


@in_both_modes
@pytest.mark.attack(number=51, attacker=PROCESS, asset=CREDENTIAL)
def test_051_text_changed_and_put_back(start: Start, puppet: MachinePuppet) -> None:
    """Each page is the file's again."""
    puppet.do("restore")
    assert puppet.why() == ["process.text-cut-in-pieces"]
    with start() as other:
        other.obtain_granted()
        other.do("restore")
        assert other.why_no_proof() == ["process.text-cut-in-pieces"]


@in_both_modes
@pytest.mark.attack(number=52, attacker=SIBLING, asset=CREDENTIAL)
def test_052_text_written_through_proc(machine: Machine, puppet: MachinePuppet) -> None:
    """No tracer at any moment. Debian's kernels of 7.2 and newer do not let it be done."""
    puppet.obtain_granted()
    with machine.puppet() as sibling:
        said = sibling.say(f"write-text {puppet.pid}")
    if machine.series >= (7, 0):
        assert said == "failed Input/output error"
        assert puppet.is_proven()
    else:
        assert said == "done"
        assert puppet.why_no_proof() == ["process.text-patched"]


@in_both_modes
@pytest.mark.attack(number=53, attacker=SIBLING, asset=CREDENTIAL, level="L2", outcome="residual")
def test_053_data_written_is_not_seen(machine: Machine, puppet: MachinePuppet) -> None:
    """What it does not prove, number 53: nobody knows what a program's data should be."""
    puppet.obtain_granted()
    assert puppet.say("value") == "1"
    with machine.puppet() as sibling:
        sibling.do(f"write-data {puppet.pid}")
    assert puppet.say("value") == "2"
    assert puppet.is_proven()


@in_both_modes
@pytest.mark.attack(number=128, attacker=SIBLING, asset=CREDENTIAL, level="L2", outcome="residual")
def test_128_a_proof_that_a_process_is_made_to_ask_for(
    machine: Machine, puppet: MachinePuppet
) -> None:
    """What it does not prove, number 128: no code is changed, and no tracer stays."""
    puppet.obtain_granted()
    asked = local.Prove(audience=AUDIENCE, method="POST", url=f"{AUDIENCE}/post")
    with machine.puppet() as sibling:
        sibling.do(f"force {puppet.pid} {packet(asked)}")
    assert isinstance(puppet.receive(), local.Proof)
    assert puppet.is_proven()


# What is mapped


@in_both_modes
@pytest.mark.attack(number=43, attacker=ROOT, asset=IDENTITY)
@pytest.mark.attack(number=54, attacker=PROCESS, asset=IDENTITY)
def test_054_a_file_that_became_executable_unmeasured(
    machine: Machine, puppet: MachinePuppet
) -> None:
    """Mapped to be read and made executable then; root's reading leaves no entry either (43)."""
    machine.run(f"cat {NEVER_RUN} >/dev/null")
    puppet.do(f"load-later {NEVER_RUN}")
    assert set(puppet.why()) == {
        "process.file-not-in-measurement-list",
        "process.mapped-file-not-allowed",
    }
    assert machine.run(f"grep -c '{NEVER_RUN}$' {LIST} || true") == "0"


@in_both_modes
@pytest.mark.attack(number=55, attacker=PROCESS, asset=CREDENTIAL)
def test_055_code_that_is_written_and_run(start: Start, puppet: MachinePuppet) -> None:
    puppet.do("jit")
    assert puppet.why() == ["process.anonymous-executable-memory"]
    with start() as other:
        other.obtain_granted()
        other.do("jit")
        assert other.why_no_proof() == ["process.anonymous-executable-memory"]


@in_both_modes
@pytest.mark.attack(number=57, attacker=ANYBODY, asset=IDENTITY)
def test_057_a_program_in_shared_memory(machine: Machine, start: Start) -> None:
    """Root's, and golden; but what is in memory is measured by no rule of older kernels."""
    path = "/dev/shm/puppet"
    machine.put(path, machine.programs.puppet)
    with start(path) as puppet:
        assert puppet.why() == ["process.file-on-unmeasured-file-system"]
    machine.run(f"rm {path}")


@in_both_modes
@pytest.mark.attack(number=58, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.attack(number=59, attacker=ANYBODY, asset=IDENTITY, outcome="survived")
def test_059_a_name_that_ends_in_deleted(machine: Machine, start: Start) -> None:
    """Names say nothing: one file is called so, and one is deleted."""
    path = "/usr/bin/puppet (deleted)"
    machine.put(path, machine.programs.puppet)
    with start(r"/usr/bin/puppet\ \(deleted\)") as puppet:
        puppet.obtain_granted()
        machine.run(f"rm {shlex.quote(path)}")
        assert puppet.why_no_proof() == ["process.file-deleted"]


@in_both_modes
@pytest.mark.attack(number=61, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize("variable", ["LD_PRELOAD", "LD_AUDIT"])
def test_061_a_library_brought_in_from_outside(
    machine: Machine, start: Start, variable: str
) -> None:
    with start(DYNAMIC, prefix=f"env {variable}={INJECTED}") as puppet:
        mapped = machine.run(f"grep -c {INJECTED} /proc/{puppet.pid}/maps")
        found = set(puppet.why(DYNAMIC_ID))
    assert int(mapped) > 0
    assert "process.file-writable-by-others-than-root" in found
    if variable == "LD_AUDIT":  # it has a linker's namespace, and a C library, of its own
        assert "process.mapping-not-as-the-program-headers" in found


@in_both_modes
@pytest.mark.attack(number=61, attacker=SIBLING, asset=IDENTITY)
def test_061_without_one_it_is_granted(start: Start) -> None:
    with start(DYNAMIC) as puppet:
        puppet.obtain_granted(DYNAMIC_ID)


@in_both_modes
@pytest.mark.attack(number=61, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.attack(number=62, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.parametrize("how", ["dlopen", "LD_PRELOAD"])
def test_062_a_library_that_is_golden_elsewhere(start: Start, how: str) -> None:
    prefix = f"env LD_PRELOAD={KNOWN_LIBRARY}" if how == "LD_PRELOAD" else ""
    with start(DYNAMIC, prefix=prefix) as puppet:
        if how == "dlopen":
            puppet.obtain_granted(DYNAMIC_ID)
            puppet.do(f"open {KNOWN_LIBRARY}")
            assert puppet.why_no_proof() == ["process.mapped-file-not-allowed"]
        else:
            assert puppet.why(DYNAMIC_ID) == ["process.mapped-file-not-allowed"]


@in_both_modes
@pytest.mark.attack(number=74, attacker=ANYBODY, asset=IDENTITY)
def test_074_a_file_made_shorter_by_its_path(machine: Machine, start: Start) -> None:
    """Older kernels do not measure it again; those that can be had here do. The look hashes it."""
    path = f"/home/{USER}/long"
    machine.put(path, machine.programs.puppet + b"\0\0", owner=USER)
    after = hashlib.sha256(machine.programs.puppet + b"\0").hexdigest()
    with machine.puppet(path):
        pass
    machine.run(
        f"python3 -c 'import os; os.truncate(\"{path}\", {len(machine.programs.puppet) + 1})'"
    )
    with start(path) as puppet:
        message = puppet.obtain(SOCKET, ID)
    assert reasons(message) == ["process.executable-unknown"]
    assert isinstance(message, local.Refusal)
    assert message.findings[0].found == f"sha256:{after}"


@in_both_modes
@pytest.mark.attack(number=76, attacker=ANYBODY, asset=IDENTITY, outcome="survived")
def test_076_another_name_of_the_same_file(machine: Machine, start: Start) -> None:
    machine.run(f"ln {PATH} /usr/bin/alias")
    with start("/usr/bin/alias") as puppet:
        puppet.obtain_granted()
        machine.run("mv /usr/bin/alias /usr/bin/other-alias")
        assert puppet.is_proven()
        machine.run("rm /usr/bin/other-alias")
        assert puppet.is_proven()


@in_both_modes
@pytest.mark.attack(number=77, attacker=ROOT, asset=IDENTITY)
def test_077_another_program_for_a_while(machine: Machine, start: Start) -> None:
    """A, then B, which is known too, then A again: what runs now decides, not the list's order."""
    path = "/usr/bin/flip"
    programs = machine.programs
    for program, expected in (
        (programs.puppet, []),
        (programs.earlier, ["process.executable-unknown"]),
        (programs.puppet, []),
    ):
        machine.put(path, program)
        with start(path) as puppet:
            answer = puppet.obtain(SOCKET, ID)
            assert (reasons(answer) if isinstance(answer, local.Refusal) else []) == expected
    machine.run(f"rm {path}")


@contextmanager
def served(machine: Machine) -> Iterator[tuple[str, int]]:
    """Mount a server's file system with the golden program in it; give its path and the pid."""
    directory = "/srv/remote"
    machine.load_modules()
    machine.run(f"mkdir -p {directory}; [ -e /dev/fuse ] || mknod /dev/fuse c 10 229")
    pid = machine.world.machine.start(f"{SERVED} {directory} {PATH}", output="/tmp/served.out")
    try:
        wait(lambda: "ready" in machine.run("cat /tmp/served.out"), 20, "the file server")
        yield f"{directory}/program", pid
    finally:
        machine.world.machine.run(f"kill -KILL {pid}; umount -l {directory}")


@in_both_modes
@pytest.mark.attack(number=75, attacker="a file server", asset=IDENTITY)
def test_075_a_golden_program_that_a_server_holds(
    machine: Machine, binding: str, puppet: MachinePuppet
) -> None:
    """It may answer differently the next time, and is not asked."""
    with served(machine) as (path, _):
        puppet.do(f"load {path}")
        assert "process.file-on-unmeasured-file-system" in puppet.why()
        if binding == LAUNCHED_MODE:
            told = machine.world.machine.run(f"/usr/bin/attestor run -- {path}", user=USER)
            assert (told.code, "local.look-failed" in told.output) == (1, True), told.output
        else:
            with machine.puppet(path) as other:
                assert other.why() == ["process.executable-unknown"]
    assert machine.is_accepted()


@in_both_modes
@pytest.mark.attack(
    number=79, attacker="a file server", asset="the attestor's time", outcome="survived"
)
def test_079_a_server_that_never_answers(
    machine: Machine, start: Start, puppet: MachinePuppet
) -> None:
    with served(machine) as (path, pid), start() as other:
        puppet.do(f"load {path}")
        machine.run(f"kill -USR1 {pid}")
        assert "process.file-on-unmeasured-file-system" in puppet.why()
        other.obtain_granted()


@in_both_modes
@pytest.mark.attack(number=79, attacker=PROCESS, asset="the attestor's time", outcome="survived")
def test_079_arguments_that_never_come(machine: Machine, puppet: MachinePuppet) -> None:
    """Whoever reads a process's memory may wait for ever; a look reads nothing that is in it.

    /proc/PID/cmdline alone is safe since Linux 4.17: it shows nothing that a file holds.
    """
    with served(machine) as (path, pid):
        place = int(puppet.say(f"stall {path}"))
        machine.run(f"kill -USR1 {pid}")
        reader = machine.world.machine.start(
            f"dd if=/proc/{puppet.pid}/mem bs=4096 count=1 skip={place // 4096}",
            output="/tmp/memory",
        )
        puppet.obtain_granted()
        assert puppet.is_proven()
        assert machine.world.machine.run(f"[ -e /proc/{reader} ]").code == 0, "it had an answer"


# Who it is


@in_both_modes
@pytest.mark.attack(number=78, attacker=PROCESS, asset=IDENTITY, outcome="survived")
def test_078_a_name_that_it_gives_itself(machine: Machine, puppet: MachinePuppet) -> None:
    puppet.do("rename payments")
    assert machine.run(f"cat /proc/{puppet.pid}/comm") == "payments"
    assert machine.run(f"tr -d '\\0' </proc/{puppet.pid}/cmdline") == "sh"
    puppet.obtain_granted()
    puppet.do("rename other")
    assert puppet.is_proven()


@pytest.mark.attack(
    number=70, attacker="a relative of another user", asset=IDENTITY, bindings=[ATTACHED_MODE]
)
@pytest.mark.parametrize("how", ["sibling", "thread"])
def test_070_memory_shared_with_root(machine: Machine, how: str) -> None:
    with machine.puppet(user="root") as puppet:
        puppet.do(f"{how} {UID}")
        assert puppet.why() == ["process.memory-shared-with-other-ids"]


@in_both_modes
@pytest.mark.attack(number=80, attacker=PROCESS, asset=IDENTITY)
def test_080_a_process_that_never_looks_the_same_twice(puppet: MachinePuppet) -> None:
    """Before or after the quote, one of two looks that have to be equal is not."""
    puppet.do(f"flap {KNOWN_LIBRARY}")
    puppet.connect(SOCKET)
    if isinstance(message := puppet.receive(), local.Nonce):
        message = puppet.answer(message.nonce, ID)
    assert set(reasons(message)) <= {
        "local.look-failed",
        "local.process-changed",
        "process.withdrawn",
        "process.mapped-file-not-allowed",
    }


@pytest.mark.attack(number=68, attacker=SIBLING, asset=IDENTITY, bindings=[ATTACHED_MODE])
def test_068_a_golden_process_with_the_pid_of_the_one_that_connected(
    machine: Machine,
) -> None:
    """It connects, gives the socket away and ends, before the attestor asks who it is."""
    with machine.puppet() as thief:
        with frozen(machine):
            puppet = machine.puppet()
            puppet.do(f"connect {SOCKET}")
            handover = f"/tmp/{puppet.name}.socket"
            thief.do(f"take {handover}")
            puppet.do(f"pass {handover}")
            assert thief.hear() == "done"
            puppet.end()
            golden = start_with_pid(machine, puppet.pid)
        message = thief.receive()
        if isinstance(message, local.Nonce):
            # Before Linux 6.5 a connection has a number for a name, and the number is another's.
            assert machine.series == (6, 1)
            thief.do(f"give {packet(local.Obtain(nonce=message.nonce, id=ID))}")
            message = thief.receive()
            assert reasons(message) == ["local.message-not-from-the-process"]
        else:
            assert reasons(message) == ["local.peer-unknown"]
        machine.run(f"kill -KILL {golden}")


@pytest.mark.attack(number=68, attacker=SIBLING, asset=CREDENTIAL, bindings=[ATTACHED_MODE])
def test_068_a_golden_process_with_the_pid_of_one_that_was_accepted(machine: Machine) -> None:
    with machine.puppet() as thief:
        puppet = machine.puppet()
        puppet.obtain_granted()
        handover = f"/tmp/{puppet.name}.socket"
        thief.do(f"take {handover}")
        puppet.do(f"pass {handover}")
        assert thief.hear() == "done"
        with frozen(machine):
            puppet.end()
            golden = start_with_pid(machine, puppet.pid)
            thief.do(f"send {packet(local.Token())}")
        assert thief.receive() is None  # the owner is dead, and nobody inherits
        machine.run(f"kill -KILL {golden}")


@contextmanager
def frozen(machine: Machine) -> Iterator[None]:
    """Stop the attestor for the time of the block, as a busy machine would."""
    pid = machine.run(
        "grep -l '^Uid:.990.' /proc/[0-9]*/status | sort -t/ -k3n | head -n1 | cut -d/ -f3"
    )
    machine.run(f"kill -STOP {pid}")
    try:
        yield
    finally:
        machine.run(f"kill -CONT {pid}")


def start_with_pid(machine: Machine, pid: int) -> int:
    """Start a golden program under a pid that has been another's."""
    for _ in range(20):
        wait(lambda: machine.world.machine.run(f"[ ! -e /proc/{pid} ]").code == 0, 10, "its end")
        started = int(
            machine.run(
                f"echo {pid - 1} >/proc/sys/kernel/ns_last_pid;"
                f" sh -c 'echo $$ >/sys/fs/cgroup/{UNIT}/cgroup.procs; exec setpriv --reuid={USER}"
                f" --regid={USER} --init-groups {PATH}' </dev/zero >/dev/null 2>&1 & echo $!"
            )
        )
        if started == pid:
            machine.run(f"until [ /proc/{pid}/exe -ef {PATH} ]; do sleep 0.1; done")
            return started
        machine.run(f"kill -KILL {started}")
        time.sleep(0.1)
    raise Failed(f"pid {pid} is never free")


WRITE_BENEATH = """
import fcntl, os, struct, sys
file = os.open(sys.argv[1], os.O_RDONLY)
(size,) = struct.unpack("i", fcntl.ioctl(file, 2, bytes(4)))
last = os.fstat(file).st_size - 1
(block,) = struct.unpack("i", fcntl.ioctl(file, 1, struct.pack("i", last // size)))
disk = os.open("/dev/vda", os.O_WRONLY)
os.pwrite(disk, bytes([255]), block * size + last % size)
os.fsync(disk)
"""
"""FIGETBSZ and FIBMAP (linux/fs.h): where on the disk a file's last byte is."""


@in_both_modes
@pytest.mark.attack(number=73, attacker=ROOT, asset=IDENTITY, level="L4", outcome="residual")
def test_073_bytes_written_beneath_the_file_system_are_not_seen(
    machine: Machine, start: Start
) -> None:
    """What it does not prove, number 73: neither times nor the inode's version tell of it."""
    path = "/usr/bin/puppet-beneath"
    machine.put(path, machine.programs.puppet)
    with start(path) as puppet:
        puppet.obtain_granted()
    machine.run("sync; echo 1 >/proc/sys/vm/drop_caches")
    machine.run(f"python3 -c {shlex.quote(WRITE_BENEATH)} {path}")
    machine.run("echo 1 >/proc/sys/vm/drop_caches")
    assert machine.world.machine.get(path) == machine.programs.puppet[:-1] + b"\xff"
    with start(path) as other:
        other.obtain_granted()
    machine.run(f"rm {path}")
    assert machine.is_accepted()
