"""The files of the virtual machine, laid out in a directory from which the disk is made.

`base` is what Debian and PyPI bring, and changes seldom. `tree` is `base` plus our own code, the
kernel policy and whatever lies in `extra`, and is laid out again whenever any of it changed.
Reference values are computed from `tree`.
"""

import os
import re
import shutil
from importlib import metadata
from pathlib import Path

from swtpm import kernel_policy
from swtpm.initramfs import GUEST
from swtpm.packages import Apt, extract
from swtpm.programs import BUILD, ROOT, run, say

PACKAGES = (
    "busybox-static", "coreutils", "crun", "dash", "libssl3", "libtss2-esys-3.0.2-0",
    "libtss2-fapi1", "libtss2-mu0", "libtss2-rc0", "libtss2-sys1", "libtss2-tcti-device0",
    "libtss2-tctildr0", "python3", "util-linux",
)  # fmt: skip
"""What the attestor, the demo's programs and the tests' containers need, and what that needs."""

UNUSED = (
    "usr/share/bash-completion", "usr/share/doc", "usr/share/i18n", "usr/share/info",
    "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/perl5", "usr/lib/udev/hwdb.d",
)  # fmt: skip

MERGED = ("bin", "lib", "lib64", "sbin")
"""Links into /usr, as on every Debian 12 host: the kernel's list names the real paths."""

EMPTY = ("dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var/tmp")

ACCOUNTS = (
    ("root", 0, "/root"),
    ("attestor", kernel_policy.ATTESTOR_UID, "/nonexistent"),
    ("procseal-hash", 991, "/nonexistent"),
    ("payments", 1001, "/home/payments"),
    ("alice", 1002, "/home/alice"),
)
"""name, uid and gid, home; below 1000 are the system's."""

HOSTS = """\
127.0.0.1 localhost
10.0.2.15 node
10.0.2.100 verifier.lab
10.0.2.101 ledger.lab
"""
"""Where the machine finds a verifier and a relying party, if its boot forwards to them."""

LIBRARY = "usr/lib/procseal"
"""Our code in the machine, and under `site-packages` what it needs."""

ROOMS = ("attestor", "credential", "evidence")

LINE = GUEST / "line.c"
"""What answers the host."""

EPOCH = 1_700_000_000
"""The time that all files of ours carry, whenever they were put there."""


def lay_base(apt: Apt, build: Path = BUILD) -> None:
    """Unpack Debian's packages, the accounts and the Python packages of the attestor."""
    base = build / "vm" / "base"
    shutil.rmtree(base, ignore_errors=True)
    archives = build / "vm" / "packages"
    say(f"files of the virtual machine: {len(PACKAGES)} Debian packages and what they need")
    for name in EMPTY:
        (base / name).mkdir(parents=True, exist_ok=True)
    for name in MERGED:
        (base / "usr" / name).mkdir(exist_ok=True)
        (base / name).symlink_to(f"usr/{name}")
    for archive in apt.fetch_closure(PACKAGES, archives):
        extract(archive, base)
    for name in UNUSED:
        shutil.rmtree(base / name, ignore_errors=True)
    for name in ("tmp", "var/tmp"):
        (base / name).chmod(0o1777)
    _link_busybox(base)
    _write_accounts(base)
    _copy_site_packages(base)
    _compile(base, "usr/lib/python3.11", f"{LIBRARY}/site-packages")


def _link_busybox(base: Path) -> None:
    """Give busybox the names that no other package has."""
    busybox = base / "usr/bin/busybox"
    for name in run(busybox, "--list").decode().split():
        if not any((base / "usr" / place / name).exists() for place in ("bin", "sbin")):
            (base / "usr/bin" / name).symlink_to("busybox")


def _write_accounts(base: Path) -> None:
    etc = base / "etc"
    _write(etc / "passwd", "".join(f"{n}:x:{i}:{i}::{home}:/bin/sh\n" for n, i, home in ACCOUNTS))
    _write(etc / "group", "".join(f"{n}:x:{i}:\n" for n, i, _ in ACCOUNTS) + "tss:x:101:\n")
    _write(etc / "nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
    _write(etc / "hosts", HOSTS)


def _copy_site_packages(base: Path) -> None:
    """Copy what `pip install procseal[attestor]` brought, and nothing of the tools."""
    target = base / LIBRARY / "site-packages"
    for name in sorted(needed_distributions()):
        for file in metadata.distribution(name).files or ():
            if ".." in file.parts or "__pycache__" in file.parts or file.name == "RECORD":
                continue
            _copy(Path(str(file.locate())), target / file, 0o644)


def needed_distributions() -> set[str]:
    """Return the names of the distributions that the attestor needs at run time."""
    installed = {_normal(one.name) for one in metadata.distributions()}
    found: set[str] = set()
    waiting = ["procseal"]
    while waiting:
        for line in metadata.requires(waiting.pop()) or ():
            # A requirement of an extra is wanted only if the extra is the attestor's; one for
            # another Python or system is told by not being installed.
            requirement, _, marker = line.partition(";")
            name = _normal(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
            is_wanted = "extra ==" not in marker or 'extra == "attestor"' in marker
            if is_wanted and name in installed - found:
                found.add(name)
                waiting.append(name)
    return found


def _normal(name: str) -> str:
    """Return the one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _compile(tree: Path, *places: str) -> None:
    """Compile Python beforehand: the machine is emulated, and nothing may be written there.

    Compiled files whose source is never looked at again carry no time, so the same source makes
    the same bytes, and the attestor reads one file for each module.
    """
    run(
        "/usr/bin/python3", "-m", "compileall", "-q", "-f", "--invalidation-mode",
        "unchecked-hash", "-s", str(tree), "-p", "/", *(tree / place for place in places),
        env={"PYTHONHASHSEED": "0"},
    )  # fmt: skip


def lay_tree(build: Path = BUILD) -> Path:
    """Lay out the whole machine: the base by hard links, and our files on top."""
    tree = build / "vm" / "tree.new"
    shutil.rmtree(tree, ignore_errors=True)
    run("cp", "-al", build / "vm" / "base", tree)
    for source, target, mode in overlay(build):
        (tree / target).unlink(missing_ok=True)
        _copy(source, tree / target, mode)
    run("gcc", "-O2", "-static", "-Wall", "-Wextra", "-o", tree / "usr/sbin/line", LINE)
    os.utime(tree / "usr/sbin/line", (EPOCH, EPOCH))
    _compile(tree, *(f"{LIBRARY}/{room}" for room in ROOMS if (tree / LIBRARY / room).exists()))
    _write(tree / "etc/ima/ima-policy", kernel_policy.render().decode())
    final = build / "vm" / "tree"
    shutil.rmtree(final, ignore_errors=True)
    return tree.rename(final)


def overlay(build: Path = BUILD) -> tuple[tuple[Path, str, int], ...]:
    """Return (source, path in the machine, mode) of each file of ours."""
    files = [
        (GUEST / "init", "usr/sbin/init", 0o755),
        (GUEST / "attestor", "usr/bin/attestor", 0o755),
    ]
    for room in ROOMS:
        files += [
            (path, f"{LIBRARY}/{path.relative_to(ROOT)}", 0o644)
            for path in sorted((ROOT / room).rglob("*"))
            if path.is_file() and path.suffix != ".pyc"
        ]
    extra = build / "vm" / "extra"
    for path in sorted(extra.rglob("*")):
        if path.is_file():
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            files.append((path, str(path.relative_to(extra)), mode))
    return tuple(files)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    os.utime(path, (EPOCH, EPOCH))


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)
    os.utime(target, (EPOCH, EPOCH))
