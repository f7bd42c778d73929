"""Link 7, second part: the one workload that wants exactly the process of a record."""

from collections.abc import Iterator
from dataclasses import dataclass

from evidence.process import LAUNCHED, CoreRecord
from verifier.core_record import OwnRecord, find_unsound_record, process_label
from verifier.launch import find_launched_otherwise
from verifier.modules import find_unproven
from verifier.origin import find_other_origin
from verifier.policy import Policy, Workload
from verifier.purpose import find_unallowed
from verifier.reasons import Finding, Reason, Rejected, label, reject, sha256_text


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedProcess:
    """A workload wants the process of the record. Made by `verify_wanted` only."""

    record: OwnRecord
    workload: Workload

    @property
    def core(self) -> CoreRecord:
        """What of the process cannot change."""
        return self.record.core


def verify_wanted(record: OwnRecord, *, node: str, policy: Policy) -> WantedProcess:
    """Return the process; raise Rejected unless a workload wants it.

    The policy of now decides, also over what was accepted under another: a process keeps the
    workload that it was accepted for, or it is none's.
    """
    core, id_ = record.core, record.key.accepted_for
    if id_ is None:
        workload = select_workload(core, node=node, policy=policy)
    else:
        workload = _match(id_, core, node, policy)
    return WantedProcess(record=record, workload=workload)


def select_workload(core: CoreRecord, *, node: str, policy: Policy) -> Workload:
    """Return the one workload that wants this record; raise Rejected if none does, or several.

    Also the answer to `Wanted`. No trust rests on that one: nothing is proven yet.
    """
    findings = tuple(find_unsound_record(core))
    if findings:
        raise Rejected(findings)
    if not core.identity:
        return _only_match(core, node, policy)
    return _match(core.identity, core, node, policy)


def _match(id_: str, core: CoreRecord, node: str, policy: Policy) -> Workload:
    """Return the workload of this id; raise Rejected unless it wants the record."""
    workload = policy.workload(id_)
    if workload is None:
        what, expected = process_label(core), "a workload of this id"
        raise reject(Reason.PROCESS_NOT_WANTED, what, expected=expected, found=label(id_))
    findings = tuple(_mismatches(workload, core, node, policy))
    if findings:
        raise Rejected(findings)
    return workload


def _only_match(core: CoreRecord, node: str, policy: Policy) -> Workload:
    mismatches = {
        workload.id: tuple(_mismatches(workload, core, node, policy))
        for workload in policy.workloads
    }
    matching = [workload for workload in policy.workloads if not mismatches[workload.id]]
    if len(matching) == 1:
        return matching[0]
    what = process_label(core)
    if matching:
        found = ", ".join(workload.id for workload in matching[:8])
        raise reject(Reason.PROCESS_AMBIGUOUS, what, expected="its id", found=found)
    nearest = min(mismatches.values(), key=len, default=())
    refusal = Finding(reason=Reason.PROCESS_NOT_WANTED, what=what, expected="a workload")
    raise Rejected((refusal, *nearest) if len(nearest) == 1 else (refusal,))


def _mismatches(
    workload: Workload, core: CoreRecord, node: str, policy: Policy
) -> Iterator[Finding]:
    """Find what the workload says and the record does not."""
    what = process_label(core)
    yield from _executable(workload, core, node, policy)
    yield from find_unproven(core, workload, what=what)
    yield from _user(workload, core, what)
    yield from _unit(workload, core, what)
    yield from _proof_key(workload, core, what)
    yield from find_other_origin(workload, core, what=what)
    yield from find_unallowed(workload, core.purpose, what=what)
    if workload.launch:
        yield from find_launched_otherwise(workload.launch, core, what=what)
    yield from _starter(workload, core, what)


def _executable(
    workload: Workload, core: CoreRecord, node: str, policy: Policy
) -> Iterator[Finding]:
    """Find another executable, or an interpreter whose script the workload does not name."""
    what = process_label(core)
    sets = policy.named_sets_on(node, (workload.executable_set,))
    digests = [digest for one in sets for digest in one.files.get(workload.executable_file, ())]
    if core.executable not in digests:
        texts = ", ".join(sha256_text(digest) for digest in digests[:4]) or "none on this node"
        yield Finding(
            reason=Reason.PROCESS_EXECUTABLE,
            what=f"{workload.executable_file}, {what}",
            expected=f"{texts} ({workload.executable_set})",
            found=sha256_text(core.executable),
        )
    elif not workload.interpreter and any(
        core.executable in one.interpreters for one in policy.sets_on(node)
    ):
        expected, found = "a program by itself", sha256_text(core.executable)
        yield Finding(reason=Reason.PROCESS_INTERPRETER, what=what, expected=expected, found=found)


def _user(workload: Workload, core: CoreRecord, what: str) -> Iterator[Finding]:
    if core.user != workload.user:
        expected, found = workload.user, label(core.user)
        yield Finding(reason=Reason.PROCESS_USER, what=what, expected=expected, found=found)


def _unit(workload: Workload, core: CoreRecord, what: str) -> Iterator[Finding]:
    if workload.unit and core.unit != workload.unit:
        expected, found = workload.unit, label(core.unit)
        yield Finding(reason=Reason.PROCESS_UNIT, what=what, expected=expected, found=found)


def _proof_key(workload: Workload, core: CoreRecord, what: str) -> Iterator[Finding]:
    if core.proof_key != workload.proof_key:
        expected, found = workload.proof_key, label(core.proof_key)
        yield Finding(reason=Reason.PROCESS_PROOF_KEY, what=what, expected=expected, found=found)


def _starter(workload: Workload, core: CoreRecord, what: str) -> Iterator[Finding]:
    """Find that anybody may have started it, with whatever he liked."""
    is_starter_known = workload.unit or workload.any_starter or workload.container
    if not is_starter_known and core.binding != LAUNCHED:
        expected = "launched by the attestor: attestor run"
        yield Finding(reason=Reason.PROCESS_STARTER, what=what, expected=expected)
