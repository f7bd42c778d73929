"""A machine whose disk nobody can write to, and whose TPM the kernel gives to the attestor alone.

The disk is read through dm-verity, its root digest is on the kernel's command line; SELinux keeps
everybody else from the TPM (`guest/tpm.cil`). For assurance level L4.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from swtpm import image, initramfs
from swtpm.kernels import Kernel
from swtpm.programs import BUILD, alone, run, say

WORDS = "security=selinux enforcing=1"
"""Of the command line: SELinux in the place of AppArmor, and nobody makes it permissive."""

BLOCK_BYTES = 4096

ATTESTOR = "/usr/bin/attestor"
ATTESTOR_LABEL = "system_u:object_r:attestor_exec_t"

WRITABLE = ("etc/procseal", "var/lib/procseal")
"""Where the machine has file systems in memory, besides the places that every tree has."""


class SealedKernel(Kernel):
    """A kernel with the first file system of such a machine."""

    __slots__ = ()

    @property
    def initramfs(self) -> Path:
        """The first file system."""
        return self.root / "initramfs-sealed.cpio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What such a machine boots from."""

    disk: Path
    kernel: Kernel
    words: str
    """Of the command line."""


def make(name: str, files: Mapping[str, bytes], build: Path = BUILD) -> Sealed:
    """Make what a machine boots from: kernel `name`, and `files` by absolute path on its disk."""
    plain = image.kernel(name, build)
    kernel = SealedKernel(plain.name, plain.root)
    image.make(build)
    with alone(build):
        initramfs.write_sealed(kernel, compile_policy(), build)
        disk = build / "vm" / f"sealed-{_digest(files, build)}.ext4"
        words = disk.with_suffix(".words")
        if not words.exists():
            for old in disk.parent.glob("sealed-*"):
                old.unlink()
            words.write_text(f"procseal.verity={_write_disk(disk, files, build)} {WORDS}")
    return Sealed(disk=disk, kernel=kernel, words=words.read_text())


def compile_policy() -> bytes:
    """Return the SELinux policy as the kernel loads it."""
    with tempfile.TemporaryDirectory() as name:
        compiled = Path(name) / "policy"
        run("secilc", "-o", compiled, "-f", "/dev/null", initramfs.GUEST / "tpm.cil")
        return compiled.read_bytes()


def _write_disk(disk: Path, files: Mapping[str, bytes], build: Path) -> str:
    """Write the disk; return its number of blocks and its root digest."""
    say("disk of the sealed machine")
    laid = build / "vm" / "tree.sealed"
    shutil.rmtree(laid, ignore_errors=True)
    run("cp", "-al", build / "vm" / "tree", laid)
    for path, content in files.items():
        target = laid / path.lstrip("/")
        target.unlink(missing_ok=True)
        target.write_bytes(content)
        target.chmod(0o755)
    for place in WRITABLE:
        (laid / place).mkdir(parents=True, exist_ok=True)
    image.write_file_system(laid, disk, "-b", str(BLOCK_BYTES))
    shutil.rmtree(laid)
    run(
        "/usr/sbin/debugfs",
        "-w",
        "-R",
        f"ea_set {ATTESTOR} security.selinux {ATTESTOR_LABEL}",
        disk,
    )
    size = disk.stat().st_size
    told = run(
        "/usr/sbin/veritysetup", "format", "--no-superblock", "--salt=-", f"--hash-offset={size}",
        f"--data-blocks={size // BLOCK_BYTES}", disk, disk,
    ).decode()  # fmt: skip
    [root] = re.findall(r"^Root hash:\s*([0-9a-f]{64})$", told, re.MULTILINE)
    return f"{size // BLOCK_BYTES}:{root}"


def _digest(files: Mapping[str, bytes], build: Path) -> str:
    parts = [(build / "vm" / "disk.stamp").read_bytes(), Path(__file__).read_bytes()]
    parts += [part for path, content in sorted(files.items()) for part in (path.encode(), content)]
    whole = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts))
    return whole.hexdigest()[:16]
