"""A process's code: its executable, the files that it maps executable, and where."""

import os
import stat
from dataclasses import dataclass

from attestor.digests import Digests, Unreadable, filesystem_of, is_lasting
from attestor.memory import Region, is_kernels, map_file, own_bytes
from attestor.mounts import Mounts, mount_of
from attestor.proc import NoLook, open_at, read
from evidence.process import MappedFile, Mapping

MOST_FILES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What of a look is dear to read, and does not change while the glance is the same."""

    executable: MappedFile
    files: tuple[MappedFile, ...]
    mappings: tuple[Mapping, ...]
    anonymous_executable: int

    @property
    def is_lasting(self) -> bool:
        """Whether its bytes are the files', and those files nobody but root can write to."""
        return not any(one.anonymous for one in self.mappings) and all(
            is_lasting(owner=one.owner, mode=one.mode, filesystem=one.filesystem)
            for one in (self.executable, *self.files)
        )


def read_code(
    directory: int,
    regions: tuple[Region, ...],
    mounts: Mounts,
    digests: Digests,
    *,
    has_own_pages: bool,
) -> Code:
    """Return the code of the process of a /proc directory, mapped in these regions."""
    exe = open_at(directory, "exe", os.O_PATH)
    try:
        label = os.readlink(b"exe", dir_fd=directory)
        executable = _file(exe, label, mounts, digests)
    finally:
        os.close(exe)
    own = own_bytes(read(directory, "smaps")) if has_own_pages else {}
    files, mappings, anonymous_executable = _mappings(directory, regions, own, mounts, digests)
    return Code(
        executable=executable,
        files=files,
        mappings=mappings,
        anonymous_executable=anonymous_executable,
    )


def facts_of(descriptor: int, mounts: Mounts, device: bytes = b"") -> tuple[int, ...]:
    """Return device, inode, size and times of a file; of one that is not asked, its mount."""
    if not mounts.is_kernels_own(descriptor, device):
        return (mount_of(descriptor),)
    one = os.fstat(descriptor)
    return one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns


def _file(
    descriptor: int, label: bytes, mounts: Mounts, digests: Digests, device: bytes = b""
) -> MappedFile:
    if not mounts.is_kernels_own(descriptor, device):
        return MappedFile(
            path=label,
            digest=b"",
            device=0,
            inode=mount_of(descriptor),
            size=0,
            links=1,
            owner=0,
            mode=0,
            filesystem=0,
            segments=(),
            is_movable=False,
        )
    try:
        contents = digests.contents(descriptor)
    except (Unreadable, OSError) as error:
        raise NoLook(f"{os.fsdecode(label)!a}: {error}") from error
    status = os.fstat(descriptor)
    return MappedFile(
        path=label,
        digest=contents.digest,
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        links=status.st_nlink,
        owner=status.st_uid,
        mode=stat.S_IMODE(status.st_mode),
        filesystem=filesystem_of(descriptor),
        segments=contents.program.segments,
        is_movable=contents.program.is_movable,
    )


def _mappings(
    directory: int,
    regions: tuple[Region, ...],
    own: dict[int, int],
    mounts: Mounts,
    digests: Digests,
) -> tuple[tuple[MappedFile, ...], tuple[Mapping, ...], int]:
    """Return the files that are mapped executable, where, and how much no file holds."""
    files: dict[tuple[int, ...], MappedFile] = {}
    mappings: list[Mapping] = []
    anonymous_executable = 0
    for region in regions:
        anonymous = own.get(region.start, 0)
        if region.inode == 0:
            anonymous_executable += anonymous if is_kernels(region) else region.length
            continue
        name = map_file(region)
        descriptor = open_at(directory, name, os.O_PATH)
        try:
            # Not by device and inode of the region: on btrfs two files can have them in common.
            place = (*facts_of(descriptor, mounts, region.device)[:2], region.inode)
            if place not in files:
                if len(files) == MOST_FILES:
                    raise NoLook(f"more than {MOST_FILES} files are mapped executable")
                label = os.readlink(name.encode(), dir_fd=directory)
                files[place] = _file(descriptor, label, mounts, digests, region.device)
        finally:
            os.close(descriptor)
        mappings.append(
            Mapping(
                file=list(files).index(place),
                start=region.start,
                offset=region.offset,
                length=region.length,
                anonymous=anonymous,
                is_writable=region.permissions[1:2] == b"w",
            )
        )
    return tuple(files.values()), tuple(mappings), anonymous_executable
