"""Canaries on this machine's own kernel: made by root, used by another, and gone."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from attestor.canary import LEAST_SECONDS, SECONDS, Canaries
from attestor.nursery import Nursery
from evidence.canary import USES, Place, contents, digests

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes its uid")

NONCE = bytes(range(32))
UID = 1001


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    one = Nursery.start(looker_uid=991, looker_gid=991)
    yield one
    one.close()


def here(path: Path) -> Place:
    return Place(uid=UID, device=path.stat().st_dev)


def test_a_canary_is_used_and_leaves_no_file(nursery: Nursery, tmp_path: Path) -> None:
    for _ in range(3):
        assert (
            Canaries(nursery.new_canary, (str(tmp_path),)).let_loose(NONCE, here(tmp_path), UID)
            == ""
        )
    assert not list(tmp_path.iterdir())


def test_the_root_of_a_mount_will_do(nursery: Nursery) -> None:
    assert Canaries(nursery.new_canary, ()).let_loose(NONCE, here(Path("/")), UID) == ""


def test_a_file_system_on_which_nothing_can_be_made(nursery: Nursery) -> None:
    told = Canaries(nursery.new_canary, ()).let_loose(NONCE, here(Path("/proc")), UID)
    assert told == "no directory there in which root may make files that can be executed"


def test_a_directory_elsewhere_is_passed_over(nursery: Nursery, tmp_path: Path) -> None:
    told = Canaries(nursery.new_canary, (str(tmp_path), "/nowhere")).let_loose(
        NONCE, here(Path("/proc")), UID
    )
    assert told.startswith("no directory")


STOPPER = """
import os, signal
print(flush=True)
while True:
    try:
        os.kill(-1, signal.SIGSTOP)
    except ProcessLookupError:
        pass
"""
"""What a user runs who stops whatever is his, himself excepted."""


@pytest.mark.attack(
    number=46, attacker="an ordinary user", asset="the attestor's time", outcome="survived"
)
def test_046_a_canary_that_its_user_stops(nursery: Nursery, tmp_path: Path) -> None:
    """It does not hold the node up, and nothing of it stays."""
    uid = 64000 + os.getpid() % 1000  # nobody else's
    canaries = Canaries.within(timedelta(seconds=2), nursery.new_canary, (str(tmp_path),))
    assert canaries.seconds == LEAST_SECONDS
    place = Place(uid=uid, device=tmp_path.stat().st_dev)
    with subprocess.Popen(
        [sys.executable, "-c", STOPPER], stdout=subprocess.PIPE, user=uid, group=uid
    ) as stopper:
        assert stopper.stdout is not None
        stopper.stdout.readline()
        for _ in range(100):
            if told := canaries.let_loose(NONCE, place, uid):
                break
        last = time.monotonic() + 4 * LEAST_SECONDS
        while (left := pids_of(uid) - {stopper.pid}) and time.monotonic() < last:
            time.sleep(0.1)
        stopper.kill()
    assert told == f"no answer within {LEAST_SECONDS} s (EOFError)"
    assert not left


def pids_of(uid: int) -> set[int]:
    """Return the processes of a uid."""
    found = set()
    for one in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError):
            if one.stat().st_uid == uid:
                found.add(int(one.name))
    return found


def test_a_canary_has_no_longer_than_a_round(nursery: Nursery) -> None:
    def seconds(interval: int) -> int:
        return Canaries.within(timedelta(seconds=interval), nursery.new_canary, ()).seconds

    assert [seconds(one) for one in (1, 2, 5, 30)] == [LEAST_SECONDS, 2, 5, SECONDS]


MOUNTED = """
import os, sys
from attestor.canary import Canaries
from attestor.nursery import Nursery
from evidence.canary import Place

nursery = Nursery.start(looker_uid=991, looker_gid=991)
place = Place(uid=1001, device=os.stat("/mnt").st_dev)
print(Canaries(nursery.new_canary, tuple(sys.argv[1:])).let_loose(bytes(32), place, 1001))
"""


@pytest.mark.parametrize(
    ("options", "directories", "told"),
    [
        pytest.param("mode=755", (), "", id="fit"),
        pytest.param("mode=755,noexec", (), "no directory there", id="noexec"),
        pytest.param("mode=755,ro", (), "no directory there", id="read-only"),
        pytest.param("mode=755,ro", ("/mnt",), "/mnt: Read-only file system", id="told"),
        pytest.param("mode=755,noexec", ("/mnt",), "Permission denied", id="not executed"),
        pytest.param("mode=555,uid=1", (), "/mnt: Permission denied", id="not root's"),
    ],
)
def test_what_a_mount_allows(options: str, directories: tuple[str, ...], told: str) -> None:
    """As the attestor's uid has it: without the rights of root."""
    script = f'mount -t tmpfs -o {options} tmpfs /mnt && exec "$@"'
    caps = "+checkpoint_restore,+dac_read_search,+setgid,+setuid,+sys_ptrace"
    become = ["setpriv", "--reuid=990", "--regid=990", "--clear-groups",
              f"--inh-caps={caps}", f"--ambient-caps={caps}"]  # fmt: skip
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *become,
         sys.executable, "-B", "-c", MOUNTED, *directories],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == told or (told and told in done.stdout), done.stdout


def test_the_bytes_are_no_program_and_each_their_own() -> None:
    """Printable at the start, or the kernel would ask for a module; and no script."""
    places = (Place(uid=UID, device=7), Place(uid=UID + 1, device=7), Place(uid=UID, device=8))
    made = [contents(nonce, one, use) for nonce in (NONCE, bytes(32)) for one in places
            for use in USES]  # fmt: skip
    assert len(set(made)) == len(made)
    assert all(one[:4].decode().isprintable() and not one.startswith(b"#!") for one in made)
    expected = tuple(hashlib.sha256(contents(NONCE, places[0], use)).digest() for use in USES)
    assert digests(NONCE, places[0]) == expected
