"""Looks at real processes of this machine."""

import ctypes
import hashlib
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attestor.digests import Digests
from attestor.look import Codes, Glance, Pins, glance, look, pin
from attestor.proc import Executed, NoLook
from attestor.sharers import Sharers
from evidence import cbor
from evidence.process import Look

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes")


@pytest.fixture
def codes() -> Codes:
    return Codes(Digests(most_bytes=64 << 20))


class Program:
    """A child that does one thing and then waits for a line at a time."""

    def __init__(self, code: str) -> None:
        source = f"import ctypes, mmap, os, sys\n{code}\nprint('ready', flush=True)\ninput()\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.pidfd = os.pidfd_open(self.process.pid)
        self.pins = pin(self.pidfd)

    def go_on(self) -> None:
        """Give it a line, and wait until it says that it is ready again."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Iterator[Program]:
    one = Program(getattr(request, "param", ""))
    yield one
    one.end()
    one.pins.close()


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start programs that are gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv, **options)  # type: ignore[call-overload]
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def pins_of(process: subprocess.Popen[bytes]) -> Pins:
    until_executed(process.pid)
    return pin(os.pidfd_open(process.pid))


def until_executed(pid: int) -> None:
    """Wait until a child sleeps in the program that it was started for."""
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        time.sleep(0.01)


def test_a_look_at_a_plain_program(start: Start, codes: Codes) -> None:
    process = start("/usr/bin/sleep", "100")
    seen, summary = look(pins_of(process), codes, Sharers())

    status = Path("/usr/bin/sleep").stat()
    assert seen.executable.digest == hashlib.sha256(Path("/usr/bin/sleep").read_bytes()).digest()
    assert seen.executable.path == b"/usr/bin/sleep"
    assert (seen.executable.device, seen.executable.inode) == (status.st_dev, status.st_ino)
    assert seen.executable.links == 1
    assert seen.executable in seen.files
    names = {Path(os.fsdecode(file.path)).name for file in seen.files}
    assert names >= {"sleep", "libc.so.6", "ld-linux-x86-64.so.2"}
    text = [one for one in seen.mappings if seen.files[one.file] == seen.executable]
    assert len(text) == 1
    assert all(one.anonymous == 0 and not one.is_writable for one in seen.mappings)
    assert seen.anonymous_executable == 0
    assert seen.pid == process.pid
    assert seen.pidfs_inode > 0
    assert seen.parent == os.getpid()
    assert seen.uids == (0, 0, 0, 0)
    assert seen.is_user_namespace_initial
    assert seen.is_pid_namespace_initial_owned
    assert seen.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert len(seen.namespaces) == 7
    assert summary.uids == seen.uids


def test_a_look_survives_its_encoding(program: Program, codes: Codes) -> None:
    seen, summary = look(program.pins, codes, Sharers())
    assert Look.read(cbor.decode(cbor.encode(seen.members()))) == seen
    assert Glance.read(cbor.decode(cbor.encode(summary.members()))) == summary


def test_two_looks_are_equal(program: Program, codes: Codes) -> None:
    assert look(program.pins, codes, Sharers()) == look(program.pins, codes, Sharers())


def test_an_ended_process_cannot_be_looked_at(program: Program, codes: Codes) -> None:
    program.end()
    with pytest.raises(NoLook):
        glance(program.pins)
    with pytest.raises(NoLook):
        look(program.pins, codes, Sharers())
    with pytest.raises(NoLook):
        pin(program.pidfd)


@pytest.mark.attack(number=66, attacker="the process itself", asset="the credential")
def test_exec_after_the_first_look(start: Start, codes: Codes) -> None:
    """The pid, the pidfd, its inode and the start time stay; the memory does not."""
    process = start("/bin/sh", "-c", "read line; exec sleep 100", stdin=subprocess.PIPE)
    pins = pins_of(process)
    before, _ = look(pins, codes, Sharers())
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    while str(Path(f"/proc/{process.pid}/exe").readlink()) != "/usr/bin/sleep":
        time.sleep(0.01)
    with pytest.raises(Executed):
        look(pins, codes, Sharers())
    after, _ = look(pins_of(process), codes, Sharers())
    assert (after.pid, after.pidfs_inode, after.start_ticks) == (
        before.pid, before.pidfs_inode, before.start_ticks,
    )  # fmt: skip


def test_exec_of_the_same_program_is_an_exec(start: Start) -> None:
    process = start("/bin/sh", "-c", "read line; exec sh -c 'read line'", stdin=subprocess.PIPE)
    pins = pins_of(process)
    glance(pins)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    while b"read line\0" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.01)
    with pytest.raises(Executed):
        glance(pins)


@pytest.mark.attack(number=58, attacker="the process itself", asset="the identity")
def test_a_deleted_executable_has_no_links(tmp_path: Path, start: Start, codes: Codes) -> None:
    path = tmp_path / "sleep"
    path.write_bytes(Path("/usr/bin/sleep").read_bytes())
    path.chmod(0o755)
    pins = pins_of(start(str(path), "100"))
    path.unlink()
    seen, _ = look(pins, codes, Sharers())
    assert seen.executable.links == 0
    assert seen.executable.digest == hashlib.sha256(Path("/usr/bin/sleep").read_bytes()).digest()


@pytest.mark.attack(number=56, attacker="the process itself", asset="the identity")
def test_a_program_in_memory_has_no_links(start: Start, codes: Codes) -> None:
    memory = os.memfd_create("sleep")
    os.write(memory, Path("/usr/bin/sleep").read_bytes())
    process = start(f"/proc/self/fd/{memory}", "100", pass_fds=[memory])
    os.close(memory)
    seen, _ = look(pins_of(process), codes, Sharers())
    assert seen.executable.links == 0
    assert seen.executable.filesystem == 0x01021994  # TMPFS_MAGIC


ANONYMOUS = """
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap(None, ctypes.c_size_t(8192), 7, 0x22, -1, ctypes.c_long(0))
"""
FROM_FILE = """
file = open("/usr/bin/sleep", "rb")
memory = mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=7)
"""


@pytest.mark.parametrize("program", [ANONYMOUS], indirect=True)
def test_executable_memory_of_no_file(program: Program, codes: Codes) -> None:
    seen, _ = look(program.pins, codes, Sharers())
    assert seen.anonymous_executable == 8192


@pytest.mark.parametrize("program", [FROM_FILE + "memory[0] = 0"], indirect=True)
def test_text_that_is_no_longer_the_files(program: Program, codes: Codes) -> None:
    seen, _ = look(program.pins, codes, Sharers())
    (mapping,) = [one for one in seen.mappings if seen.files[one.file].path == b"/usr/bin/sleep"]
    assert (mapping.anonymous, mapping.length, mapping.is_writable) == (4096, 4096, True)


LATER = "print('ready', flush=True); input()" + FROM_FILE


@pytest.mark.parametrize("program", [LATER], indirect=True)
def test_a_file_mapped_later_changes_the_glance(program: Program) -> None:
    before = glance(program.pins)
    program.go_on()
    assert glance(program.pins) != before


def test_a_traced_process_says_so(program: Program, codes: Codes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.ptrace(0x4206, program.process.pid, None, None) == 0  # PTRACE_SEIZE
    seen, _ = look(program.pins, codes, Sharers())
    assert seen.tracer == os.getpid()


def test_a_file_above_the_limit_is_not_read(program: Program) -> None:
    with pytest.raises(NoLook, match="more than 4096"):
        look(program.pins, Codes(Digests(most_bytes=4096)), Sharers())


def test_only_roots_files_are_remembered(tmp_path: Path, codes: Codes) -> None:
    mine = tmp_path / "file"
    mine.write_bytes(b"one")
    os.chown(mine, 1000, 1000)
    descriptor = os.open(mine, os.O_PATH)
    assert codes.digests.of(descriptor) == hashlib.sha256(b"one").digest()
    status = mine.stat()
    with mine.open("r+b") as file, mmap.mmap(file.fileno(), 3) as memory:
        memory[:] = b"two"
    os.utime(mine, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert codes.digests.of(descriptor) == hashlib.sha256(b"two").digest()
    os.close(descriptor)


MAP_FILE = """
with open({path!r}, "rb") as file:
    memory = mmap.mmap(file.fileno(), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
"""


@pytest.mark.parametrize("owner", [0, 1000])
def test_code_is_kept_while_only_root_can_have_changed_it(
    tmp_path: Path, codes: Codes, owner: int
) -> None:
    library = tmp_path / "library"
    library.write_bytes(bytes(4096))
    os.chown(library, owner, owner)
    program = Program(MAP_FILE.format(path=str(library)))
    first, _ = look(program.pins, codes, Sharers())
    process = first.pid, first.start_ticks
    assert (codes.known(process) is not None) is (owner == 0)
    with library.open("r+b") as file:
        file.write(b"X")
    second, _ = look(program.pins, codes, Sharers())
    assert [one.digest for one in second.files if one.path == os.fsencode(library)] == [
        hashlib.sha256(b"X" + bytes(4095)).digest()
    ]
    program.end()
    with pytest.raises(NoLook):
        look(program.pins, codes, Sharers())
    program.pins.close()


@pytest.mark.parametrize(
    "program", [LATER, "print('ready', flush=True); input()" + ANONYMOUS], indirect=True
)
def test_code_that_comes_later_is_in_the_next_look(program: Program, codes: Codes) -> None:
    before, first = look(program.pins, codes, Sharers())
    program.go_on()
    after, second = look(program.pins, codes, Sharers())
    assert first != second
    assert after == look(program.pins, Codes(Digests(most_bytes=64 << 20)), Sharers())[0]
    assert (before.mappings, before.anonymous_executable) != (
        after.mappings, after.anonymous_executable,
    )  # fmt: skip
