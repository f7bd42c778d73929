"""What an attestor says about one process: its core record, and a look at it.

The core record holds what cannot change while the process lives without exec; the process key
is made for it. A look holds what was seen at one moment, and is taken before and after a quote.
Paths are labels for people: digests decide.
"""

import hashlib
from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from evidence import cbor
from evidence.shapes import Message, Shape

LAUNCHED = "launched"
ATTACHED = "attached"
BINDINGS = (LAUNCHED, ATTACHED)
"""How the process came to the attestor, strongest first."""

PEER_PROOFS = ("child", "pidfs", "pidfd", "pid")
"""How the attestor knows which process speaks, strongest first: its own child; a pidfd with an
inode of its own (Linux 6.9); a pidfd (6.5); a pid number that a pidfd kept from being reused."""


IN_RECORD = 3
"""Of the namespaces of a look, the first three are in the core record too."""

WRITABLE_BY_OTHERS = 0o022
"""Permissions of a file that group or everybody may write."""

MOST_CONFIGURATION = 16
"""Files of one launched process."""

PROOF_KEYS = ("attestor", "tpm", "process")
"""Who holds the key that signs a process's requests: its attestor, in memory; the TPM, where it is
the process key itself; or the process, which made it."""

MOST_CONTEXT_BYTES = 1024
"""Of all texts of a context together, in UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationFile(Shape):
    """A file that a launched process is to read, as whoever had it launched has named it."""

    path: str
    """Absolute; none of it is a symbolic link."""
    digest: bytes
    """SHA-256 of the file at this path, 32 bytes."""
    is_roots: bool
    """It and every directory above it belong to root, and nobody else may write to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose(Shape):
    """What a process wants its identity for, in its own words: nobody vouches for them."""

    audience: str
    """Where it is to be used; empty for wherever its workload may use it."""
    scopes: tuple[str, ...]
    """What it is to be used for; none for all that its workload allows there."""
    context: tuple[str, ...]
    """`NAME=VALUE` each, ascending, each name once: a prompt session, a ticket, a build number."""


ANY_PURPOSE = Purpose(audience="", scopes=(), context=())
"""Of a process that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin(Shape):
    """Which process had this one launched, for a job of its own."""

    parent: str
    """SPIFFE ID of that process; empty where none had it launched."""
    parent_key: bytes
    """Name of that process's key, 34 bytes; else empty."""
    job: str
    """What that process calls the job; else empty."""


NO_ORIGIN = Origin(parent="", parent_key=b"", job="")


def arguments_digest(arguments: Sequence[str]) -> bytes:
    """Return the digest of argv, 32 bytes."""
    return _digest("procseal arguments 1", arguments)


def environment_digest(environment: Dictionary[str, str]) -> bytes:
    """Return the digest of an environment, 32 bytes; PROCSEAL_FD, which is ours, is not in it."""
    return _digest(
        "procseal environment 1", [f"{name}={environment[name]}" for name in sorted(environment)]
    )


