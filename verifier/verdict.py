"""What an appraisal says. Each value is made in exactly one place and proves that place's step."""

from dataclasses import dataclass
from datetime import datetime

from evidence.canary import Place
from evidence.process import CoreRecord
from verifier.node import Checkpoint, Errand, Measured
from verifier.policy import Workload
from verifier.reasons import ClockSeen, Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a process may use its identity for. Made by `verifier.purpose.decide` only."""

    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    """Each of them is allowed at each of the audiences."""
    until: datetime | None
    """When that ends by itself; None where nothing but its token does."""
    approval: str
    """Id of the operator's approval that it rests on; empty where none was needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A process that may have its credential. Made by `verifier.process.judge_processes` only."""

    key_name: bytes
    core: CoreRecord
    core_digest: bytes
    workload: Workload
    granted: Granted
    labels: tuple[tuple[str, str], ...]
    """Of its node."""
    level: str
    """`lab`, `L1` ... `L4`."""
    lacks: tuple[str, ...]
    """What it would take for the next level, for people."""
    is_new: bool
    """It came with its key: seal to the key, from step 0, even where that was done before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A process that may not, whatever its neighbours may."""

    key_name: bytes
    """The Name of the key that was offered; empty where none could be read."""
    findings: tuple[Finding, ...]
    asking: tuple[CoreRecord, Errand] | None = None
    """The process, and what an operator would have to approve, where only that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeVerdict:
    """A node that was accepted, and what became of each of its processes."""

    checkpoint: Checkpoint
    starts_over: bool
    """The list was judged from its first record on: `measured` replaces the stored set."""
    forgets_known: bool
    """Another boot or instance than the last accepted one: processes known before are gone."""
    measured: tuple[Measured, ...]
    """What this evidence adds to the stored set; all of it where `starts_over`."""
    boot_policy: str
    """Name of the boot policy that holds; empty where none counts on the node."""
    boot_log: bytes
    """The boot's event log, to be stored where `starts_over`."""
    clock: ClockSeen
    """Reset count and clock of this evidence: from now on the node's highest."""
    firmware_version: int
    """The TPM's, as it signed it: recorded with every decision, and compared with nothing."""
    canaries: tuple[Place, ...]
    """Where this evidence has shown that the kernel measures."""
    processes: tuple[Accepted | Refused, ...]
    """In the order of the body, new ones, then known ones; but each step after its parent."""
    reported: tuple[Finding, ...]
    """What was seen and refuses nothing."""
    judged_at: datetime
