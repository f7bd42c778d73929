"""Files that a launched program is to read: hashed when it is launched, and at every look."""

import os
from collections.abc import Sequence

from attestor.digests import Digests, Unreadable
from attestor.mounts import Mounts
from attestor.proc import NoLook
from evidence.process import WRITABLE_BY_OTHERS, ConfigurationFile


def read_configuration(paths: Sequence[str], digests: Digests) -> tuple[ConfigurationFile, ...]:
    """Return the files at these absolute paths; raise NoLook where one cannot be hashed."""
    mounts = Mounts()
    return tuple(_read(path, digests, mounts) for path in paths)


def _read(path: str, digests: Digests, mounts: Mounts) -> ConfigurationFile:
    descriptor, is_roots = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), True
    try:
        for name in path.split("/")[1:]:
            is_roots = is_roots and _is_roots(descriptor)
            # Step by step: a symbolic link, or what is no directory, has nothing below it.
            below = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        if not mounts.is_kernels_own(descriptor):
            raise NoLook(f"{path!a}: it lies on a file system that others answer for")
        return ConfigurationFile(
            path=path,
            digest=digests.of(descriptor),
            is_roots=is_roots and _is_roots(descriptor),
        )
    except (Unreadable, OSError) as error:
        raise NoLook(f"{path!a}: {error}") from error
    finally:
        os.close(descriptor)


def _is_roots(descriptor: int) -> bool:
    status = os.fstat(descriptor)
    return status.st_uid == 0 and not status.st_mode & WRITABLE_BY_OTHERS
