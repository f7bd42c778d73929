"""Link 5, the closed world: nothing unknown has run with privilege, or been read as code.

That a known file is in the list proves nothing: whoever can open the TPM can add it. What
cannot be forged while the kernel is intact is that nothing unknown is in it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from verifier.kernel_policy import RuledList
from verifier.node import Checkpoint, Measured
from verifier.policy import Policy, ReferenceSet
from verifier.reasons import Finding, Reason, Rejected, capped, label, sha256_text
from verifier.replay import BUFFER_TEMPLATE, VIOLATION, ReplayedList

MOST_EXAMPLES = 16
"""Of what ordinary users ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownList:
    """Everything in the closed registers is known. Made by `judge_records` only."""

    replayed: ReplayedList
    executed: frozenset[bytes]
    """SHA-256 of the files that have been executed, mapped executable or loaded."""
    reported: tuple[Finding, ...]


def judge_records(
    ruled: RuledList, *, policy: Policy, checkpoint: Checkpoint | None, node: str
) -> KnownList:
    """Return the list; raise Rejected if anything in a closed register is unknown.

    New records are judged, and all of them where the policy is newer than the checkpoint's.
    """
    replayed = ruled.replayed
    is_newer = checkpoint is None or policy.version > checkpoint.policy_version
    first = 0 if is_newer else replayed.judged
    sets = policy.sets_on(node)
    findings = [
        finding
        for index, one in enumerate(replayed.measured[first:], first)
        if index not in (0, ruled.policy_index) and one.register in policy.closed_registers
        for finding in _judge(index, one, policy, sets)
    ]
    if findings:
        raise Rejected(capped(findings))
    executed = frozenset(
        one.digest
        for one in replayed.measured[1:]
        if one.register == policy.execute_register
        and one.algorithm == "sha256"
        and one.template != BUFFER_TEMPLATE
    )
    reported = tuple(_report_users(replayed.new, policy, sets))
    return KnownList(replayed=replayed, executed=executed, reported=reported)


def _judge(
    index: int, one: Measured, policy: Policy, sets: tuple[ReferenceSet, ...]
) -> Iterator[Finding]:
    what = f"{label(one.path)}, record {index} of register {one.register}"
    found = f"{one.algorithm}:{one.digest.hex()}"
    if one.algorithm == VIOLATION:
        what = f"record {index} of register {one.register}"
        yield Finding(reason=Reason.LIST_VIOLATION, what=what, expected="no violation")
    elif one.algorithm.startswith("verity:"):
        yield Finding(reason=Reason.LIST_VERITY, what=what, expected="sha256", found=found)
    elif one.algorithm != "sha256" or not any(one.digest):
        yield Finding(reason=Reason.LIST_DIGEST, what=what, expected="sha256", found=found)
    elif not any(one.digest in reference.paths for reference in sets):
        is_attestors = one.register == policy.attestor_register
        reason = Reason.LIST_UNKNOWN_ATTESTOR if is_attestors else Reason.LIST_UNKNOWN
        yield Finding(reason=reason, what=what, expected=_expected(one.path, sets), found=found)


def _expected(path: bytes, sets: Iterable[ReferenceSet]) -> str:
    """Return what the sets hold for this path: for people, who know files by their names."""
    name = path.removeprefix(b"/").decode("utf-8", "replace")
    held = [
        f"{sha256_text(digest)} ({reference.name})"
        for reference in sets
        for digest in reference.files.get(name, ())
    ]
    return ", ".join(held[:4]) or "nothing: no reference set knows the path either"


def _report_users(
    new: Iterable[Measured], policy: Policy, sets: tuple[ReferenceSet, ...]
) -> Iterator[Finding]:
    """Say what ordinary users ran: at most MOST_EXAMPLES by name, and how many in all."""
    unknown = [
        one
        for one in new
        if one.register == policy.user_register
        and not any(one.digest in reference.paths for reference in sets)
    ]
    for one in unknown[:MOST_EXAMPLES]:
        found = f"{one.algorithm}:{one.digest.hex()}"
        yield Finding(reason=Reason.LIST_USER, what=label(one.path), found=found)
    if unknown:
        what = f"register {policy.user_register}"
        yield Finding(reason=Reason.LIST_USER, what=what, found=f"{len(unknown)} unknown entries")