def _digest(kind: str, texts: Sequence[str]) -> bytes:
    return hashlib.sha256(cbor.encode([kind, *texts])).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreRecord(Message):
    """The unchanging part of one process's record."""

    TYPE: ClassVar[str] = "procseal core 3"

    node: str
    instance: bytes
    """SHA-256 of the attestor's instance key, 32 bytes."""
    boot: str
    """/proc/sys/kernel/random/boot_id."""
    pid: int
    """In the initial pid namespace."""
    pidfs_inode: int
    """Inode of the process's pidfd; 0 before Linux 6.9."""
    start_ticks: int
    """/proc/PID/stat field 22, in clock ticks since boot."""
    uid: int
    user: str
    """The uid's name on the node, empty where it has none."""
    executable: bytes
    """SHA-256 of the executable's bytes, 32 bytes."""
    cgroup: str
    """Path in the unified hierarchy."""
    namespaces: tuple[int, ...]
    """Inodes of its user, pid and mount namespaces: which container it is in, if in any."""
    binding: str
    """One of BINDINGS."""
    peer_proof: str
    """One of PEER_PROOFS."""
    arguments: bytes
    """`arguments_digest` of what it was launched with; empty where it was not launched."""
    environment: bytes
    """`environment_digest`, in the same way."""
    configuration: tuple[ConfigurationFile, ...]
    """As they were right before it was launched; none where it was not."""
    use_key: bytes
    """Public half of the key that will sign its requests: P-256, uncompressed point, 65 bytes;
    empty where that is the process key and there is none yet."""
    script: str
    """Absolute path of the script that the attestor had an interpreter run; else empty."""
    modules: bytes
    """SHA-256 of the ModuleTree of what it could import; else empty."""
    identity: str
    """The SPIFFE ID asked for; empty where exactly one workload has to match."""
    proof_key: str
    """One of PROOF_KEYS: whose `use_key` is."""
    purpose: Purpose
    origin: Origin

    @property
    def unit(self) -> str:
        """Last component of its cgroup: the systemd unit, or the container's id."""
        return self.cgroup.rpartition("/")[2]

    def digest(self) -> bytes:
        """Return SHA-256 of the record, the outsideInfo of the process key.

        Where the use key is the process key itself, which is made for this digest, it is of the
        record without: the certification binds the two.
        """
        made_for = replace(self, use_key=b"") if self.proof_key == "tpm" else self
        return hashlib.sha256(made_for.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment(Shape):
    """What a program's headers want mapped executable: PT_LOAD with PF_X (System V ABI, ch. 5)."""

    offset: int
    """Of its first byte in the file."""
    address: int
    """p_vaddr: where that byte lies, counted from where the program is loaded."""
    length: int
    """p_filesz: bytes in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFile(Shape):
    """A file that a process runs or maps executable.

    Of a file on a file system that the kernel does not answer for itself (FUSE, NFS) nothing is
    asked: it has no digest, and 0 for `filesystem`.
    """

    path: bytes
    """The kernel's label, in nobody's particular mount namespace."""
    digest: bytes
    """SHA-256 of the whole file as read through /proc/PID/map_files or /proc/PID/exe."""
    device: int
    inode: int
    size: int
    """Bytes."""
    links: int
    """0: the file has been deleted."""
    owner: int
    """Its uid."""
    mode: int
    """Its permissions, the low 12 bits of st_mode; an ACL that lets others write shows in them."""
    filesystem: int
    """The f_type of statfs; 0 where it was not asked."""
    segments: tuple[Segment, ...]
    """Executable ones, in the order of its program headers, read from the very bytes that were
    hashed; none where the file is no 64-bit ELF file of the machine's byte order."""
    is_movable: bool
    """ET_DYN: it may be loaded anywhere, and not only where its headers say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping(Shape):
    """An executable mapping of a file."""

    file: int
    """Index into the look's `files`."""
    start: int
    offset: int
    length: int
    """Bytes, as are `offset` and `anonymous`."""
    anonymous: int
    """Bytes of the mapping that are no longer the file's (smaps `Anonymous:` and `Swap:`)."""
    is_writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Shape):
    """What was seen of a process at one moment."""

    boot: str
    pid: int
    pidfs_inode: int
    start_ticks: int
    executable: MappedFile
    """What /proc/PID/exe opens; a claim of the process's until the mappings agree."""
    files: tuple[MappedFile, ...]
    mappings: tuple[Mapping, ...]
    page_bytes: int
    """The machine's page size: mappings start and end at its multiples."""
    anonymous_executable: int
    """Bytes of executable memory that no file holds; vdso and vsyscall are not counted unless they
    were written to."""
    tracer: int
    """TracerPid of any of its threads, 0 for none."""
    uids: tuple[int, ...]
    """Real, effective, saved, file system; of the first thread."""
    gids: tuple[int, ...]
    capabilities: int
    """CapPrm, a bit set: what it has, whether in effect now or a system call later."""
    strangers: tuple[int, ...]
    """Real uids of those that share its memory, threads of its own or other processes (CLONE_VM),
    and have other ids or capabilities than it; ascending, each once."""
    no_new_privs: bool
    seccomp: int
    """0 none, 1 strict, 2 filter."""
    cgroup: str
    namespaces: tuple[int, ...]
    """Inodes of the user, pid, mnt, net, ipc, uts and cgroup namespaces, in this order."""
    is_user_namespace_initial: bool
    configuration: tuple[ConfigurationFile, ...]
    """The files of the core record, as they are now."""
    is_pid_namespace_initial_owned: bool
    """The pid namespace belongs to the initial user namespace: its pids cannot be forged."""
    parent: int
    modules: bytes
    """SHA-256 of the ModuleTree of what a launched Python program could import; else empty."""
