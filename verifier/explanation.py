"""A decision as the chain of DESIGN section 4: which links hold, which one broke, and why.

For people. Nothing is judged here: the decision is an argument, and each of its findings is told
at the link that it breaks. An appraisal stops at the first broken step, so what comes later in
its order was not looked at: neither good nor bad.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from evidence import Malformed
from verifier.node import Node
from verifier.policy import Policy
from verifier.reasons import Finding, Reason, Rejected, label
from verifier.verdict import Accepted, Granted, NodeVerdict, Refused


class State(StrEnum):
    """What is known of a link."""

    HOLDS = "holds"
    BROKEN = "broken"
    OPEN = "open"
    """Not claimed: nothing was demanded of it, and nothing is said."""
    UNREACHED = "not looked at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link of the chain, of the node or of one of its processes."""

    number: int
    """As in DESIGN section 4; 0 for what comes before the chain."""
    title: str
    state: State
    detail: str = ""
    findings: tuple[Finding, ...] = ()
    process: str = ""
    """Hexadecimal Name of the process key; empty for the node's links."""


TITLES = {
    0: "there is something to judge, and to compare it with",
    1: "the TPM is real, and ours",
    2: "the attestation key is in that TPM",
    3: "the machine booted well",
    4: "the kernel's list is complete",
    5: "nothing unknown has run with privilege",
    6: "the attestor that started first says so",
    7: "the process is what it says",
    8: "the key is that process's",
    9: "it is now, and for this verifier",
}
NODE_LINKS = (1, 2, 3, 4, 5, 6, 9)
BOOT, PROCESS, KEY = 3, 7, 8
NOT_JUDGED = "the boot is the one that the list began with; how it went was not judged"

STEPS = (0, 2, 9, 6, 4, 3, 4, 5)
"""Links in the order in which an appraisal takes them (`verifier.appraisal`): 4 is the list, and
after the boot the kernel policy. Link 1 was settled at enrolment."""
_KERNEL_POLICY_STEP = 6

_LINK: dict[str, int] = {
    "policy": 0,
    "enrol": 1,
    "ek": 1,
    "node": 1,
    Reason.NODE_ANOTHER: 9,
    "message": 6,
    Reason.MESSAGE_SIGNATURE: 6,
    "challenge": 9,
    "quote": 2,
    Reason.QUOTE_BINDING: 9,
    Reason.QUOTE_SELECTION: 9,
    Reason.QUOTE_DIGEST: 9,
    Reason.QUOTE_CLOCK: 9,
    Reason.QUOTE_RESET: 9,
    Reason.QUOTE_RESTART: 9,
    Reason.QUOTE_CLOCK_UNSAFE: 9,
    "instance": 6,
    "ima-list": 4,
    "kernel-policy": 4,
    "boot": 3,
    "event-log": 3,
    Reason.LIST_VIOLATION: 5,
    Reason.LIST_UNKNOWN: 5,
    Reason.LIST_UNKNOWN_ATTESTOR: 5,
    Reason.LIST_DIGEST: 5,
    Reason.LIST_HASH: 5,
    Reason.LIST_VERITY: 5,
    Reason.LIST_REVOKED: 5,
    Reason.LIST_SIGNATURE_FORM: 5,
    Reason.LIST_SIGNATURE_ALGORITHM: 5,
    Reason.LIST_SIGNATURE_KEY: 5,
    Reason.LIST_SIGNATURE: 5,
    Reason.LIST_SIGNATURE_PATH: 5,
    Reason.LIST_USER: 5,
    "process": 7,
    "malformed": 7,
    "use": 7,
    "process-key": 8,
    "appraisal": 0,
}


def link_of(reason: str) -> int:
    """Return the number of the link that a reason breaks; raise KeyError of an unknown word."""
    found = _LINK.get(reason)
    return _LINK[reason.partition(".")[0]] if found is None else found


def explain(
    decision: NodeVerdict | Rejected | Malformed, *, node: Node, ek_hash: str, policy: Policy
) -> tuple[Link, ...]:
    """Return the chain, the node's links first; `ek_hash` names the EK that was enrolled."""
    enrolled = f"the EK {ek_hash} was enrolled as {node.name}"
    asks_for_boot = bool(policy.boot_policies_on(node.name))
    if isinstance(decision, Malformed):
        broken = Link(number=0, title=TITLES[0], state=State.BROKEN, detail=str(decision))
        return (broken, *_explain_refusal((), enrolled, asks_for_boot=asks_for_boot))
    if isinstance(decision, Rejected):
        return tuple(_explain_refusal(decision.findings, enrolled, asks_for_boot=asks_for_boot))
    return (
        *_explain_node(decision, policy, enrolled),
        *(link for one in decision.processes for link in _explain_process(one)),
    )


