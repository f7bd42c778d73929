"""The decision: is this evidence to be trusted, and which of its processes? Here and only here.

Every step takes what the step before has proven, so that none can be left out: links 2 and 9
(`verify_signature`, `verify_quote`), 6 (`verify_instance`), 4 (`replay_list`), 3 (`verify_boot`,
`verify_boot_log`), 4 again (`verify_kernel_policy`, `verify_canaries`), 5 (`judge_records`), then 7
and 8 for each process (`judge_processes`). Link 1, whose TPM this is, was settled at enrolment.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from evidence import Challenge, Evidence, Malformed
from verifier.boot import verify_boot
from verifier.boot_log import verify_boot_log
from verifier.canary import verify_canaries
from verifier.instance import verify_instance
from verifier.kernel_policy import verify_kernel_policy
from verifier.node import Checkpoint, Measured, Node
from verifier.policy import Policy
from verifier.process import judge_processes
from verifier.quote import verify_quote, verify_signature
from verifier.reasons import ClockSeen, Finding, Reason, Rejected
from verifier.records import KnownList, judge_records
from verifier.replay import replay_list
from verifier.verdict import Accepted, NodeVerdict, Refused


def appraise(  # noqa: PLR0913 - everything that a decision depends on
    evidence: Evidence,
    *,
    signer: bytes,
    challenge: Challenge,
    node: Node,
    checkpoint: Checkpoint | None,
    measured: tuple[Measured, ...],
    boot_log: bytes,
    policy: Policy,
    address: str,
    now: datetime,
) -> NodeVerdict:
    """Return what becomes of the node's processes; raise Rejected if the node is not trusted.

    `signer` is SHA-256 of the key that signed the message (`verify_signed`); `challenge` is the
    one that was asked, spent already; `measured` and `boot_log` are the stored set and log that
    the checkpoint commits to; `address` is where the message came from, empty where nobody knows:
    it decides where a workload names networks, and nowhere else. Malformed is raised as it is.
    Anything unexpected is a rejection too, never an accept, and every rejection of a quote that
    was made for the challenge carries the clock that it showed.
    """
    seen: ClockSeen | None = None
    try:
        require_policy(policy, checkpoint, node.name)
        signed = verify_signature(evidence, node)
        if signed.answers(evidence, challenge):
            seen = highest(signed.clock_seen, node.clock)
        domain = policy.trust_domain
        quote = verify_quote(
            signed, evidence=evidence, challenge=challenge, node=node, trust_domain=domain, now=now
        )
        instance = verify_instance(quote, node=node, signer=signer)
        records = evidence.records
        replayed = replay_list(
            instance, records=records, checkpoint=checkpoint, measured=measured, policy=policy
        )
        boot = verify_boot_log(
            verify_boot(replayed, policy=policy),
            sent=evidence.boot_log,
            stored=boot_log,
            checkpoint=checkpoint,
            policy=policy,
            node=node.name,
        )
        ruled = verify_kernel_policy(boot, policy=policy)
        watched = verify_canaries(ruled, node=node, policy=policy)
        known = judge_records(watched, policy=policy, checkpoint=checkpoint, node=node.name)
        processes = judge_processes(
            known,
            node=node,
            policy=policy,
            withdrawn=evidence.withdrawn,
            address=address,
            now=now,
        )
        return _verdict(known, processes, policy, now)
    except Malformed:
        raise
    except Rejected as rejected:
        raise Rejected(rejected.findings, clock_seen=seen) from rejected
    except Exception as error:
        finding = Finding(reason=Reason.INTERNAL, found=type(error).__name__)
        raise Rejected([finding], clock_seen=seen) from error


def require_policy(policy: Policy, checkpoint: Checkpoint | None, node: str) -> None:
    """Raise Rejected unless there is something to compare with, no older than the last time."""
    findings = tuple(_policy_findings(policy, checkpoint, node))
    if findings:
        raise Rejected(findings)


def _policy_findings(policy: Policy, checkpoint: Checkpoint | None, node: str) -> Iterator[Finding]:
    parts = {
        "reference sets that count on the node": policy.sets_on(node),
        "workloads": policy.workloads,
        "kernel policies": policy.kernel_policies,
    }
    for what, part in parts.items():
        if not part:
            expected = "at least one"
            yield Finding(reason=Reason.POLICY_EMPTY, what=what, expected=expected, found="none")
    if checkpoint is not None and policy.version < checkpoint.policy_version:
        expected, found = f"at least {checkpoint.policy_version}", f"{policy.version}"
        yield Finding(reason=Reason.POLICY_OLDER, expected=expected, found=found)


def highest(seen: ClockSeen, before: ClockSeen | None) -> ClockSeen:
    """Return the later of the two, with the restart count that its boot was first seen with."""
    if before is None or seen.reset_count > before.reset_count:
        return seen
    if seen.reset_count < before.reset_count or seen.clock <= before.clock:
        return before
    return replace(seen, restart_count=before.restart_count)


def _verdict(
    known: KnownList,
    processes: tuple[Accepted | Refused, ...],
    policy: Policy,
    now: datetime,
) -> NodeVerdict:
    """Return the verdict of an accepted node."""
    replayed, instance = known.replayed, known.replayed.instance
    quote = instance.quote
    info = quote.clock_info
    checkpoint = Checkpoint(
        ak_name=quote.ak.name,
        reset_count=info.reset_count,
        instance=instance.instance,
        records=len(replayed.measured),
        registers=replayed.registers,
        policy_version=policy.version,
        root=replayed.root,
        boot_log=hashlib.sha256(known.boot.log).digest(),
    )
    return NodeVerdict(
        checkpoint=checkpoint,
        starts_over=replayed.starts_over,
        forgets_known=not instance.is_same,
        measured=replayed.new,
        boot_policy=known.boot.policy,
        boot_log=known.boot.log,
        clock=ClockSeen(
            reset_count=info.reset_count, restart_count=info.restart_count, clock=info.clock
        ),
        firmware_version=quote.firmware_version,
        canaries=known.watched.now_shown,
        processes=processes,
        reported=(*quote.reported, *known.reported),
        judged_at=now,
    )
