"""Files that are not asked: of a server that may never answer."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from attestor.digests import Digests
from attestor.look import Codes, glance, look, pin
from attestor.mounts import KERNELS_OWN, Mounts
from attestor.sharers import Sharers
from tests.attestor.conftest import Server
from tests.attestor.puppets import LocalPuppet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")

NOBODY = 65534
OVERLAYFS = 0x794C7630
"""OVERLAYFS_SUPER_MAGIC (linux/magic.h)."""


@pytest.mark.attack(number=75, attacker="a file server", asset="the identity")
@pytest.mark.attack(number=79, attacker="a file server", asset="the attestor's time")
def test_a_file_whose_server_never_answers(server: Server, puppet_path: Path) -> None:
    """Its status would take for ever to say, and a process that waits for it cannot be killed."""
    process, program = server
    with LocalPuppet(puppet_path, uid=NOBODY) as puppet:
        puppet.do(f"load {program}")
        process.send_signal(signal.SIGUSR1)
        pins = pin(os.pidfd_open(puppet.pid))
        seen, summary = look(pins, Codes(Digests(most_bytes=64 << 20)), Sharers())
        assert glance(pins) == summary
        pins.close()
    golden, foreign = seen.files
    assert golden == seen.executable
    assert (foreign.path, foreign.filesystem) == (os.fsencode(program), 0)
    assert (foreign.digest, foreign.segments) == (b"", ())


@pytest.mark.attack(number=79, attacker="a file server", asset="the attestor's time")
def test_a_program_whose_server_never_answers(
    server: Server,
) -> None:
    process, program = server
    with LocalPuppet(program, uid=NOBODY) as puppet:
        process.send_signal(signal.SIGUSR1)
        pins = pin(os.pidfd_open(puppet.pid))
        seen, _ = look(pins, Codes(Digests(most_bytes=64 << 20)), Sharers())
        pins.close()
    assert (seen.executable.digest, seen.executable.filesystem) == (b"", 0)


OVERLAY = (
    'mount -t tmpfs none "$1" && mkdir "$1/above" "$1/both"'
    ' && mount -t overlay -o "lowerdir=$2:$1/above" overlay "$1/both" && exec "$1/both/program"'
)
"""Run by a shell with an empty directory and a lower layer."""


@pytest.mark.attack(number=79, attacker="an ordinary user", asset="the attestor's time")
@pytest.mark.attack(number=72, attacker="an ordinary user", asset="the identity")
def test_an_overlay_on_a_server_that_never_answers(server: Server, tmp_path: Path) -> None:
    """In a mount namespace of one's own: there an overlay asks what lies below for its owner."""
    process, program = server
    command = ["unshare", "-m", "sh", "-c", OVERLAY, "sh", str(tmp_path), str(program.parent)]
    with LocalPuppet("/usr/bin/env", uid=0, arguments=command) as puppet:
        process.send_signal(signal.SIGUSR1)
        pins = pin(os.pidfd_open(puppet.pid))
        started = time.monotonic()
        seen, summary = look(pins, Codes(Digests(most_bytes=64 << 20)), Sharers())
        assert glance(pins) == summary
        assert time.monotonic() - started < 5
        pins.close()
    assert (seen.executable.digest, seen.executable.filesystem) == (b"", 0)


def test_an_overlay_of_ours_in_another_namespace(puppet_path: Path, open_directory: Path) -> None:
    """As a container's, which is refused for what it is."""
    for one in ("above", "both"):
        (open_directory / one).mkdir()
    layers = f"lowerdir={puppet_path.parent}:{open_directory / 'above'}"
    both = open_directory / "both"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", both], check=True)
    try:
        command = ["unshare", "-m", str(both / puppet_path.name)]
        with LocalPuppet("/usr/bin/env", uid=0, arguments=command) as puppet:
            pins = pin(os.pidfd_open(puppet.pid))
            seen, _ = look(pins, Codes(Digests(most_bytes=64 << 20)), Sharers())
            pins.close()
    finally:
        subprocess.run(["umount", "-l", both], check=True)
    assert (len(seen.executable.digest), seen.executable.filesystem) == (32, OVERLAYFS)


def test_a_mount_that_is_in_no_table(
    server: Server,
) -> None:
    """Detached while it is in use: nobody says any more what it is."""
    _, program = server
    descriptor = os.open(program, os.O_PATH)
    assert not Mounts().is_kernels_own(descriptor)
    subprocess.run(["mount", "-t", "tmpfs", "none", program.parent], check=True)
    program.write_bytes(b"")
    other = os.open(program, os.O_PATH)
    assert Mounts().is_kernels_own(other)
    subprocess.run(["umount", "-l", program.parent], check=True)
    assert not Mounts().is_kernels_own(other)
    os.close(descriptor)
    os.close(other)


def test_files_that_are_asked(tmp_path: Path) -> None:
    here = tmp_path / "file"
    here.write_bytes(b"")
    memory = os.memfd_create("file")
    for descriptor in (os.open(here, os.O_PATH), os.open("/usr/bin/true", os.O_PATH), memory):
        assert Mounts().is_kernels_own(descriptor)
        os.close(descriptor)
    assert not Mounts().is_kernels_own(os.open("/proc/self/status", os.O_PATH))
    assert not KERNELS_OWN & {b"fuse", b"fuseblk", b"nfs", b"nfs4", b"9p", b"cifs", b"virtiofs"}
