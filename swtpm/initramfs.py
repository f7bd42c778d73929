"""The first file system: static busybox and the modules that find the disk."""

from pathlib import Path

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


def write(kernel: Kernel, build: Path) -> Path:
    """Write the initramfs of a kernel, unless the same one is there."""
    contents = programs(kernel, build)
    modules = [Path(path).name for path in contents if path.startswith("modules/")]
    entries = [(name, DIRECTORY, b"") for name in ("dev", "modules", "proc", "sys", "sysroot")]
    entries += [(path, PROGRAM, contents[path]) for path in ("busybox", "init")]
    entries += [("modules/order", DATA, "".join(f"{name}\n" for name in modules).encode())]
    entries += [(f"modules/{name}", DATA, contents[f"modules/{name}"]) for name in modules]
    archive = _cpio(entries)
    target = kernel.initramfs
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
