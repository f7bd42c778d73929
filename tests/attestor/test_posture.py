"""What the attestor says of its node: how the kernel is set, and where a uid's processes are."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestor import posture
from attestor.posture import read_posture
from attestor.presences import find_presences, is_alone, join
from evidence.posture import MOST_CGROUPS, Posture, Presence

UID = 64321


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_kernel_that_has_nothing_of_it(tmp_path: Path) -> None:
    assert read_posture(tmp_path) == Posture(
        taint=0,
        lockdown="",
        is_module_signature_enforced=False,
        is_module_loading_disabled=False,
        is_kexec_disabled=False,
        ptrace_scope=0,
    )


def test_a_kernel_that_is_closed(tmp_path: Path) -> None:
    put(tmp_path, posture.TAINT, "12288\n")
    put(tmp_path, posture.LOCKDOWN, "none [integrity] confidentiality\n")
    put(tmp_path, posture.MODULE_SIGNATURES, "Y\n")
    put(tmp_path, posture.MODULES, "1\n")
    put(tmp_path, posture.KEXEC, "1\n")
    put(tmp_path, posture.PTRACE_SCOPE, "3\n")
    assert read_posture(tmp_path) == Posture(
        taint=12288,
        lockdown="integrity",
        is_module_signature_enforced=True,
        is_module_loading_disabled=True,
        is_kexec_disabled=True,
        ptrace_scope=3,
    )


def test_the_kernel_that_runs_here() -> None:
    assert read_posture().taint == int(Path("/proc/sys/kernel/tainted").read_text())


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["/usr/bin/sleep", "100"], user=UID, group=UID)
    yield process.pid
    process.kill()
    process.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its uid")
def test_where_the_processes_of_a_uid_are(sleeper: int) -> None:
    [line] = [
        one
        for one in Path(f"/proc/{sleeper}/cgroup").read_text().splitlines()
        if one.startswith("0::")
    ] or [f"::{Path(f'/proc/{sleeper}/cgroup').read_text().partition('name=systemd:')[2]}"]
    found = find_presences([UID, UID + 1])
    assert [one.uid for one in found] == [UID, UID + 1]
    assert found[0].cgroups == (line.split(":", 2)[2].split("\n")[0],)
    assert found[1].cgroups == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="changes its uid")
def test_a_saved_uid_counts() -> None:
    """It is a system call away from being the uid in effect."""
    code = f"import os, time; os.setresuid(65533, 65533, {UID}); print(flush=True); time.sleep(99)"
    process = subprocess.Popen(
        ["/usr/bin/python3", "-c", code], stdout=subprocess.PIPE, user=0, group=UID
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        [found] = find_presences([UID])
        assert found.cgroups
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("cgroups", "is_within"),
    [
        (("/a/b",), True),
        (("/a/b", "/a/b/c"), True),
        ((), False),
        (("/a/b", "/a"), False),
        (("/a/bc",), False),
        (("/a/b", "/"), False),
        (tuple(f"/a/b/{number}" for number in range(MOST_CGROUPS)), False),
    ],
)
def test_within_a_cgroup(cgroups: tuple[str, ...], *, is_within: bool) -> None:
    presence = Presence(uid=UID, cgroups=cgroups)
    assert presence.is_within("/a/b") is is_within
    assert is_alone([presence], UID, "/a/b") is is_within
    assert not is_alone([presence], UID + 1, "/a/b")


presences = st.lists(
    st.builds(
        Presence,
        uid=st.integers(min_value=0, max_value=3),
        cgroups=st.lists(st.sampled_from(["/a", "/a/b", "/c"]), unique=True).map(tuple),
    ),
    max_size=4,
)


@given(presences, presences)
def test_joining_forgets_nobody(first: list[Presence], second: list[Presence]) -> None:
    joined = join(first, second)
    assert [one.uid for one in joined] == sorted({one.uid for one in (*first, *second)})
    for one in (*first, *second):
        for cgroup in ("/a", "/a/b", "/c"):
            if is_alone(joined, one.uid, cgroup):
                assert not one.cgroups or is_alone([one], one.uid, cgroup)
