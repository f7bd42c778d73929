"""Canaries: files that are good for nothing, whose digests have to turn up in the kernel's list.

A list shows what its kernel policy measures; of what the policy leaves out it shows nothing. So the
verifier names a place, a uid and a file system, and the attestor makes two root-owned files there
that nobody can have seen before. Under that uid it has the kernel execute the one and map the
other executable. A kernel that measures the place has both in register 10 from then on.

They are text, and no program: the kernel measures a file before it looks for a way to run it (Linux
fs/exec.c, `security_bprm_check` in `search_binary_handler`), then says ENOEXEC. Nothing unknown
ever runs for their sake. They start with printable characters, for which the kernel asks for no
module `binfmt-*`.
"""

import hashlib
from dataclasses import dataclass

from evidence.shapes import Shape

EXECUTED, MAPPED = "executed", "mapped"
USES = (EXECUTED, MAPPED)
"""What is done with a canary: one file for each."""

MOST_CANARIES = 16
"""Places that one challenge names: each costs two records that stay until the node reboots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place(Shape):
    """Where a kernel policy could look the other way."""

    uid: int
    """In the initial user namespace."""
    device: int
    """st_dev of the file system that holds the executable."""

    @property
    def label(self) -> str:
        """What people read of it."""
        return f"uid {self.uid}, file system {self.device:#x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryReport(Shape):
    """What became of a canary that a challenge wanted."""

    place: Place
    failure: str
    """Why there is none, in words for people; empty where both files were used."""


def contents(nonce: bytes, place: Place, use: str) -> bytes:
    """Return a canary's bytes; `nonce` is the challenge's, `use` one of USES."""
    text = f"procseal canary 1\n{use} by {place.uid} on {place.device}\n{nonce.hex()}\n"
    return text.encode()


def digests(nonce: bytes, place: Place) -> tuple[bytes, ...]:
    """Return SHA-256 of a place's canaries, in the order of USES."""
    return tuple(hashlib.sha256(contents(nonce, place, use)).digest() for use in USES)
