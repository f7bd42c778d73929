"""Link 7, fourth part: each file that a process runs is in the list, and allowed for its workload.

That it is in the list means that the kernel has hashed what runs. Which files may be mapped into
which workload is policy: a known library of somebody else's is as good as an unknown one.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from evidence.process import MappedFile
from verifier.file_signature import verify_file_signature
from verifier.look import SeenProcess, file_identity
from verifier.node import Measured
from verifier.policy import Container, Policy, Workload
from verifier.reasons import Finding, Reason, Rejected, capped, label, sha256_text
from verifier.records import KnownList

MOST_SIGNED = 8
"""Records of one digest whose signatures are looked at: a list can be full of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What the files of every process of the body are looked up in."""

    node: str
    policy: Policy
    executed: Collection[bytes]
    """SHA-256 of the files that the kernel's list has."""
    signed: Mapping[bytes, Sequence[Measured]]
    """Records of those that show a signature, by digest; none where no signer counts."""

    @classmethod
    def of(cls, known: KnownList, *, node: str, policy: Policy) -> Self:
        """Return the catalogue of a list, on the node of this name."""
        signed: defaultdict[bytes, list[Measured]] = defaultdict(list)
        if policy.signers_on(node):
            for one in known.replayed.measured:
                is_executed = one.register == policy.execute_register and one.algorithm == "sha256"
                if one.signature and is_executed and len(signed[one.digest]) < MOST_SIGNED:
                    signed[one.digest].append(one)
        return cls(node=node, policy=policy, executed=known.executed, signed=signed)

    def has(self, file: MappedFile, sets: tuple[str, ...]) -> bool:
        """Say whether one of the reference sets of these names has the file."""
        there = self.policy.named_sets_on(self.node, sets)
        return any(file.digest in one.paths for one in there)

    def is_signed(self, file: MappedFile, names: tuple[str, ...]) -> bool:
        """Say whether one of the signers of these names has signed the file."""
        signers = self.policy.named_signers_on(self.node, names)
        for one in self.signed.get(file.digest, ()):
            try:
                verify_file_signature(one, what="", signers=signers)
            except Rejected:
                continue
            return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredProcess:
    """All that it runs was measured and is allowed. Made by `verify_files` only."""

    seen: SeenProcess


def verify_files(seen: SeenProcess, *, catalogue: Catalogue) -> MeasuredProcess:
    """Return the process; raise Rejected unless each file that runs is measured and allowed."""
    look = seen.look
    executable = file_identity(look.executable)
    findings = capped(
        finding
        for file in dict.fromkeys((look.executable, *look.files))
        for finding in _judge(
            file, seen.workload, catalogue, is_executable=file_identity(file) == executable
        )
    )
    if findings:
        raise Rejected(findings)
    return MeasuredProcess(seen=seen)


def _judge(
    file: MappedFile, workload: Workload, catalogue: Catalogue, *, is_executable: bool
) -> Iterator[Finding]:
    yield from _unmeasured(file, catalogue)
    if not is_executable:  # that one is the record's, and the workload has it by its name
        yield from _unallowed(file, workload, catalogue)
    if workload.container:
        yield from _not_of_image(file, workload.container, catalogue)


def _unmeasured(file: MappedFile, catalogue: Catalogue) -> Iterator[Finding]:
    if file.digest not in catalogue.executed:
        what, found = label(file.path), sha256_text(file.digest)
        expected = f"an entry of register {catalogue.policy.execute_register}"
        yield Finding(reason=Reason.PROCESS_NOT_MEASURED, what=what, expected=expected, found=found)


def _unallowed(file: MappedFile, workload: Workload, catalogue: Catalogue) -> Iterator[Finding]:
    """Find a file that none of the workload's sets has, and none of its signers has signed."""
    names = workload.mapped
    if not (catalogue.has(file, names) or catalogue.is_signed(file, names)):
        what, found = label(file.path), sha256_text(file.digest)
        expected = ", ".join(names) or "no mapped file at all"
        yield Finding(reason=Reason.PROCESS_MAPPED, what=what, expected=expected, found=found)


def _not_of_image(
    file: MappedFile, container: Container, catalogue: Catalogue
) -> Iterator[Finding]:
    if not catalogue.has(file, (container.image,)):
        what, found = label(file.path), sha256_text(file.digest)
        expected = f"a file of {container.image}"
        yield Finding(reason=Reason.PROCESS_IMAGE, what=what, expected=expected, found=found)
