"""What is accepted: reference values ("golden hashes") and workloads, read from TOML.

Unknown keys, empty sets and anything ambiguous are refused when they are read
(`verifier.reference`, `verifier.workload`) or put together (`build_policy`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network

from verifier.confinement import Confinement
from verifier.reasons import Finding, Reason, Rejected
from verifier.verity import Verity
from verifier.window import Window

SHA256_BYTES = 32

LEVELS = ("lab", "L1", "L2", "L3", "L4")
"""Assurance levels, lowest first. L0 is a report only and never in a credential."""
MOST_OF_INTERPRETERS = "L2"
"""What they are told by data, nobody looks at."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPolicy:
    """How a machine may boot: what may extend the registers of its boot, and what must."""

    name: str
    secure_boot: bool
    """Whether Secure Boot must have been on."""
    command_lines: tuple[str, ...]
    """Kernel command lines, each as it is measured; one of them must have been."""
    registers: Mapping[int, Mapping[str, tuple[bytes, ...]]]
    """By register, the SHA-256 digests that may extend it, under labels for people."""
    phases: tuple[str, ...] = ()
    """What user space extends register 11 with later, in this order (systemd-pcrphase)."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes it counts on; empty for all."""
    source: str = ""
    """Where the digests come from, for people."""

    def counts_on(self, node: str) -> bool:
        """Say whether the policy counts on the node of this name."""
        return not self.nodes or node in self.nodes

    def allows_all_of(self, other: "BootPolicy") -> bool:
        """Say whether each boot that `other` allowed is allowed still, wherever it was.

        Only more command lines, more digests in the same registers, and more nodes are more.
        """
        widened = replace(
            other,
            command_lines=self.command_lines,
            registers=self.registers,
            nodes=self.nodes,
            source=self.source,
        )
        return (
            self == widened
            and set(other.command_lines) <= set(self.command_lines)
            and self.registers.keys() == other.registers.keys()
            and all(
                _digests_of(other.registers[one]) <= _digests_of(self.registers[one])
                for one in self.registers
            )
            and (not self.nodes or (bool(other.nodes) and set(other.nodes) <= set(self.nodes)))
        )


