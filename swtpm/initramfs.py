"""The first file system: static busybox and the modules that find the disk."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from swtpm import tools
from swtpm.kernels import NEEDED, Kernel
from swtpm.programs import BUILD

GUEST = Path(__file__).resolve().parent / "guest"
"""Scripts that run inside the virtual machine."""

DIRECTORY = 0o040755
PROGRAM = 0o100755
DATA = 0o100644


def programs(kernel: Kernel, build: Path = BUILD) -> dict[str, bytes]:
    """Return what is executed or loaded from the initramfs of a kernel, by its path in there."""
    return {
        "busybox": (build / "vm/base/usr/bin/busybox").read_bytes(),
        "init": (GUEST / "initramfs-init").read_bytes(),
        **{f"modules/{name}.ko": content for name, content in kernel.modules(*NEEDED)},
    }


def sealed_programs(kernel: Kernel, build: Path = BUILD) -> dict[str, bytes]:
    """Return the same of a sealed machine's initramfs."""
    return {
        "busybox": (build / "vm/base/usr/bin/busybox").read_bytes(),
        "init": (GUEST / "sealed-initramfs-init").read_bytes(),
        **tools.read(build),
        **{f"modules/{name}.ko": content for name, content in kernel.modules(*NEEDED, "dm_verity")},
    }


def write(kernel: Kernel, build: Path) -> Path:
    """Write the initramfs of a kernel, unless the same one is there."""
    return _write(kernel.initramfs, programs(kernel, build))


def write_sealed(kernel: Kernel, policy: bytes, build: Path) -> Path:
    """Write that of a sealed machine (`swtpm.sealed`), with the SELinux policy that it loads."""
    contents = sealed_programs(kernel, build)
    return _write(kernel.initramfs, contents, {"selinux-policy": policy})


def _write(
    target: Path, programs: Mapping[str, bytes], data: Mapping[str, bytes] = MappingProxyType({})
) -> Path:
    modules = {path: one for path, one in programs.items() if path.startswith("modules/")}
    others = {path: one for path, one in programs.items() if path not in modules}
    order = "".join(f"{Path(path).name}\n" for path in modules).encode()
    places = {str(above) for path in others for above in Path(path).parents} - {"."}
    names = sorted({"dev", "modules", "proc", "sys", "sysroot", *places})
    entries = [(name, DIRECTORY, b"") for name in names]
    entries += [(path, PROGRAM, content) for path, content in others.items()]
    entries += [("modules/order", DATA, order)]
    entries += [(path, DATA, content) for path, content in {**modules, **data}.items()]
    archive = _cpio(entries)
    if not target.exists() or target.read_bytes() != archive:
        fresh = target.with_suffix(".new")
        fresh.write_bytes(archive)
        fresh.replace(target)
    return target


def _cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """Return an archive in the "newc" format: Linux, early-userspace/buffer-format.rst."""
    archive = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        path = name.encode() + b"\0"
        # magic ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor
        # namesize check; every number is eight hexadecimal digits.
        numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        archive += b"070701" + b"".join(b"%08X" % value for value in numbers) + path
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
