"""Reference sets from files that are known to be good: a directory tree, installed packages.

Paths are relative to the root, and no directory in them is a symbolic link: the kernel sees them
so. A link to a file is another name of that file, by which programs find it; what else is not a
regular file is left out. That the files are good is the caller's word.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from verifier.config import Misconfigured
from verifier.policy import ReferenceSet
from verifier.reference import NAME, PATH

DPKG_INFO = "var/lib/dpkg/info"
"""Debian: PACKAGE.list or PACKAGE:ARCHITECTURE.list, one absolute path a line (dpkg-query(1))."""
EVERY = 500
"""Files between two lines of progress."""
MOST_SOURCE = 200
"""Characters of package names in `source`."""

MOST_LINKS = 40
"""Followed for one path (Linux include/linux/namei.h, MAXSYMLINKS)."""

Progress = Callable[[str], None]


def make_from_tree(
    name: str, tree: Path, *, progress: Progress, buffers: Iterable[str] = ()
) -> ReferenceSet:
    """Return the set of all regular files under a directory."""
    if not tree.is_dir():
        raise Misconfigured(f"{tree} is not a directory")
    source = f"tree {tree}"
    return _make(name, tree, _walk(tree), source=source, progress=progress, buffers=buffers)


def make_from_packages(
    name: str,
    packages: Iterable[str],
    *,
    root: Path,
    progress: Progress,
    buffers: Iterable[str] = (),
) -> ReferenceSet:
    """Return the set of the files of Debian packages that are installed under `root`."""
    wanted = sorted(set(packages))
    names = " ".join(wanted)
    source = f"packages {names if len(names) <= MOST_SOURCE else f'{names[:MOST_SOURCE]}…'}"
    lists = [file for package in wanted for file in _lists(root, package)]
    paths = {path for file in lists for path in _listed(root, file)}
    return _make(name, root, sorted(paths), source=source, progress=progress, buffers=buffers)


def _make(  # noqa: PLR0913 - a set is made of this
    name: str,
    root: Path,
    paths: Iterable[Path],
    *,
    source: str,
    progress: Progress,
    buffers: Iterable[str],
) -> ReferenceSet:
    if NAME.fullmatch(name) is None:
        raise Misconfigured(f"{name!r}: expected a name of the form {NAME.pattern}")
    files = {label: (hashlib.sha256(text).digest(),) for label, text in map(_buffer, buffers)}
    left_out = 0
    for number, path in enumerate(paths, 1):
        label = path.relative_to(root).as_posix()
        if PATH.fullmatch(label) is None or not label.isprintable():
            left_out += 1
            continue
        with _led_to(root, path).open("rb") as file:
            files[label] = (hashlib.file_digest(file, "sha256").digest(),)
        if number % EVERY == 0:
            progress(f"{number} files, now {label}")
    if not files:
        raise Misconfigured(f"{name}: no file found, and a set without files is none")
    odd = f", {left_out} with odd names left out" if left_out else ""
    progress(f"{name}: {len(files)} files{odd}")
    return ReferenceSet(name=name, files=files, source=source)


def _walk(tree: Path) -> Iterator[Path]:
    """Yield the files under the tree, in order, and links to files."""
    for directory, names, files in os.walk(tree):
        names.sort()
        for file in sorted(files):
            path = Path(directory, file)
            if _led_to(tree, path).is_file():
                yield path


def _led_to(root: Path, path: Path) -> Path:
    """Return where a path leads for whom `root` is the root; it may be that nothing is there."""
    at, left, links = root, list(path.relative_to(root).parts), 0
    while left:
        name = left.pop(0)
        if name == "..":
            at = at if at == root else at.parent
        elif (at / name).is_symlink():
            links += 1
            if links > MOST_LINKS:
                return at  # a directory, whatever was meant
            target = (at / name).readlink()
            at = root if target.is_absolute() else at
            left = [*(one for one in target.parts if one != target.anchor), *left]
        else:
            at /= name
    return at


def _lists(root: Path, package: str) -> list[Path]:
    info = root / DPKG_INFO
    found = [info / f"{package}.list", *sorted(info.glob(f"{_escaped(package)}:*.list"))]
    existing = [path for path in found if path.is_file()]
    if not existing:
        raise Misconfigured(f"{package} is not installed under {root}")
    return existing


def _escaped(package: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in package)


def _listed(root: Path, file: Path) -> Iterator[Path]:
    """Yield the files of a package's list, below the root and by no directory that is a link."""
    for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        path = root / line.lstrip("/")
        if path != root and _led_to(root, path).is_file():
            yield _led_to(root, path.parent) / path.name


def _buffer(text: str) -> tuple[str, bytes]:
    """Return the label and the bytes of `LABEL=TEXT`: data that the kernel measures by itself."""
    label, separator, data = text.partition("=")
    if not separator or PATH.fullmatch(label) is None:
        raise Misconfigured(f"{text!r}: expected LABEL=TEXT, such as kernel_version=6.12.9")
    return label, data.encode()