def _digests_of(labelled: Mapping[str, tuple[bytes, ...]]) -> set[bytes]:
    return {digest for digests in labelled.values() for digest in digests}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that an appraisal compares with. Made by `build_policy`."""

    version: int
    """Grows by one with every change."""
    trust_domain: str
    sets: tuple[ReferenceSet, ...]
    workloads: tuple[Workload, ...]
    kernel_policies: frozenset[bytes]
    """SHA-256 of the kernel policy files that are accepted."""
    signers: tuple[Signer, ...] = ()
    verities: tuple[Verity, ...] = ()
    confinements: tuple[Confinement, ...] = ()
    boot_policies: tuple[BootPolicy, ...] = ()
    """Where one counts on a node, one must hold; where none does, its level is `lab`."""
    execute_register: int = 10
    user_register: int = 12
    attestor_register: int = 13

    @property
    def list_registers(self) -> tuple[int, ...]:
        """The registers that the measurement list extends, ascending."""
        return tuple(sorted((self.execute_register, self.user_register, self.attestor_register)))

    @property
    def closed_registers(self) -> tuple[int, ...]:
        """Those in which nothing unknown may be."""
        return (self.execute_register, self.attestor_register)

    def sets_on(self, node: str) -> tuple[ReferenceSet, ...]:
        """Return the sets that count on the node of this name."""
        return tuple(one for one in self.sets if one.counts_on(node))

    def signers_on(self, node: str) -> tuple[Signer, ...]:
        """Return the signers that count on the node of this name."""
        return tuple(one for one in self.signers if one.counts_on(node))

    def verities_on(self, node: str) -> tuple[Verity, ...]:
        """Return the named dm-verity devices that count on the node of this name."""
        return tuple(one for one in self.verities if one.counts_on(node))

    def confinements_on(self, node: str) -> tuple[Confinement, ...]:
        """Return the vouched SELinux policies that count on the node of this name."""
        return tuple(one for one in self.confinements if one.counts_on(node))

    def named_signers_on(self, node: str, names: Iterable[str]) -> tuple[Signer, ...]:
        """Return those of the named signers that count on the node of this name."""
        wanted = frozenset(names)
        return tuple(one for one in self.signers_on(node) if one.name in wanted)

    def named_sets_on(self, node: str, names: Iterable[str]) -> tuple[ReferenceSet, ...]:
        """Return those of the named sets that count on the node of this name."""
        wanted = frozenset(names)
        return tuple(one for one in self.sets_on(node) if one.name in wanted)

    def boot_policies_on(self, node: str) -> tuple[BootPolicy, ...]:
        """Return the boot policies that count on the node of this name."""
        return tuple(one for one in self.boot_policies if one.counts_on(node))

    def workload(self, id_: str) -> Workload | None:
        """Return the workload with this SPIFFE ID, if there is one."""
        return next((one for one in self.workloads if one.id == id_), None)


def build_policy(  # noqa: PLR0913 - a policy is made of this
    *,
    version: int,
    trust_domain: str,
    sets: Iterable[ReferenceSet],
    workloads: Iterable[Workload],
    kernel_policies: Iterable[bytes],
    signers: Iterable[Signer] = (),
    verities: Iterable[Verity] = (),
    confinements: Iterable[Confinement] = (),
    boot_policies: Iterable[BootPolicy] = (),
    execute_register: int = 10,
    user_register: int = 12,
    attestor_register: int = 13,
) -> Policy:
    """Return the policy made of these; raise Rejected where they do not fit together.

    An empty part is not refused here but by every appraisal: a verifier without any workload
    yet starts, and accepts nothing.
    """
    policy = Policy(
        version=version,
        trust_domain=trust_domain,
        sets=tuple(sets),
        workloads=tuple(workloads),
        kernel_policies=frozenset(kernel_policies),
        signers=tuple(signers),
        verities=tuple(verities),
        confinements=tuple(confinements),
        boot_policies=tuple(boot_policies),
        execute_register=execute_register,
        user_register=user_register,
        attestor_register=attestor_register,
    )
    findings = tuple(_misfits(policy))
    if findings:
        raise Rejected(findings)
    return policy


def _misfits(policy: Policy) -> Iterator[Finding]:
    names = (
        *(one.name for one in policy.sets),
        *(one.name for one in policy.signers),
        *(one.name for one in policy.verities),
        *(one.name for one in policy.confinements),
    )
    for name in _repeated(names):
        yield _misfit(f"reference set {name}", expected="one of that name", found="several")
    for id_ in _repeated(one.id for one in policy.workloads):
        yield _misfit(f"workload {id_}", expected="one of that id", found="several")
    for name in _repeated(one.name for one in policy.boot_policies):
        yield _misfit(f"boot policy {name}", expected="one of that name", found="several")
    for one in policy.boot_policies:
        taken = sorted(one.registers.keys() & set(policy.list_registers))
        if taken:
            expected, found = "no register of the measurement list", f"{taken}"
            yield _misfit(f"boot policy {one.name}", expected=expected, found=found)
    if len(set(policy.list_registers)) != len(policy.list_registers):
        found = str(policy.list_registers)
        yield _misfit("registers", expected="three different ones", found=found)
    if any(len(digest) != SHA256_BYTES for digest in policy.kernel_policies):
        yield _misfit("kernel policies", expected="SHA-256 digests", found="another length")
    for workload in policy.workloads:
        yield from _misfits_of(workload, policy)


def _misfits_of(workload: Workload, policy: Policy) -> Iterator[Finding]:
    what = f"workload {workload.id}"
    prefix = f"spiffe://{policy.trust_domain}/"
    files = {one.name: one.files for one in policy.sets}
    signers = {one.name for one in policy.signers}
    if not workload.id.startswith(prefix):
        yield _misfit(what, expected=f"{prefix}…", found=workload.id)
    if workload.parent and (
        workload.parent == workload.id or not workload.parent.startswith(prefix)
    ):
        yield _misfit(f"{what}: parent", expected=f"another {prefix}…", found=workload.parent)
    for name in workload.mapped:
        if name not in files and name not in signers:
            yield _misfit(what, expected=f"set or signer {name}", found="none such")
    if workload.container and workload.container.image not in files:
        yield _misfit(what, expected=f"set {workload.container.image}", found="none such")
    yield from _misfits_of_interpreter(workload, files)
    if workload.executable_set in signers:
        # A key says who made a program, and he makes others: an identity is one program's.
        expected, found = "a set with the executable's digest", f"signer {workload.executable_set}"
        yield _misfit(what, expected=expected, found=found)
    elif workload.executable_set not in files:
        yield _misfit(what, expected=f"set {workload.executable_set}", found="none such")
    elif workload.executable_file not in files[workload.executable_set]:
        wanted = f"{workload.executable_file} in set {workload.executable_set}"
        yield _misfit(what, expected=wanted, found="no such file")


def _misfits_of_interpreter(
    workload: Workload, files: Mapping[str, Mapping[str, tuple[bytes, ...]]]
) -> Iterator[Finding]:
    one, what = workload.interpreter, f"workload {workload.id}"
    if one and one.script not in files.get(one.modules, {}):
        yield _misfit(what, expected=f"{one.script} in set {one.modules}", found="no such file")
    if one and LEVELS.index(workload.minimum) > LEVELS.index(MOST_OF_INTERPRETERS):
        expected = f"{MOST_OF_INTERPRETERS} at most, being an interpreter"
        yield _misfit(what, expected=expected, found=workload.minimum)


def _misfit(what: str, *, expected: str, found: str) -> Finding:
    return Finding(reason=Reason.POLICY_INVALID, what=what, expected=expected, found=found)


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)
