"""Links 7 and 8: a process is what its record says, and a workload wants exactly that.

Each process is judged alone: what is wrong with one never touches its neighbours, but for those
that it had launched for a job. Every step takes what the step before has proven.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from evidence import Malformed, tpm
from evidence.messages import KnownProcess, NewProcess
from verifier.core_record import process_label, verify_record
from verifier.host import Host, verify_host
from verifier.instance import AcceptedInstance, is_same_boot
from verifier.levels import LevelledProcess, verify_level
from verifier.look import verify_look
from verifier.mapped_files import Catalogue, verify_files
from verifier.modules import verify_modules
from verifier.node import Node
from verifier.origin import order_by_parents
from verifier.policy import Policy
from verifier.posture import Standing
from verifier.process_key import recall_process_key, verify_process_key
from verifier.purpose import NotApproved, decide
from verifier.reasons import Finding, Reason, Rejected, capped, label, reject
from verifier.records import KnownList
from verifier.selection import WantedProcess, verify_wanted
from verifier.verdict import Accepted, Refused

_Offer = NewProcess | KnownProcess


def judge_processes(  # noqa: PLR0913 - what the processes of one body are compared with
    known: KnownList,
    *,
    node: Node,
    policy: Policy,
    withdrawn: tuple[bytes, ...],
    address: str,
    now: datetime,
) -> tuple[Accepted | Refused, ...]:
    """Return what becomes of each process of the body: new ones, then known ones, then steps.

    `address` is where the evidence came from, empty where nobody knows.
    """
    instance = known.replayed.instance
    body = instance.quote.body
    bench = _Bench(
        instance=instance,
        node=node,
        policy=policy,
        catalogue=Catalogue.of(known, node=node.name, policy=policy),
        host=_host(known, node=node, address=address),
        now=now,
    )
    offers: list[tuple[bytes, _Offer]] = [
        *((_offered_name(new), new) for new in body.new),
        *((one.key_name, one) for one in body.known),
    ]
    times = Counter(name for name, _ in offers)
    gone = frozenset(withdrawn)
    outcomes = tuple(
        _judge_alone(bench, name, offer, is_withdrawn=name in gone, times=times[name])
        for name, offer in offers
    )
    return order_by_parents(outcomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """What every process of the body is judged with."""

    instance: AcceptedInstance
    node: Node
    policy: Policy
    catalogue: Catalogue
    host: Host
    now: datetime


def _host(known: KnownList, *, node: Node, address: str) -> Host:
    body = known.replayed.instance.quote.body
    standing = Standing(
        boot=known.boot,
        posture=body.posture,
        devices=known.devices,
        is_tpm_confined=known.is_tpm_confined,
    )
    return Host(
        watched=known.watched,
        standing=standing,
        presences={one.uid: one for one in body.presences},
        labels=node.labels,
        address=address,
    )


def _offered_name(new: NewProcess) -> bytes:
    try:
        return tpm.Public.decode(new.public).name()
    except Malformed:
        return b""


def _judge_alone(
    bench: _Bench, name: bytes, offer: _Offer, *, is_withdrawn: bool, times: int
) -> Accepted | Refused:
    """Turn whatever is wrong with this process into its own refusal."""
    try:
        if name and times > 1:
            raise reject(Reason.PROCESS_TWICE, name.hex(), expected="once", found=f"{times} times")
        if is_withdrawn:
            raise reject(
                Reason.PROCESS_WITHDRAWN, name.hex(), found="it had changed after the quote"
            )
        return _judge(bench, offer)
    except Malformed as malformed:
        finding = Finding(reason=Reason.MALFORMED_PROCESS, found=label(str(malformed)))
        return Refused(key_name=name, findings=(finding,))
    except Rejected as rejected:
        return Refused(key_name=name, findings=capped(rejected.findings))


def _judge(bench: _Bench, offer: _Offer) -> Accepted | Refused:
    """Return what becomes of the process; raise Rejected, or Malformed, where a step fails."""
    # (1) The TPM made its key for its record, which is of this boot, and which a workload wants.
    wanted = _identify(bench, offer)
    # (2) The look shows the process of the record, and nothing odd about it.
    seen = verify_look(wanted, offer.look)
    # (3) All that it runs is in the kernel's list, and allowed for the workload.
    measured = verify_files(seen, catalogue=bench.catalogue)
    # (4) The node is as the workload demands.
    hosted = verify_host(measured, host=bench.host)
    # (5) All that together is as much assurance as the workload demands.
    levelled = verify_level(hosted)
    # (6) It may have what it asks for; last, as an operator is asked for nothing in vain.
    return _grant(levelled, bench)


def _identify(bench: _Bench, offer: _Offer) -> WantedProcess:
    if isinstance(offer, NewProcess):
        return _identify_new(bench, offer)
    return _identify_known(bench, offer)


def _identify_new(bench: _Bench, new: NewProcess) -> WantedProcess:
    key = verify_process_key(new, quote=bench.instance.quote)
    record = verify_record(key, instance=bench.instance, node=bench.node.name)
    wanted = verify_wanted(record, node=bench.node.name, policy=bench.policy)
    verify_modules(new.modules, core=wanted.core, workload=wanted.workload, policy=bench.policy)
    return wanted


def _identify_known(bench: _Bench, offer: KnownProcess) -> WantedProcess:
    key = recall_process_key(offer.key_name, node=bench.node, instance=bench.instance)
    record = verify_record(key, instance=bench.instance, node=bench.node.name)
    return verify_wanted(record, node=bench.node.name, policy=bench.policy)


def _grant(levelled: LevelledProcess, bench: _Bench) -> Accepted | Refused:
    """Return the acceptance, or a refusal that an operator may help with.

    No approval counts in another boot than the one in which it was given.
    """
    node = bench.node
    wanted = levelled.hosted.seen.wanted
    core, key = wanted.core, wanted.record.key
    try:
        granted = decide(
            wanted.workload,
            core.purpose,
            job=core.origin.job,
            approvals=node.approvals if is_same_boot(bench.instance.quote, node) else (),
            now=bench.now,
            what=process_label(core),
        )
    except NotApproved as missing:
        asking = core, missing.errand
        return Refused(key_name=key.name, findings=missing.findings, asking=asking)
    return Accepted(
        key_name=key.name,
        core=core,
        core_digest=core.digest(),
        workload=wanted.workload,
        granted=granted,
        labels=node.labels,
        level=levelled.reached.level,
        lacks=levelled.reached.lacks,
        is_new=key.is_new,
    )
