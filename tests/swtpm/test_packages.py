"""Packages that a mirror lists: a mirror of one package, on this machine's own address."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from swtpm import Failed
from swtpm.packages import CONFIGURATION, Apt, Gone
from swtpm.programs import run

STANZA = """\
Package: linux-image-0.1-cloud-amd64
Version: 0.1-1
Architecture: amd64
Maintainer: nobody
Filename: ./linux-image-0.1-cloud-amd64_0.1-1_amd64.deb
Size: {size}
SHA256: {digest}
Description: none
"""

DIRECT = 'Acquire::http::Proxy "DIRECT";\n'


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The directory of a mirror that lists a package and lacks its file, and its address."""
    directory = tmp_path / "mirror"
    directory.mkdir()
    (directory / "Packages").write_text(STANZA.format(size=7, digest="0" * 64))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield directory, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def apt(mirror: tuple[Path, str], tmp_path: Path) -> Apt:
    root = tmp_path / "apt"
    for name in ("state/lists/partial", "cache/archives/partial"):
        (root / name).mkdir(parents=True)
    (root / "state/status").touch()
    (root / "sources.list").write_text(f"deb [trusted=yes] {mirror[1]} ./\n")
    (root / "apt.conf").write_text(CONFIGURATION.format(root=root) + DIRECT)
    run("apt-get", "-c", root / "apt.conf", "update")
    return Apt(root)


def test_a_package_whose_file_is_gone(apt: Apt, tmp_path: Path) -> None:
    with pytest.raises(
        Gone, match=r"lists linux-image-0\.1-cloud-amd64 0\.1-1 and has no such file"
    ):
        apt.fetch("linux-image-0.1-cloud-amd64", "0.1-1", tmp_path / "into")


def test_a_package_whose_file_is_another_is_not_gone(
    mirror: tuple[Path, str], apt: Apt, tmp_path: Path
) -> None:
    (mirror[0] / "linux-image-0.1-cloud-amd64_0.1-1_amd64.deb").write_bytes(b"another")
    with pytest.raises(Failed) as failed:
        apt.fetch("linux-image-0.1-cloud-amd64", "0.1-1", tmp_path / "into")
    assert not isinstance(failed.value, Gone)
