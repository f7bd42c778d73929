"""Link 5, the closed world: nothing unknown has run with privilege, or been read as code.

That a known file is in the list proves nothing: whoever can open the TPM can add it. What
cannot be forged while the kernel is intact is that nothing unknown is in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from evidence.critical_data import DEVICE_EVENTS, SELINUX_EVENTS
from verifier.boot_log import JudgedBoot
from verifier.canary import WatchedList
from verifier.confinement import is_confined
from verifier.file_signature import VERITY, text_of, verify_file_signature
from verifier.node import Checkpoint, Measured
from verifier.policy import Policy, ReferenceSet, Signer
from verifier.reasons import Finding, Reason, Rejected, capped, label, sha256_text
from verifier.replay import (
    BUFFER_TEMPLATE,
    VIOLATION,
    ReplayedList,
    is_weak,
    named,
    violation,
    weak_digest,
)
from verifier.verity import find_devices

EVENTS = (DEVICE_EVENTS, SELINUX_EVENTS)
MOST_EXAMPLES = 16
"""Of what ordinary users ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownList:
    """Everything in the closed registers is known. Made by `judge_records` only."""

    watched: WatchedList
    executed: frozenset[bytes]
    """SHA-256 of the files that have been executed, mapped executable or loaded."""
    reported: tuple[Finding, ...]
    devices: frozenset[int]
    """st_dev of the file systems that nothing can be written to (`verifier.verity`)."""
    is_tpm_confined: bool
    """Whether the kernel keeps everybody but the attestor from the TPM (`verifier.confinement`)."""

    @property
    def boot(self) -> JudgedBoot:
        """How the machine booted."""
        return self.watched.ruled.boot

    @property
    def replayed(self) -> ReplayedList:
        """The kernel's list."""
        return self.watched.replayed


def judge_records(
    watched: WatchedList, *, policy: Policy, checkpoint: Checkpoint | None, node: str
) -> KnownList:
    """Return the list; raise Rejected if anything in a closed register is unknown.

    New records are judged, and all of them where the policy is newer than the checkpoint's.
    """
    replayed, own = watched.replayed, watched.ruled.own
    is_newer = checkpoint is None or policy.version > checkpoint.policy_version
    first = 0 if is_newer else replayed.judged
    against = _Against.of(policy, node)
    closed = policy.closed_registers
    findings = capped(
        finding
        for index, one in enumerate(replayed.measured[first:], first)
        if index
        and index not in own
        and one.register in closed
        and not (one.register == policy.execute_register and one.digest in watched.digests)
        for finding in _judge(index, one, against)
    )
    if findings:
        raise Rejected(findings)
    executed = frozenset(
        one.digest
        for one in replayed.measured[1:]
        if one.register == policy.execute_register
        and one.algorithm == "sha256"
        and one.template != BUFFER_TEMPLATE
    )
    reported = tuple(_report_users(replayed.new, against))
    events = tuple(_find_events(replayed.measured, policy))
    return KnownList(
        watched=watched,
        executed=executed,
        reported=reported,
        devices=find_devices((one for _, one in events), policy.verities_on(node)),
        is_tpm_confined=is_confined(
            events, policy.confinements_on(node), before=_first_file(replayed.measured)
        ),
    )


def _first_file(measured: Sequence[Measured]) -> int:
    """Return the index of the first record, after boot_aggregate, that is no critical data."""
    files = (n for n, one in enumerate(measured) if n and one.template != BUFFER_TEMPLATE)
    return next(files, len(measured))


def _find_events(measured: Iterable[Measured], policy: Policy) -> Iterator[tuple[int, Measured]]:
    """Yield the records that are device-mapper's or SELinux's by their name, and their indices.

    Whatever their template is: no hash covers its name, and the list may call it another.
    """
    for index, one in enumerate(measured):
        if one.register == policy.execute_register and one.path.startswith(EVENTS):
            yield index, one


