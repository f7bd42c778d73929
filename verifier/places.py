"""Where code may lie: on file systems of this kernel's own disks, changed by nobody but root."""

from collections.abc import Iterator

from verifier.reasons import Finding, Reason, label

FILE_SYSTEMS = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x73717368: "squashfs",
    0xE0F5E1E2: "erofs",
}
"""Where a program may lie: file systems of this kernel's own disks, by f_type (Linux
include/uapi/linux/magic.h; xfs: fs/xfs/libxfs/xfs_format.h). Memory (tmpfs, ramfs, memfd) is not
measured by every kernel; what a server or another process holds (NFS, 9p, FUSE) can differ from
one read to the next."""

WRITABLE_BY_OTHERS = 0o022
"""Permissions of a file that group or everybody may write."""


def is_in_place(*, owner: int, mode: int, filesystem: int) -> bool:
    """Say whether nothing is wrong with a place: most often nothing is."""
    return not owner and not mode & WRITABLE_BY_OTHERS and filesystem in FILE_SYSTEMS


def judge_place(path: bytes, *, owner: int, mode: int, filesystem: int) -> Iterator[Finding]:
    """Yield what is wrong with a file's, or a directory's, place."""
    what = label(path)
    if owner or mode & WRITABLE_BY_OTHERS:
        # Known bytes now, and others between two looks: nothing measures an ordinary user's.
        found = f"uid {owner}, mode {mode & 0o7777:04o}"
        expected = "root's, and nobody else may write it"
        yield Finding(reason=Reason.PROCESS_OWNER, what=what, expected=expected, found=found)
    if filesystem not in FILE_SYSTEMS:
        expected, found = ", ".join(FILE_SYSTEMS.values()), f"{filesystem:#x}"
        yield Finding(reason=Reason.PROCESS_FILESYSTEM, what=what, expected=expected, found=found)
