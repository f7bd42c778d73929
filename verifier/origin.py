"""Which process had another one launched, for which job: parents that a workload demands.

A step names its parent by the Name of that one's key, and lives no longer than its credential:
the parent is among the processes of the same evidence, known from an earlier one, and accepted.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from evidence.process import LAUNCHED, NO_ORIGIN, CoreRecord, Origin
from verifier.policy import Workload
from verifier.reasons import Finding, Reason, label
from verifier.verdict import Accepted, Refused

JOB = re.compile(r"[A-Za-z0-9_.:/@-]{1,255}")
"""What the attestor's local protocol lets through."""
KEY_NAME_BYTES = 34
"""Of SHA-256, and two that say so (TPM 2.0 Part 1, section 16)."""


def find_unsound_origin(core: CoreRecord, *, what: str) -> Iterator[Finding]:
    """Find what no origin of an honest attestor's says."""
    origin = core.origin
    if origin == NO_ORIGIN:
        return
    is_whole = origin.parent and len(origin.parent_key) == KEY_NAME_BYTES
    if not (is_whole and JOB.fullmatch(origin.job) and core.binding == LAUNCHED):
        expected = "a parent, its key and a job, of what was launched; or none of them"
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=f"origin, {what}", expected=expected)


def find_other_origin(workload: Workload, core: CoreRecord, *, what: str) -> Iterator[Finding]:
    """Find that a process has another parent than its workload says, be it one where it says none.

    Whoever has a program launched gives it its arguments and its input: not everybody may.
    """
    found = core.origin.parent
    if found == workload.parent:
        return
    reason = Reason.PROCESS_PARENT if found else Reason.PROCESS_PARENT_MISSING
    expected = workload.parent or "no parent"
    yield Finding(reason=reason, what=what, expected=expected, found=label(found))


def order_by_parents(outcomes: Sequence[Accepted | Refused]) -> tuple[Accepted | Refused, ...]:
    """Return the outcomes, each step after its parent, and refused where that has no credential.

    From the top down, so that whose parent is refused is refused, and whose parent that one is.
    A parent that is itself new in this evidence has none yet. No operator is asked for a step whose
    parent has none.
    """
    ordered = [one for one in outcomes if _origin_of(one) == NO_ORIGIN]
    steps = [one for one in outcomes if _origin_of(one) != NO_ORIGIN]
    above = _parents(ordered)
    while above:
        below = [one for one in steps if _parent_of(one) in above]
        steps = [one for one in steps if _parent_of(one) not in above]
        ordered += below
        above = _parents(below)
    return (*ordered, *map(_orphaned, steps))


def _parents(outcomes: Iterable[Accepted | Refused]) -> frozenset[tuple[bytes, str]]:
    accepted = (one for one in outcomes if isinstance(one, Accepted) and not one.is_new)
    return frozenset((one.key_name, one.workload.id) for one in accepted)


def _core_of(outcome: Accepted | Refused) -> CoreRecord | None:
    """Return the record of a process that lacks nothing, or nothing but an approval."""
    if isinstance(outcome, Accepted):
        return outcome.core
    return outcome.asking[0] if outcome.asking else None


def _origin_of(outcome: Accepted | Refused) -> Origin:
    core = _core_of(outcome)
    return core.origin if core else NO_ORIGIN


def _parent_of(step: Accepted | Refused) -> tuple[bytes, str]:
    origin = _origin_of(step)
    return origin.parent_key, origin.parent


def _orphaned(step: Accepted | Refused) -> Refused:
    core = _core_of(step)
    assert core is not None, "it has an origin"
    finding = Finding(
        reason=Reason.PROCESS_PARENT_GONE,
        what=f"pid {core.pid} on {label(core.node)}, job {label(core.origin.job)}",
        expected=f"{label(core.origin.parent)}, with a credential and accepted in this evidence",
        found="none that has this process's parent's key",
    )
    return Refused(key_name=step.key_name, findings=(finding,))
