"""Which files are known: reference sets ("golden hashes"), and signers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

SHA256_BYTES = 32
INTERPRETER = re.compile(
    r"(python|pypy|perl|ruby|node|nodejs|bun|deno|lua|luajit|php|tclsh|expect|guile|java|mono|dotnet"
    r"|sh|ash|dash|bash|rbash|zsh|ksh|mksh|fish|busybox|awk|gawk|mawk|gdb|qemu-[a-z0-9_-]+)[0-9.-]*"
    r"|ld-[a-z0-9_.-]+|ld[0-9]*\.so\.[0-9]+"
)
"""Names of files that run what they are given: what that is, their digest does not say."""


@dataclass(frozen=True, kw_only=True)  # no slots: `paths` is worked out once and kept
class ReferenceSet:
    """Digests of files that belong together."""

    name: str
    files: Mapping[str, tuple[bytes, ...]]
    """SHA-256 digests by path relative to the root, without a leading slash."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes it counts on; empty for all."""
    source: str = ""
    """Where the digests come from, for people."""

    @cached_property
    def paths(self) -> Mapping[bytes, str]:
        """The same the other way round: a path by digest."""
        return {digest: path for path, digests in self.files.items() for digest in digests}

    @cached_property
    def interpreters(self) -> frozenset[bytes]:
        """Digests of the files that have, among their names, one of an interpreter's."""
        return frozenset(
            digest
            for path, digests in self.files.items()
            if INTERPRETER.fullmatch(path.rpartition("/")[2])
            for digest in digests
        )

    def counts_on(self, node: str) -> bool:
        """Say whether the set counts on the node of this name."""
        return not self.nodes or node in self.nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKey:
    """A key that file signatures are verified with."""

    spki: bytes
    """DER SubjectPublicKeyInfo; RSA of 2048 bits or more, or ECC."""
    key_id: bytes
    """What signatures call it, 4 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Somebody whose signature makes a file known: a reference value of its own kind.

    It says who made the file, not which file it is.
    """

    name: str
    keys: tuple[FileKey, ...]
    paths: tuple[str, ...]
    """Files, and directories ending in `/`, relative to the root: where its files may lie."""
    revoked: frozenset[str] = frozenset()
    """Digests as the list has them (`sha256:…`, `verity:sha256:…`) that nothing makes known."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes it counts on; empty for all."""
    source: str = ""
    """Where the keys come from, for people."""

    def counts_on(self, node: str) -> bool:
        """Say whether the signer counts on the node of this name."""
        return not self.nodes or node in self.nodes
