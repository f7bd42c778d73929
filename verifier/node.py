"""What a verifier remembers of a node between two appraisals."""

from dataclasses import dataclass

from evidence.canary import Place
from verifier.reasons import ClockSeen

ASKED, SHOWN, FAILED, MISSING = "asked", "shown", "failed", "missing"
"""What became of a canary: nothing yet; in the list; not tried; tried, and not in the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A process accepted earlier under the node's present AK, reset count and instance."""

    key_name: bytes
    core: bytes
    """The encoded CoreRecord that its key was made for."""
    workload: str
    """SPIFFE ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A canary that was asked for in the boot of the node's instance."""

    nonce: bytes
    """Of its challenge."""
    place: Place
    asked: int
    """Unix seconds."""
    state: str
    """ASKED, SHOWN, FAILED or MISSING."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a process is to do with its identity, once an operator approves it."""

    workload: str
    """SPIFFE ID."""
    audience: str
    scopes: tuple[str, ...]
    """In order of the alphabet, each once."""
    context: tuple[str, ...]
    """As the process says it: `NAME=VALUE` each, ascending."""
    job: str
    """That it was launched for, as its attestor says; empty where it is no job's step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An operator's word that processes of a node may do something until then."""

    id: str
    """16 hexadecimal digits: what tokens that rest on it call their grant."""
    errand: Errand
    until: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An enrolled node: its keys do not change."""

    name: str
    ak_public: bytes
    """TPMT_PUBLIC."""
    ek_public: bytes
    """TPMT_PUBLIC."""
    instance: bytes
    """SHA-256 of the instance key accepted last, 32 bytes; empty before the first."""
    instance_reset_count: int
    """Reset count of the boot in which `instance` was accepted: in another boot it counts for
    nothing, and neither does `known`."""
    approved_instances: tuple[bytes, ...]
    """SHA-256 of later instance keys that an operator approved, in order."""
    known: tuple[Known, ...]
    clock: ClockSeen | None
    """The highest that the TPM has signed, in accepted or refused evidence."""
    canaries: tuple[Canary, ...] = ()
    """Those of the boot with `instance_reset_count`, oldest first, lost ones too: each may be in
    the list for ever."""
    labels: tuple[tuple[str, str], ...] = ()
    """Names and values that operators gave it, by name."""
    approvals: tuple[Approval, ...] = ()
    """Those that were open when its evidence came: like `canaries`, of the boot that was known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One record of the list that has been judged: the stored set's member."""

    register: int
    algorithm: str
    """The kernel's name of the digest's algorithm; `violation` for a violation."""
    digest: bytes
    path: bytes
    """A label."""
    template: str
    signature: bytes = b""
    """The file's attribute security.ima, verbatim and unverified; empty where it shows none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far a boot's measurement list has been judged and found good.

    It belongs to one AK, one reset count and one instance; anything else starts over.
    """

    ak_name: bytes
    reset_count: int
    instance: bytes
    """SHA-256 of the instance key, 32 bytes."""
    records: int
    """Number of records judged: the index of the first one wanted next."""
    registers: tuple[tuple[int, bytes], ...]
    """Value so far of each register of the list, sha256 bank, ascending."""
    policy_version: int
    root: bytes
    """Commitment to the stored set: see `verifier.replay.fold_root`, 32 bytes."""
    boot_log: bytes
    """SHA-256 of the boot's event log as it was sent, be it empty, 32 bytes."""
