"""The virtual machine's disk, made without mounting anything."""

import hashlib
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from swtpm import initramfs, kernel_policy, kernels, tools, tree
from swtpm.kernels import Kernel
from swtpm.packages import Apt
from swtpm.programs import BUILD, Failed, alone, run, say

UUID = "6b2f7d0e-5a51-4c0e-9d0e-707263736561"
"""Fixed: nothing about the disk but times depends on when it was made."""

FREE_BYTES = 256 << 20
"""Room for what a boot writes; what it writes is gone afterwards."""


def prepare(build: Path = BUILD) -> Path:
    """Fetch and make whatever is missing: kernels, base, disk. Return the disk."""
    with alone(build):
        if not _is_fetched(build):
            say("package lists")
            apt = Apt.at(build / "apt")
            for name in kernels.NAMES:
                kernels.fetch(name, apt, build)
            _refresh(build / "vm/base.stamp", _base_input(), lambda: tree.lay_base(apt, build))
        tools.lay(build)
    for name in kernels.NAMES:
        kernel(name, build)
    return make(build)


def make(build: Path = BUILD) -> Path:
    """Make the disk again if its input changed; return it."""
    disk = build / "vm" / "disk.ext4"
    with alone(build):
        if not _is_fetched(build):
            raise Failed("the virtual machine's files are not there yet; run: make setup")
        _refresh(build / "vm/disk.stamp", _disk_input(build), lambda: _write_disk(disk, build))
    return disk


def kernel(name: str, build: Path = BUILD) -> Kernel:
    """Return a kernel with its initramfs; one that set-up does not fetch is fetched now."""
    with alone(build):
        is_of_setup = name in kernels.NAMES
        wanted = Kernel.at(name, build) if is_of_setup else kernels.fetch_offered(name, build)
        initramfs.write(wanted, build)
    return wanted


def _write_disk(disk: Path, build: Path) -> None:
    say("disk of the virtual machine")
    fresh = disk.with_suffix(".new")
    write_file_system(tree.lay_tree(build), fresh)
    fresh.replace(disk)  # a machine that runs keeps the disk it was started with


def write_file_system(files: Path, target: Path, *options: str) -> None:
    """Write an ext4 file system that has these files, all of them root's; `options` of mkfs."""
    used = sum(path.lstat().st_size + 4096 for path in files.rglob("*"))
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        file.truncate((used + FREE_BYTES) >> 20 << 20)
    # Whoever runs set-up, the files are root's: an ordinary user is root in a namespace of his.
    owner = () if os.geteuid() == 0 else ("unshare", "--map-root-user")
    run(
        *owner, "/usr/sbin/mkfs.ext4", "-q", "-F", "-U", UUID, "-O", "^has_journal",
        "-E", f"hash_seed={UUID},root_owner=0:0", "-d", files, *options, target,
        env={"E2FSPROGS_FAKE_TIME": str(tree.EPOCH), "SOURCE_DATE_EPOCH": str(tree.EPOCH)},
    )  # fmt: skip


def _is_fetched(build: Path) -> bool:
    stamps = [Kernel(name, build / "kernels" / name).stamp for name in kernels.NAMES]
    base = build / "vm/base.stamp"
    return all(s.exists() for s in stamps) and base.exists() and base.read_text() == _base_input()


def _base_input() -> str:
    """Return a digest of what the base is made from."""
    versions = sorted(f"{n} {metadata.version(n)}" for n in tree.needed_distributions())
    return _digest(repr((tree.PACKAGES, versions)).encode(), Path(tree.__file__).read_bytes())


def _disk_input(build: Path) -> str:
    """Return a digest of what the disk is made from."""
    files = [
        f"{target} {mode} {_digest(path.read_bytes())}"
        for path, target, mode in tree.overlay(build)
    ]
    here = Path(__file__).parent
    ours = [here / "image.py", here / "tree.py", tree.LINE, kernel_policy.TEMPLATE]
    return _digest(
        _base_input().encode(), "\n".join(files).encode(), *(path.read_bytes() for path in ours)
    )


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _refresh(stamp: Path, inputs: str, work: Callable[[], None]) -> None:
    """Do the work unless it was done, whole, for the same input."""
    if stamp.exists() and stamp.read_text() == inputs:
        return
    stamp.unlink(missing_ok=True)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    work()
    stamp.write_text(inputs)
