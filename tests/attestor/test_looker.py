"""The looker and the nursery: other uids, deadlines, launched children."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestor import packets, starter
from attestor.look import pid_of
from attestor.looker import HASHING_TRIES, Looker, NoAccount
from attestor.nursery import STATUS_BYTES, Child, Nursery
from attestor.proc import NoLook
from attestor.starter import Account, Order

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes its uid")

LOOKER_UID = 991


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    one = Nursery.start(looker_uid=LOOKER_UID, looker_gid=LOOKER_UID)
    yield one
    one.close()


@pytest.fixture
def looker(nursery: Nursery) -> Iterator[Looker]:
    one = Looker(nursery.new_looker, most_bytes=64 << 20, deadline_seconds=30)
    yield one
    one.close()


def test_a_looker_sees_another_users_process(looker: Looker) -> None:
    process = subprocess.Popen(["/usr/bin/sleep", "100"], user=1001, group=1001)
    pins = looker.pin(os.pidfd_open(process.pid))
    seen, summary = looker.look(pins)
    assert seen.uids == (1001, 1001, 1001, 1001)
    assert looker.glance(pins) == summary
    process.kill()
    process.communicate()
    with pytest.raises(NoLook):
        looker.glance(pins)
    pins.close()


def test_a_looker_has_its_own_uid_and_few_capabilities(looker: Looker) -> None:
    looker.account("root")
    found = [
        path.parent
        for path in Path("/proc").glob("[0-9]*/status")
        if f"Uid:\t{LOOKER_UID}\t{LOOKER_UID}\t{LOOKER_UID}\t{LOOKER_UID}" in path.read_text()
    ]
    says = [path.joinpath("status").read_text() for path in found]
    wanted = f"{(1 << 2 | 1 << 19 | 1 << 40):016x}"
    assert any(f"CapEff:\t{wanted}" in one and f"CapPrm:\t{wanted}" in one for one in says)
    assert all("CapAmb:\t0000000000000000" in one for one in says)


@pytest.mark.parametrize("unfinished", [0, HASHING_TRIES - 1, HASHING_TRIES])
def test_a_looker_without_time_is_asked_again(unfinished: int) -> None:
    """It remembers what it has hashed, and a new one would not."""
    ours, theirs = socket.socketpair()

    def answer() -> None:
        assert packets.receive(theirs)[0] == [1 << 20, 30]
        for number in range(min(unfinished + 1, HASHING_TRIES)):
            assert packets.receive(theirs)[0] == "digest"
            packets.send(theirs, ["unfinished", "x"] if number < unfinished else ["yes", b"all"])

    hashing = threading.Thread(target=answer)
    hashing.start()
    looker = Looker(lambda: ours, most_bytes=1 << 20, deadline_seconds=30)
    with ours, theirs:
        if unfinished < HASHING_TRIES:
            assert looker.digest(theirs.fileno()) == b"all"
        else:
            with pytest.raises(NoLook):
                looker.digest(theirs.fileno())
        hashing.join()


def test_a_look_that_takes_too_long_ends_with_the_looker(looker: Looker) -> None:
    """A pipe stands for a file whose server never answers; the next look works again."""
    reading, writing = os.pipe()
    with pytest.raises(NoLook):
        looker.digest(reading)  # no regular file
    channel = looker._channel  # noqa: SLF001
    assert channel is not None
    threading.Timer(0.1, lambda: channel.shutdown(socket.SHUT_RDWR)).start()
    while True:
        try:
            looker.account("root")
        except NoLook:
            break
    assert looker.account("root")[1].uid == 0
    os.close(reading)
    os.close(writing)


def test_accounts(looker: Looker) -> None:
    assert looker.account("root") == ("root", Account(uid=0, gid=0, groups=(0,)))
    assert looker.account(0)[0] == "root"
    for who in ("nobody-of-that-name", 54321):
        with pytest.raises(NoAccount):
            looker.account(who)


@dataclass
class Launched:
    """A launched program's ends."""

    child: Child
    file: int
    output: int

    def go(self) -> str:
        starter.go(self.child.orders)
        with os.fdopen(os.dup(self.output)) as output:
            return output.read()

    def status(self) -> int:
        return int.from_bytes(os.read(self.child.report, STATUS_BYTES), "big", signed=True)