@dataclass(frozen=True, slots=True, kw_only=True)
class _Against:
    """What a record is compared with."""

    policy: Policy
    sets: tuple[ReferenceSet, ...]
    signers: tuple[Signer, ...]
    revoked: frozenset[str]
    critical: frozenset[tuple[bytes, bytes]]
    """Event and digest of the critical data that is known, besides that in sets."""

    @classmethod
    def of(cls, policy: Policy, node: str) -> Self:
        """Return what counts on the node."""
        signers = policy.signers_on(node)
        revoked = frozenset(text for one in signers for text in one.revoked)
        devices = [pair for one in policy.verities_on(node) for pair in one.known]
        policies = [pair for one in policy.confinements_on(node) for pair in one.known]
        return cls(
            policy=policy,
            sets=policy.sets_on(node),
            signers=signers,
            revoked=revoked,
            critical=frozenset((*devices, *policies)),
        )

    def has_revoked(self, one: Measured) -> bool:
        """Say whether a signer has revoked the record's digest, whatever a set says of it.

        A set knows that somebody shipped these bytes; who revokes them knows more.
        """
        return bool(self.revoked) and text_of(one) in self.revoked

    def has_critical(self, one: Measured) -> bool:
        """Say whether the record is critical data that a reference value of its kind names."""
        return (
            one.register == self.policy.execute_register
            and one.template == BUFFER_TEMPLATE
            and one.algorithm == "sha256"
            and (one.path, one.digest) in self.critical
        )

    def has_digest(self, one: Measured) -> bool:
        """Say whether a set has the record's digest."""
        if one.algorithm != "sha256" or not any(one.digest):
            return False
        return any(one.digest in reference.paths for reference in self.sets)


def _judge(index: int, one: Measured, against: _Against) -> Iterator[Finding]:
    """Yield what is wrong with the record. Its signature counts where its digest is in no set."""
    is_known = against.has_digest(one) or against.has_critical(one)
    if is_known and not against.has_revoked(one):
        return
    what, found = named(index, one), label(text_of(one))
    if one.algorithm == VIOLATION:
        yield violation(index, one.register)
    elif against.has_revoked(one):
        expected = "a digest that no signer has revoked"
        yield Finding(reason=Reason.LIST_REVOKED, what=what, expected=expected, found=found)
    elif is_weak(one):
        yield weak_digest(index, one)
    elif one.signature and against.signers:
        try:
            verify_file_signature(one, what=what, signers=against.signers)
        except Rejected as rejected:
            yield from rejected.findings
    elif one.algorithm.startswith(VERITY):
        expected = "sha256, or a signature over it"
        yield Finding(reason=Reason.LIST_VERITY, what=what, expected=expected, found=found)
    elif one.algorithm != "sha256":
        expected = "sha256, or a signature over it"
        yield Finding(reason=Reason.LIST_HASH, what=what, expected=expected, found=found)
    else:
        is_attestors = one.register == against.policy.attestor_register
        reason = Reason.LIST_UNKNOWN_ATTESTOR if is_attestors else Reason.LIST_UNKNOWN
        expected = _expected(one.path, against.sets)
        yield Finding(reason=reason, what=what, expected=expected, found=found)


def _expected(path: bytes, sets: Iterable[ReferenceSet]) -> str:
    """Return what the sets hold for this path: for people, who know files by their names."""
    name = path.removeprefix(b"/").decode("utf-8", "replace")
    held = [
        f"{sha256_text(digest)} ({reference.name})"
        for reference in sets
        for digest in reference.files.get(name, ())
    ]
    return ", ".join(held[:4]) or "nothing: no reference set knows the path either"


def _report_users(new: Iterable[Measured], against: _Against) -> Iterator[Finding]:
    """Say what ordinary users ran: at most MOST_EXAMPLES by name, and how many in all."""
    register = against.policy.user_register
    unknown = [one for one in new if one.register == register and not against.has_digest(one)]
    for one in unknown[:MOST_EXAMPLES]:
        found = f"{one.algorithm}:{one.digest.hex()}"
        yield Finding(reason=Reason.LIST_USER, what=label(one.path), found=found)
    if unknown:
        what = f"register {register}"
        yield Finding(reason=Reason.LIST_USER, what=what, found=f"{len(unknown)} unknown entries")
