"""The listing of what a Python program could import: hashed once, and looked at again after that.

A file is hashed when it is new or has changed; otherwise its status alone is asked for. What was
found counts for a few seconds: the looks before and after a quote have it in common, and so have
the programs of one interpreter.
"""

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from attestor.digests import Digests, Unreadable, filesystem_of, is_roots_alone
from attestor.interpreter import PythonProgram, roots
from attestor.mounts import HERE, Mounts
from attestor.proc import NoLook
from evidence.modules import Module, ModuleTree, digest_of

LASTS_SECONDS = 5.0
MOST_MODULES = 8192
"""Of one directory with all below it."""
DEEPEST = 24
"""Directories within directories."""

MOST_TREES = 256
"""Remembered."""

_MOUNT_POINT = re.compile(rb"^\d+ \d+ \S+ \S+ (\S+) ", re.MULTILINE)
"""proc(5), /proc/PID/mountinfo: the fifth field, with spaces and the like as octal numbers."""
_OCTAL = re.compile(rb"\\([0-7]{3})")

_Found = tuple[bytes, os.stat_result]
_Facts = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A ModuleTree as it travels, and its SHA-256."""

    encoded: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Tree:
    """A directory with all below it, or one file."""

    when: float
    facts: tuple[_Facts, ...]
    modules: tuple[Module, ...]


class ModuleTrees:
    """Lists the modules of programs; hashes with `digests`."""

    def __init__(self, digests: Digests, *, lasts_seconds: float = LASTS_SECONDS) -> None:
        self._digests = digests
        self._lasts_seconds = lasts_seconds
        self._trees: dict[str, _Tree] = {}
        self._listings: dict[PythonProgram, tuple[tuple[_Tree, ...], Listing]] = {}

    def of(self, program: PythonProgram) -> Listing:
        """Return the listing; raise NoLook where there is more than can be listed, or odder."""
        try:
            trees = tuple(map(self._tree, (program.interpreter, *roots(program))))
        except (Unreadable, OSError) as error:
            raise NoLook(f"modules of {program.script!a}: {error}") from error
        modules = [one.modules for one in trees]
        held = self._listings.get(program)
        if held is None or [one.modules for one in held[0]] != modules:
            merged = {one.path: one for tree in modules for one in tree}
            tree = ModuleTree(modules=tuple(merged[path] for path in sorted(merged)))
            encoded = tree.encode()
            held = trees, Listing(encoded, digest_of(encoded))
            if len(self._listings) == MOST_TREES:
                self._listings.clear()
            self._listings[program] = held
        return held[1]

    def _tree(self, root: str) -> _Tree:
        now, last = time.monotonic(), self._trees.get(root)
        if last and now - last.when < self._lasts_seconds:
            return last
        found = tuple(_walk(os.fsencode(root)))
        facts = tuple(_facts(*one) for one in found)
        if last and last.facts == facts:
            modules = last.modules
        else:
            systems: dict[int, int] = {}
            modules = tuple(self._module(path, status, systems) for path, status in found)
        if len(self._trees) == MOST_TREES:
            self._trees.clear()
        self._trees[root] = _Tree(now, facts, modules)
        return self._trees[root]

    def _module(self, path: bytes, status: os.stat_result, systems: dict[int, int]) -> Module:
        is_read = stat.S_ISREG(status.st_mode) and is_roots_alone(
            owner=status.st_uid, mode=status.st_mode
        )
        digest = self._digests.remembered(status) if is_read else b""
        if digest is None or status.st_dev not in systems:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                systems[status.st_dev] = filesystem_of(descriptor)
                if digest is None:
                    digest = self._digests.of(descriptor)
            finally:
                os.close(descriptor)
        return Module(
            path=path,
            digest=digest,
            owner=status.st_uid,
            mode=status.st_mode,
            filesystem=systems[status.st_dev],
        )


def _facts(path: bytes, one: os.stat_result) -> _Facts:
    """Return what changes when a file does, or what it is called."""
    times = one.st_mtime_ns, one.st_ctime_ns
    return path, one.st_dev, one.st_ino, one.st_size, *times, one.st_uid, one.st_mode


def _walk(root: bytes) -> Iterator[_Found]:
    """Yield what is at and below a path, and the directories above it."""
    yield from _above(root)
    _demand_own(root)
    count, waiting = 0, [(root, 0)]
    while waiting:
        path, depth = waiting.pop()
        status = os.lstat(path)
        yield path, status
        # In somebody else's directory there may be anything; that there is one is enough.
        if not (
            stat.S_ISDIR(status.st_mode)
            and is_roots_alone(owner=status.st_uid, mode=status.st_mode)
        ):
            continue
        if depth == DEEPEST:
            raise NoLook(f"more than {DEEPEST} directories within one another in {root!a}")
        for within, is_directory in _within(path):
            count += 1
            if count > MOST_MODULES:
                raise NoLook(f"more than {MOST_MODULES} files in {root!a}")
            if is_directory:
                waiting.append((within, depth + 1))
            else:
                yield from _file(within)


def _within(directory: bytes) -> Iterator[tuple[bytes, bool]]:
    with os.scandir(directory) as entries:
        for one in entries:
            yield one.path, one.is_dir(follow_symlinks=False)


def _file(path: bytes) -> Iterator[_Found]:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        target = os.path.realpath(path, strict=True)
        yield from _above(target)
        status = os.lstat(target)
    if not stat.S_ISREG(status.st_mode):
        raise NoLook(f"{path!a}: neither a file nor a directory, nor a link to a file")
    yield path, status


def _above(path: bytes) -> Iterator[_Found]:
    while path != b"/":
        path = path.rpartition(b"/")[0] or b"/"
        yield path, os.lstat(path)


def _demand_own(root: bytes) -> None:
    """Raise NoLook unless the kernel answers for what is there, and nothing is mounted below."""
    descriptor = os.open(root, os.O_PATH | os.O_CLOEXEC)
    try:
        if not Mounts().is_kernels_own(descriptor):
            raise NoLook(f"{root!a} lies on a file system that others answer for")
    finally:
        os.close(descriptor)
    with open(HERE, "rb") as file:  # noqa: PTH123
        points = [_OCTAL.sub(_octal, one) for one in _MOUNT_POINT.findall(file.read())]
    within = [one for one in points if one.startswith(root.rstrip(b"/") + b"/")]
    if within:
        raise NoLook(f"{within[0]!a}: something is mounted among the modules")


def _octal(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 8)])
