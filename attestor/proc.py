"""Reading /proc/PID through a descriptor of the directory, which never becomes another's."""

import os
from dataclasses import dataclass

from evidence.shapes import Shape

MOST_PROC_BYTES = 64 << 20
"""smaps has about 700 bytes for each of at most 65530 mappings (vm.max_map_count)."""


class NoLook(Exception):
    """The process cannot be looked at: gone, changing, or holding something that we cannot read."""


class TooSlow(NoLook):
    """The process holds something that does not let itself be read."""


class Unfinished(NoLook):
    """There was no time to hash everything; whoever asks again comes further."""


class Executed(NoLook):
    """The process now runs another program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids(Shape):
    """Who a thread is to the kernel."""

    uids: tuple[int, ...]
    gids: tuple[int, ...]
    capabilities: int


def open_at(directory: int, name: str, flags: int = os.O_RDONLY) -> int:
    """Open a file of the directory."""
    return os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)


def read(directory: int, name: str) -> bytes:
    """Return a file of the directory."""
    descriptor = open_at(directory, name)
    try:
        return whole(descriptor)
    finally:
        os.close(descriptor)


def whole(descriptor: int) -> bytes:
    """Return an open file of /proc from its start."""
    parts: list[bytes] = []
    size = 0
    while part := os.pread(descriptor, 1 << 16, size):
        parts.append(part)
        size += len(part)
        if size > MOST_PROC_BYTES:
            raise NoLook("more mappings than any kernel allows")
    return b"".join(parts)


def status(directory: int) -> dict[str, str]:
    """Return the lines of /proc/PID/status by their names."""
    return status_of(read(directory, "status"))


def status_of(content: bytes) -> dict[str, str]:
    """Return the lines of a status file by their names."""
    text = content.decode("utf-8", "replace")
    pairs = (line.partition(":") for line in text.split("\n"))
    # "Name" is the process's own choice, but cannot hold a newline: the kernel escapes it.
    return {name: value.strip() for name, _, value in pairs}


def cgroup_of(content: bytes) -> str:
    """Return the path in the unified hierarchy, or in systemd's own where there is none."""
    # Not splitlines: users name cgroups, and there is more to end a line for it than the kernel.
    lines = content.decode("utf-8", "replace").split("\n")
    found = dict(line.split(":", 2)[1:] for line in lines if line)
    return found.get("", found.get("name=systemd", ""))


def ids_of(says: dict[str, str]) -> Ids:
    """Return what a status file says of ids."""
    return Ids(
        uids=numbers(says["Uid"]),
        gids=numbers(says["Gid"]),
        capabilities=int(says["CapPrm"], 16),
    )


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in a line of a status file."""
    return tuple(int(one) for one in text.split())
