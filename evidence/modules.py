"""What a launched Python program could import: every file of the directories where it looks.

The listing travels with a new process; its SHA-256 is in the core record and in every look.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from evidence.shapes import Message, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Module(Shape):
    """A file or a directory in which modules are looked for, or a directory above one."""

    path: bytes
    """Absolute."""
    digest: bytes
    """SHA-256 of a file's bytes, a symbolic link's being what it leads to. Empty for a directory,
    and for a file that another than root owns or may write: nobody reads that one."""
    owner: int
    """Its uid."""
    mode: int
    """st_mode: its type and permissions; an ACL that lets others write shows in them."""
    filesystem: int
    """The f_type of statfs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTree(Message):
    """Ascending by path, each once."""

    TYPE: ClassVar[str] = "procseal modules 1"

    modules: tuple[Module, ...]


def digest_of(tree: bytes) -> bytes:
    """Return SHA-256 of an encoded ModuleTree; nothing for nothing, the program of no script."""
    return hashlib.sha256(tree).digest() if tree else b""
