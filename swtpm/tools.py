"""Programs of a sealed machine's initramfs that nothing else needs."""

import shutil
from pathlib import Path

from swtpm.packages import Apt, extract
from swtpm.programs import BUILD, say

PACKAGES = ("dmsetup",)
LINKS = ("lib", "lib64", "sbin")
"""Into /usr, as on every Debian 12 host."""

FILES = (
    "sbin/dmsetup",
    "lib64/ld-linux-x86-64.so.2",
    *(
        f"lib/x86_64-linux-gnu/{name}"
        for name in (
            "libc.so.6", "libdevmapper.so.1.02.1", "libm.so.6", "libpcre2-8.so.0",
            "libselinux.so.1", "libudev.so.1",
        )
    ),
)  # fmt: skip
"""dmsetup, and what it maps."""


def lay(build: Path = BUILD) -> Path:
    """Unpack the packages, unless they are there; return where."""
    tools = build / "vm" / "tools"
    stamp = tools / "complete"
    if not stamp.exists():
        say("tools of the sealed machine")
        shutil.rmtree(tools, ignore_errors=True)
        for name in LINKS:
            (tools / "usr" / name).mkdir(parents=True, exist_ok=True)
            (tools / name).symlink_to(f"usr/{name}")
        apt = Apt.at(build / "apt")
        for archive in apt.fetch_closure(PACKAGES, build / "vm" / "tool-packages"):
            extract(archive, tools)
        stamp.touch()
    return tools


def read(build: Path = BUILD) -> dict[str, bytes]:
    """Return the files, by path from the root."""
    tools = lay(build)
    return {path: (tools / path).read_bytes() for path in FILES}