Launch = Callable[..., Launched]


@pytest.fixture
def launch(nursery: Nursery) -> Iterator[Launch]:
    """Have programs opened as uid 1001; all their ends are closed after the test."""
    with ExitStack() as ends:

        def launch(*argv: str) -> Launched:
            child = nursery.new_child()
            ends.callback(child.close)
            order = Order(
                account=Account(uid=1001, gid=1001, groups=()),
                arguments=argv,
                environment=("PATH=/usr/bin", "GREETING=a=b"),
            )
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ends.enter_context(ours)
            output, written = os.pipe()
            ends.callback(os.close, output)
            with theirs, Path(os.devnull).open() as null:
                place = [theirs.fileno(), null.fileno(), written, written]
                try:
                    file = starter.give(order, child.orders, place)
                finally:
                    os.close(written)
            ends.callback(os.close, file)
            return Launched(child, file, output)

        yield launch


def test_a_launched_program_has_its_user_its_channel_and_nothing_else(launch: Launch) -> None:
    script = "id -u; id -G; pwd; grep -E 'NoNewPrivs|CapEff|CapPrm|CapAmb' /proc/self/status; "
    script += "echo $PROCSEAL_FD $GREETING; for n in 0 1 2 3 4 5 6 7 8 9; "
    script += "do [ -e /proc/$$/fd/$n ] && echo -n $n; done; exit 7"
    launched = launch("/usr/bin/dash", "-c", script)
    assert os.fstat(launched.file).st_ino == Path("/usr/bin/dash").stat().st_ino
    assert pid_of(launched.child.pidfd) == launched.child.pid
    lines = launched.go().splitlines()
    zero = "0000000000000000"
    assert lines[:3] == ["1001", "1001", "/"]
    assert lines[3:7] == [
        f"CapPrm:\t{zero}", f"CapEff:\t{zero}", f"CapAmb:\t{zero}", "NoNewPrivs:\t1",
    ]  # fmt: skip
    assert lines[7] == "3 a=b"
    assert lines[8] == "0123"
    assert launched.status() == 7


def test_the_descriptor_that_was_opened_is_executed_whatever_the_path_says_later(
    launch: Launch, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    program = tmp_path / "program"
    program.write_bytes(Path("/usr/bin/echo").read_bytes())
    program.chmod(0o755)
    launched = launch(str(program), "the first")
    program.unlink()
    program.write_bytes(Path("/usr/bin/false").read_bytes())
    program.chmod(0o755)
    assert launched.go() == "the first\n"
    assert launched.status() == 0


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["sleep"], id="no absolute path"),
        pytest.param(["/nowhere"], id="no such file"),
    ],
)
def test_what_cannot_be_opened_is_not_started(launch: Launch, argv: list[str]) -> None:
    with pytest.raises(OSError, match=argv[0]):
        launch(*argv)


@pytest.mark.parametrize("path", ["/etc/passwd", "/usr", "/usr/bin/ldd"])
def test_what_cannot_be_executed_by_descriptor_is_not_started(launch: Launch, path: str) -> None:
    """/usr/bin/ldd is a script: its interpreter would find no file to open."""
    launched = launch(path)
    with pytest.raises(OSError, match="does not start"):
        launched.go()


def test_a_file_that_its_user_may_not_reach_is_not_started(launch: Launch, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    program = tmp_path / "program"
    program.write_bytes(Path("/usr/bin/echo").read_bytes())
    program.chmod(0o755)
    with pytest.raises(OSError, match="Permission"):
        launch(str(program))