def _explain_refusal(
    findings: tuple[Finding, ...], enrolled: str, *, asks_for_boot: bool
) -> Iterator[Link]:
    """Yield links: broken where there are findings, held where the appraisal had passed.

    A boot that no policy asks about is passed without having been judged.
    """
    first = min(map(_step_of, findings), default=0)
    by_link: dict[int, list[Finding]] = {}
    for one in findings:
        by_link.setdefault(link_of(one.reason), []).append(one)
    for number in sorted({*NODE_LINKS, *by_link}):
        told = tuple(by_link.get(number, ()))
        if told:
            yield _link(number, State.BROKEN, findings=told)
        elif number == 1:
            yield _link(number, State.HOLDS, enrolled)
        elif number in STEPS[first:]:
            yield _link(number, State.UNREACHED)
        elif number == BOOT and not asks_for_boot:
            yield _link(number, State.OPEN, NOT_JUDGED)
        else:
            yield _link(number, State.HOLDS)


def _step_of(finding: Finding) -> int:
    """Return the index of the step that found it: whose message it is, is asked first of all."""
    reason = str(finding.reason)
    if reason.startswith("message."):
        return 0
    if reason.startswith("kernel-policy."):
        return _KERNEL_POLICY_STEP
    number = link_of(reason)
    return STEPS.index(number) if number in STEPS else 0


def _explain_node(verdict: NodeVerdict, policy: Policy, enrolled: str) -> Iterator[Link]:
    checkpoint, clock = verdict.checkpoint, verdict.clock
    registers = ", ".join(str(register) for register, _ in checkpoint.registers)
    closed = " and ".join(map(str, policy.closed_registers))
    reported: dict[int, list[Finding]] = {}
    for one in verdict.reported:
        reported.setdefault(link_of(one.reason), []).append(one)
    details = {
        1: enrolled,
        2: f"a quote by the key of Name {checkpoint.ak_name.hex()}",
        3: _boot_detail(verdict),
        4: f"{checkpoint.records} records lead to the quoted registers {registers}"
        + _canary_detail(verdict),
        5: f"every record of registers {closed} is known",
        6: f"instance key {checkpoint.instance.hex()}",
        9: (
            f"reset count {clock.reset_count}, restart count {clock.restart_count}, "
            f"clock {clock.clock} ms, firmware {verdict.firmware_version:#018x}"
        ),
    }
    for number in NODE_LINKS:
        is_open = number == BOOT and not verdict.boot_policy
        state = State.OPEN if is_open else State.HOLDS
        yield _link(number, state, details[number], findings=tuple(reported.get(number, ())))


def _canary_detail(verdict: NodeVerdict) -> str:
    if not verdict.canaries:
        return ""
    places = " and ".join(one.label for one in verdict.canaries)
    return f"; canaries in it show that the kernel measures for {places}"


def _boot_detail(verdict: NodeVerdict) -> str:
    if verdict.boot_policy:
        return f"the boot that the list began with is as the boot policy {verdict.boot_policy} says"
    return NOT_JUDGED


def _explain_process(one: Accepted | Refused) -> Iterator[Link]:
    name = one.key_name.hex() or "unreadable"
    if isinstance(one, Accepted):
        who = f"pid {one.core.pid} in {label(one.core.cgroup)}"
        next_level = f"; more takes {'; '.join(one.lacks)}" if one.lacks else ""
        what_for = f"for {_granted(one.granted)}"
        detail = f"{one.workload.id}, level {one.level}, {who}, {what_for}{next_level}"
        yield _link(7, State.HOLDS, detail, process=name)
        yield _link(
            8, State.HOLDS, f"made for the core record {one.core_digest.hex()}", process=name
        )
        return
    of_key = tuple(finding for finding in one.findings if link_of(finding.reason) == KEY)
    of_process = tuple(finding for finding in one.findings if finding not in of_key)
    for number, told in ((PROCESS, of_process), (KEY, of_key)):
        state = State.BROKEN if told else State.UNREACHED
        yield _link(number, state, findings=told, process=name)


def _granted(granted: Granted) -> str:
    """Return what a process was granted, in words."""
    ends = f" until {granted.until.isoformat()}" if granted.until else ""
    by = f" by grant {granted.approval}" if granted.approval else ""
    scopes, audiences = " ".join(granted.scopes) or "no scope", " ".join(granted.audiences)
    return f"{label(scopes)} at {label(audiences)}{ends}{by}"


def _link(
    number: int,
    state: State,
    detail: str = "",
    *,
    findings: tuple[Finding, ...] = (),
    process: str = "",
) -> Link:
    return Link(
        number=number,
        title=TITLES[number],
        state=state,
        detail=detail,
        findings=findings,
        process=process,
    )
