"""Who may have which identity, where, when and what for."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network

from verifier.window import Window

LEVELS = ("lab", "L1", "L2", "L3", "L4")
"""Assurance levels, lowest first. L0 is a report only and never in a credential."""
MOST_OF_INTERPRETERS = "L2"
"""What they are told by data, nobody looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Which containers a workload runs in."""

    image: str
    """Name of the set that holds every file that may run in there."""
    cgroup: str
    """Path of the container's cgroup; a last component `*` stands for any one component."""

    def has(self, cgroup: str) -> bool:
        """Say whether the path is that of such a container, and of nothing above or below it."""
        parent, _, name = self.cgroup.rpartition("/")
        if name != "*":
            return cgroup == self.cgroup
        above, _, one = cgroup.rpartition("/")
        return above == parent and one not in ("", ".", "..")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreted:
    """What the interpreter that a workload executes has to run."""

    script: str
    """A file of the set `modules`."""
    modules: str
    """Name of the set that holds it, and the modules beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """With what a workload is launched, and with nothing else."""

    arguments: tuple[str, ...]
    """argv; the first is the program's absolute path."""
    environment: Mapping[str, str]
    files: Mapping[str, bytes]
    """SHA-256 of each file of its configuration, by absolute path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Something that a workload may use its identity for."""

    audience: str
    scopes: tuple[str, ...]
    window: Window | None = None
    """When, if not always."""
    needs_approval: bool = False
    """An operator has to approve it each time, for a while."""

    def allows_all_of(self, other: "Use") -> bool:
        """Say whether what `other` allowed is allowed by this one."""
        return (
            self.audience == other.audience
            and set(other.scopes) <= set(self.scopes)
            and self.window in (None, other.window)
            and self.needs_approval <= other.needs_approval
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Who may have which identity."""

    id: str
    """SPIFFE ID."""
    executable_set: str
    executable_file: str
    mapped: tuple[str, ...]
    """Names of the sets and signers that its mapped files may come from."""
    user: str
    unit: str
    """Last component of its cgroup; empty where something else says who may start it."""
    any_starter: bool
    minimum: str
    """`lab`, `L1` ... `L4`."""
    uses: tuple[Use, ...]
    """At least one."""
    lifetime: timedelta
    lease: timedelta
    revokes_misused: bool = False
    """Whether a relying party's report that a token was misused ends the credential."""
    container: Container | None = None
    """The container that it must run in, if it must."""
    needs_canary: bool = True
    """Whether a canary has to show that the kernel measures its uid and its file system."""
    launch: Launch | None = None
    """What its attestor must have launched it with, if that must have launched it."""
    parent: str = ""
    """SPIFFE ID of the process that must have had it launched for a job; empty where none may."""
    posture: tuple[str, ...] = ()
    """How the node's kernel has to be set: words of `verifier.posture.DEMANDS`."""
    interpreter: Interpreted | None = None
    """What the executable runs, if it is an interpreter."""
    proof_key: str = "attestor"
    """Who holds the key that signs its requests: one of `evidence.process.PROOF_KEYS`."""
    context: tuple[str, ...] = ()
    """Names of what a process must say of what it is for; it may say nothing else."""
    nodes: Mapping[str, str] = field(default_factory=dict)
    """Labels that its node must have."""
    network: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where its node's connections must come from; none for anywhere."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the sets that what it imports may come from; none for no interpreter."""
        if self.interpreter is None:
            return ()
        names = (self.interpreter.modules, self.executable_set, *self.mapped)
        return tuple(dict.fromkeys(names))

    def allows_all_of(self, other: "Workload") -> bool:
        """Say whether what `other` allowed is allowed still: tokens under it may live on.

        Only more uses and places of libraries are more; any other change is another workload.
        """
        return (
            self == replace(other, uses=self.uses, mapped=self.mapped)
            and set(other.mapped) <= set(self.mapped)
            and all(any(one.allows_all_of(old) for one in self.uses) for old in other.uses)
        )
