"""Debian's kernels for virtual machines: the release's, and the one of its backports."""

import lzma
import re
from dataclasses import dataclass
from pathlib import Path

from swtpm.packages import Apt, extract
from swtpm.programs import BUILD, Failed, say

DEFAULT = "6.12"
NAMES = (DEFAULT, "6.1")
"""6.12 is in bookworm-backports; 6.1, the release's, lacks SO_PEERPIDFD and pidfs."""

META = "linux-image-cloud-amd64"
"""The package that depends on the newest concrete kernel package."""

NEEDED = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_console")
"""Modules without which there is no disk, network or line to the host; some are built in."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel package, unpacked."""

    name: str
    root: Path

    @classmethod
    def at(cls, name: str, build: Path = BUILD) -> "Kernel":
        """Return the kernel that set-up has fetched."""
        if name not in NAMES:
            raise Failed(f"no kernel {name!r}; there are: {', '.join(NAMES)}")
        kernel = cls(name, build / "kernels" / name)
        if not kernel.stamp.exists():
            raise Failed(f"kernel {name} is not there yet; run: make setup")
        return kernel

    @property
    def stamp(self) -> Path:
        """The file that says that the kernel is whole."""
        return self.root / "complete"

    @property
    def image(self) -> Path:
        """What qemu boots."""
        [image] = (self.root / "boot").glob("vmlinuz-*")
        return image

    @property
    def initramfs(self) -> Path:
        """The first file system, made by `swtpm.initramfs`."""
        return self.root / "initramfs.cpio"

    def modules(self, *names: str) -> tuple[tuple[str, bytes], ...]:
        """Return modules, each after those it depends on; none for what is built in."""
        files = {_stem(path): path for path in self.root.glob("lib/modules/**/*.ko*")}
        ordered: dict[str, bytes] = {}
        for name in names:
            _add(name, files, ordered)
        return tuple(ordered.items())


def fetch(name: str, apt: Apt, build: Path = BUILD) -> Kernel:
    """Fetch and unpack a kernel."""
    kernel = Kernel(name, build / "kernels" / name)
    if kernel.stamp.exists():
        return kernel
    package, version = _newest(name, apt)
    say(f"kernel {name}: {package} {version}")
    kernel.root.mkdir(parents=True, exist_ok=True)
    archive = apt.fetch(package, version, kernel.root / "package")
    extract(archive, kernel.root)
    archive.unlink()
    kernel.stamp.write_text(f"{package} {version}\n")
    return kernel


def _newest(name: str, apt: Apt) -> tuple[str, str]:
    """Return (concrete package, version) of the newest kernel of a series."""
    for version, depends in apt.versions(META):
        found = re.fullmatch(r"(linux-image-\S+) \(= (\S+)\)", depends)
        if version.startswith(f"{name}.") and found:
            return found.group(1), found.group(2)
    raise Failed(f"the mirror has no kernel {name}: is bookworm-backports on it?")


def _stem(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _add(name: str, files: dict[str, Path], ordered: dict[str, bytes]) -> None:
    """Add a module after its dependencies; one without a file is built in."""
    if name in ordered or name not in files:
        return
    content = files[name].read_bytes()
    if files[name].suffix == ".xz":
        content = lzma.decompress(content)
    found = re.search(rb"\0depends=([^\0]*)\0", content)
    for dependency in found.group(1).decode().split(",") if found else ():
        _add(dependency.replace("-", "_"), files, ordered)
    ordered[name] = content
