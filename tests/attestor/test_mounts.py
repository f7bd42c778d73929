"""Files that are not asked: of a server that may never answer."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from attestor.digests import Digests
from attestor.look import Codes, glance, look, pin
from attestor.mounts import KERNELS_OWN, Mounts
from attestor.sharers import Sharers
from tests.attestor.puppets import LocalPuppet, build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")

NOBODY = 65534

Server = tuple[subprocess.Popen[str], Path]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("programs") / "served", source="served.c")


@pytest.fixture
def server(served: Path, puppet_path: Path, open_directory: Path) -> Iterator[Server]:
    process = subprocess.Popen(
        [served, open_directory, puppet_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        process.communicate()
        pytest.skip("no FUSE here")
    yield process, open_directory / "program"
    process.kill()  # whoever waits for it goes on
    process.communicate()
    subprocess.run(["umount", "-l", open_directory], check=True)


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
