"""The files that a launched program is to read: whose they are, and how they are reached."""

import hashlib
import os
from pathlib import Path

import pytest

from attestor.configuration import read_configuration
from attestor.digests import Digests
from attestor.proc import NoLook

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of root's")

HOSTS = "/etc/hostname"


@pytest.fixture
def digests() -> Digests:
    return Digests(most_bytes=1 << 20)


def test_a_file_of_roots(digests: Digests) -> None:
    path = "/usr/bin/true"
    [found] = read_configuration([path], digests)
    assert (found.path, found.is_roots) == (path, True)
    assert found.digest == hashlib.sha256(Path(path).read_bytes()).digest()
    assert read_configuration([], digests) == ()


def test_a_file_that_others_can_replace(tmp_path: Path, digests: Digests) -> None:
    """/tmp, where this one is, is everybody's; so is a directory of a user's, and the file."""
    path = tmp_path / "file"
    path.write_text("x")
    [found] = read_configuration([str(path)], digests)
    assert not found.is_roots


def test_a_file_that_others_can_write(digests: Digests) -> None:
    """Root's directories all the way, but not the file."""
    path = Path("/etc/procseal-test")
    try:
        for owner, mode, is_roots in ((0, 0o644, True), (0, 0o664, False), (1001, 0o644, False)):
            path.write_text("x")
            os.chown(path, owner, 0)
            path.chmod(mode)
            [found] = read_configuration([str(path)], digests)
            assert found.is_roots is is_roots
    finally:
        path.unlink()


def test_what_cannot_be_hashed(tmp_path: Path, digests: Digests) -> None:
    link, directory = tmp_path / "link", tmp_path / "directory"
    directory.mkdir()
    (directory / "file").write_text("x")
    link.symlink_to(directory / "file")
    (tmp_path / "way").symlink_to(directory)
    os.mkfifo(tmp_path / "pipe")
    large = tmp_path / "large"
    large.write_bytes(bytes((1 << 20) + 1))
    for path in (link, tmp_path / "way" / "file", directory, tmp_path / "pipe", large, Path("/no")):
        with pytest.raises(NoLook):
            read_configuration([str(path)], digests)
    with pytest.raises(NoLook):
        read_configuration(["/proc/self/cmdline"], digests)
