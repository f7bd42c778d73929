"""A unified kernel image: systemd's stub, a kernel, its initramfs and its command line in one file.

The stub is a UEFI program; what it starts lies in sections of its own file (systemd-stub(7) of
version 252, the one in Debian 12). Firmware measures and checks the whole file, the stub measures
each section into register 11.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from swtpm.firmware import Firmware
from swtpm.kernels import Kernel
from swtpm.programs import BUILD, Failed, alone, run, say

STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")

IMAGES = BUILD / "uki"
KEPT_IMAGES = 24
"""Each has about 14 MB."""

DEFAULT_FILE = Path("EFI/BOOT/BOOTX64.EFI")
"""What firmware boots from a disk without being told more: UEFI 2.10, 3.5.1.1."""

RELEASE = "ID=procseal-lab\nNAME='a node in a box'\n"

FIRST_ADDRESS = 0x20000
"""The first one beyond the sections of the stub."""
PAGE_BYTES = 4096


def make(kernel: Kernel, command_line: str, firmware: Firmware) -> Path:
    """Return a directory with the signed image, as the root of an EFI system partition.

    An image is made once: its directory is named by a digest of all that goes into it.
    """
    for path in (STUB, kernel.initramfs):
        if not path.exists():
            raise Failed(f"{path} is not there; run: make setup")
    root = IMAGES / _digest(kernel, command_line, firmware)
    with alone(IMAGES):
        if not root.exists():
            say(f"image of kernel {kernel.name}")
            _drop_oldest()
            _write(kernel, command_line, firmware, root)
    root.touch()
    return root


def _write(kernel: Kernel, command_line: str, firmware: Firmware, root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=IMAGES) as name:
        unsigned, signed = Path(name) / "unsigned", Path(name) / "root" / DEFAULT_FILE
        signed.parent.mkdir(parents=True)
        assemble(kernel, command_line, unsigned)
        firmware.sign(unsigned, signed)
        (Path(name) / "root").rename(root)


def assemble(kernel: Kernel, command_line: str, target: Path) -> None:
    """Write an image without a signature."""
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        scratch = Path(name)
        (scratch / "osrel").write_text(RELEASE)
        (scratch / "cmdline").write_text(command_line)
        sections = {
            ".osrel": scratch / "osrel",
            ".cmdline": scratch / "cmdline",
            ".linux": kernel.image,
            ".initrd": kernel.initramfs,
        }
        words: list[str | Path] = []
        address = FIRST_ADDRESS
        for section, path in sections.items():
            words += ["--add-section", f"{section}={path}"]
            words += ["--change-section-vma", f"{section}={address:#x}"]
            address += -(-path.stat().st_size // PAGE_BYTES) * PAGE_BYTES
        run("objcopy", "--strip-all", *words, STUB, target)
    _remove_time(target)


def _remove_time(image: Path) -> None:
    """Set TimeDateStamp to zero: an image depends on what is in it, not on when it was made.

    PE format, "MS-DOS Stub" and "COFF File Header": 0x3c holds the offset of the signature "PE",
    and the time is 8 bytes behind that.
    """
    data = bytearray(image.read_bytes())
    header = int.from_bytes(data[0x3C:0x40], "little")
    data[header + 8 : header + 12] = bytes(4)
    image.write_bytes(data)


def _digest(kernel: Kernel, command_line: str, firmware: Firmware) -> str:
    files = (STUB, kernel.image, kernel.initramfs, firmware.certificate("db"), Path(__file__))
    parts = [path.read_bytes() for path in files]
    parts.append(command_line.encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _drop_oldest() -> None:
    """Remove the images that were not used for longest."""
    images = [path for path in IMAGES.iterdir() if path.is_dir()]
    for old in sorted(images, key=lambda path: path.stat().st_mtime)[:-KEPT_IMAGES]:
        shutil.rmtree(old, ignore_errors=True)
