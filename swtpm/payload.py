"""What one boot of the machine gets on top of its disk: files with owners and modes."""

import io
import tarfile
from pathlib import Path

from swtpm.tree import ACCOUNTS, EPOCH

UIDS = {name: uid for name, uid, _ in ACCOUNTS}


class Payload:
    """Files by their absolute paths in the machine."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._archive = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.GNU_FORMAT)

    def add(self, path: str, data: bytes, *, owner: str = "root", mode: int = 0o644) -> None:
        """Add a file; directories that are missing become root's."""
        member = self._member(path, owner, mode)
        member.size = len(data)
        self._archive.addfile(member, io.BytesIO(data))

    def add_directory(self, path: str, *, owner: str = "root", mode: int = 0o755) -> None:
        """Add a directory, or give one that is there another owner and mode."""
        member = self._member(path, owner, mode)
        member.type = tarfile.DIRTYPE
        self._archive.addfile(member)

    def add_tree(self, source: Path) -> None:
        """Add a directory's files, relative to /, as root's."""
        for path in sorted(source.rglob("*")):
            target = f"/{path.relative_to(source)}"
            if path.is_dir():
                self.add_directory(target)
            elif path.is_file():
                self.add(target, path.read_bytes(), mode=path.stat().st_mode & 0o755)

    def write(self, path: Path) -> None:
        """Write the tar archive; whole blocks, since the machine sees it as a disk."""
        self._archive.close()
        path.write_bytes(self._buffer.getvalue())

    @staticmethod
    def _member(path: str, owner: str, mode: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(path.lstrip("/"))
        member.uid = member.gid = UIDS[owner]
        member.mode = mode
        member.mtime = EPOCH
        return member
