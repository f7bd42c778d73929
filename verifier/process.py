"""Link 7: the process is what its record says, and a workload wants exactly that.

Each process is judged alone: what is wrong with one never touches its neighbours, but for those
that it had launched for a job.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

from evidence import Malformed, tpm
from evidence.canary import Place
from evidence.messages import KnownProcess, NewProcess
from evidence.posture import Presence
from evidence.process import (
    ATTACHED,
    BINDINGS,
    IN_RECORD,
    LAUNCHED,
    PEER_PROOFS,
    CoreRecord,
    Look,
    MappedFile,
    arguments_digest,
    environment_digest,
)
from verifier import crypto
from verifier.canary import WatchedList
from verifier.file_signature import verify_file_signature
from verifier.instance import AcceptedInstance
from verifier.layout import find_misplaced
from verifier.levels import Grounds, reach
from verifier.modules import find_unproven, verify_modules
from verifier.node import Measured, Node
from verifier.origin import find_other_origin, find_unsound_origin, order_by_parents
from verifier.places import is_in_place, judge_place
from verifier.policy import (
    LEVELS,
    SHA256_BYTES,
    Container,
    Launch,
    Policy,
    Signer,
    Workload,
)
from verifier.posture import DEMANDS, Standing
from verifier.process_key import verify_process_key
from verifier.purpose import NotApproved, decide, find_unallowed, find_unsound
from verifier.reasons import Finding, Reason, Rejected, capped, label, reject, sha256_text
from verifier.records import KnownList
from verifier.verdict import Accepted, Refused
from verifier.whereabouts import find_elsewhere

CAPABILITIES = {
    19: "CAP_SYS_PTRACE",
    21: "CAP_SYS_ADMIN",
    24: "CAP_SYS_RESOURCE",
    40: "CAP_CHECKPOINT_RESTORE",
}
"""With one of these a process can be made to look like another (PR_SET_MM_MAP) or be one of
those that make it so (Linux include/uapi/linux/capability.h)."""

MOST_SIGNED = 8
"""Records of one digest whose signatures are looked at: a list can be full of them."""

LOOK_UIDS = 4
"""Real, effective, saved, file system."""


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
    body = known.replayed.instance.quote.body
    judge = _Judge(
        known=known,
        node=node,
        policy=policy,
        signed=_signed(known, node, policy),
        standing=Standing(
            boot=known.boot,
            posture=body.posture,
            devices=known.devices,
            is_tpm_confined=known.is_tpm_confined,
        ),
        presences={one.uid: one for one in body.presences},
        address=address,
        now=now,
    )
    offers: list[tuple[bytes, NewProcess | KnownProcess]] = [
        *((_offered_name(new), new) for new in body.new),
        *((one.key_name, one) for one in body.known),
    ]
    times = Counter(name for name, _ in offers)
    gone = frozenset(withdrawn)
    outcomes = tuple(
        _judge_alone(judge, name, offer, is_withdrawn=name in gone, times=times[name])
        for name, offer in offers
    )
    return order_by_parents(outcomes)


def select_workload(core: CoreRecord, *, node: str, policy: Policy) -> Workload:
    """Return the one workload that wants this record; raise Rejected if none does, or several.

    Also the answer to `Wanted`. No trust rests on that one: nothing is proven yet.
    """
    findings = tuple(_unsound(core))
    if findings:
        raise Rejected(findings)
    if not core.identity:
        return _only_match(core, node, policy)
    workload = policy.workload(core.identity)
    if workload is None:
        expected, found = "a workload of this id", label(core.identity)
        raise reject(Reason.PROCESS_NOT_WANTED, _named(core), expected=expected, found=found)
    _match(workload, core, node, policy)
    return workload


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """What every process of the body is compared with."""

    known: KnownList
    node: Node
    policy: Policy
    signed: Mapping[bytes, Sequence[Measured]]
    """Records that show a signature, of files in `known.executed`, by digest."""
    standing: Standing
    presences: Mapping[int, Presence]
    """By uid."""
    address: str
    now: datetime

    @property
    def instance(self) -> AcceptedInstance:
        return self.known.replayed.instance


def _judge_alone(
    judge: _Judge,
    name: bytes,
    offer: NewProcess | KnownProcess,
    *,
    is_withdrawn: bool,
    times: int,
) -> Accepted | Refused:
    """Turn whatever is wrong with this process into its own refusal."""
    try:
        if name and times > 1:
            raise reject(Reason.PROCESS_TWICE, name.hex(), expected="once", found=f"{times} times")
        if is_withdrawn:
            raise reject(
                Reason.PROCESS_WITHDRAWN, name.hex(), found="it had changed after the quote"
            )
        if isinstance(offer, NewProcess):
            return _judge_new(judge, offer)
        return _judge_known(judge, offer)
    except Malformed as malformed:
        finding = Finding(reason=Reason.MALFORMED_PROCESS, found=label(str(malformed)))
        return Refused(key_name=name, findings=(finding,))
    except Rejected as rejected:
        return Refused(key_name=name, findings=capped(rejected.findings))


def _offered_name(new: NewProcess) -> bytes:
    try:
        return tpm.Public.decode(new.public).name()
    except Malformed:
        return b""


def _judge_new(judge: _Judge, new: NewProcess) -> Accepted | Refused:
    core = CoreRecord.decode(new.core)
    key = verify_process_key(new, core=core, quote=judge.instance.quote)
    _verify_record(judge, key.core)
    workload = select_workload(core, node=judge.node.name, policy=judge.policy)
    verify_modules(new.modules, core=core, workload=workload, policy=judge.policy)
    return _accept(judge, key.name, core, new.look, workload, is_new=True)


def _judge_known(judge: _Judge, offer: KnownProcess) -> Accepted | Refused:
    remembered = judge.node.known if judge.instance.is_same else ()
    known = next((one for one in remembered if one.key_name == offer.key_name), None)
    if known is None:
        expected = "a key accepted under this boot and instance"
        raise reject(Reason.PROCESS_UNKNOWN_KEY, offer.key_name.hex(), expected=expected)
    core = CoreRecord.decode(known.core)
    _verify_record(judge, core)
    workload = judge.policy.workload(known.workload)
    if workload is None:
        expected, found = "a workload of this id", label(known.workload)
        raise reject(Reason.PROCESS_NOT_WANTED, _named(core), expected=expected, found=found)
    _match(workload, core, judge.node.name, judge.policy)
    return _accept(judge, known.key_name, core, offer.look, workload, is_new=False)


def _accept(  # noqa: PLR0913 - the parts of the decision
    judge: _Judge,
    key_name: bytes,
    core: CoreRecord,
    look: Look,
    workload: Workload,
    *,
    is_new: bool,
) -> Accepted | Refused:
    """Return the acceptance, or a refusal that an operator may help with.

    Raise Rejected unless the look fits record and workload.
    """
    _verify_look(look, core)
    _verify_unit(look, workload)
    _verify_container(look, workload)
    _verify_files(judge, look, workload)
    if workload.needs_canary:
        _verify_canary(judge.known.watched, core, look)
    _verify_posture(judge.standing, workload)
    _verify_whereabouts(judge, core, workload)
    reached = reach(
        Grounds(
            standing=judge.standing,
            core=core,
            look=look,
            workload=workload,
            presence=judge.presences.get(core.uid),
        )
    )
    if LEVELS.index(reached.level) < LEVELS.index(workload.minimum):
        expected = f"{workload.minimum} or more"
        found = f"{reached.level}, for want of {'; '.join(reached.lacks)}"
        raise reject(Reason.PROCESS_LEVEL, _named(core), expected=expected, found=found)
    try:  # last: an operator is asked for nothing that would be refused anyway
        granted = decide(
            workload,
            core.purpose,
            job=core.origin.job,
            approvals=judge.node.approvals,
            now=judge.now,
            what=_named(core),
        )
    except NotApproved as missing:
        asking = core, missing.errand
        return Refused(key_name=key_name, findings=missing.findings, asking=asking)
    return Accepted(
        key_name=key_name,
        core=core,
        core_digest=core.digest(),
        workload=workload,
        granted=granted,
        labels=judge.node.labels,
        level=reached.level,
        lacks=reached.lacks,
        is_new=is_new,
    )


def _verify_canary(watched: WatchedList, core: CoreRecord, look: Look) -> None:
    """Raise Rejected unless the kernel was seen measuring for this uid on this file system."""
    place = Place(uid=core.uid, device=look.executable.device)
    if place not in watched.shown:
        what, expected = f"{place.label}, {_named(core)}", "a canary in the list"
        found = watched.failures.get(place, "none was asked for yet")
        raise reject(Reason.PROCESS_CANARY, what, expected=expected, found=found)


def _named(core: CoreRecord) -> str:
    return f"pid {core.pid} on {label(core.node)}"


# The record by itself


def _unsound(core: CoreRecord) -> Iterator[Finding]:
    """Find what no record of an honest attestor says."""
    what = _named(core)
    if core.binding not in BINDINGS:
        expected, found = f"one of {BINDINGS}", label(core.binding)
        yield Finding(reason=Reason.PROCESS_BINDING, what=what, expected=expected, found=found)
    allowed = ("child",) if core.binding == LAUNCHED else PEER_PROOFS[1:]
    if core.peer_proof not in allowed or (core.peer_proof == "pidfs" and not core.pidfs_inode):
        expected, found = f"one of {allowed}", label(core.peer_proof)
        yield Finding(reason=Reason.PROCESS_PEER_PROOF, what=what, expected=expected, found=found)
    if len(core.namespaces) != IN_RECORD:
        expected, found = f"{IN_RECORD} namespaces", str(len(core.namespaces))
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=what, expected=expected, found=found)
    digests = {len(core.arguments), len(core.environment)}
    paths = [one.path for one in core.configuration]
    is_launch_told = digests == {SHA256_BYTES} and len(set(paths)) == len(paths)
    if not (is_launch_told if core.binding == LAUNCHED else digests == {0} and not paths):
        expected = "what it was launched with, and nothing where it was not"
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=what, expected=expected)
    yield from find_unsound(core.purpose, what=what)
    yield from find_unsound_origin(core, what=what)
    is_not_made_yet = core.proof_key == "tpm" and not core.use_key
    if not is_not_made_yet and not crypto.is_uncompressed_p256(core.use_key):
        expected = "use key: an uncompressed point of P-256"
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=what, expected=expected)


def _verify_record(judge: _Judge, core: CoreRecord) -> None:
    """Raise Rejected unless the record is of this node, instance and boot."""
    boot = judge.instance.quote.body.boot
    pairs = (
        (Reason.PROCESS_NODE, judge.node.name, core.node),
        (Reason.PROCESS_INSTANCE, judge.instance.instance.hex(), core.instance.hex()),
        (Reason.PROCESS_BOOT, boot, core.boot),
    )
    findings = [
        Finding(reason=reason, what=_named(core), expected=label(expected), found=label(found))
        for reason, expected, found in pairs
        if expected != found
    ]
    if findings:
        raise Rejected(findings)


# The record and the workload


def _only_match(core: CoreRecord, node: str, policy: Policy) -> Workload:
    mismatches = {
        workload.id: tuple(_mismatches(workload, core, node, policy))
        for workload in policy.workloads
    }
    matching = [workload for workload in policy.workloads if not mismatches[workload.id]]
    if len(matching) == 1:
        return matching[0]
    if matching:
        found = ", ".join(workload.id for workload in matching[:8])
        raise reject(Reason.PROCESS_AMBIGUOUS, _named(core), expected="its id", found=found)
    nearest = min(mismatches.values(), key=len, default=())
    refusal = Finding(reason=Reason.PROCESS_NOT_WANTED, what=_named(core), expected="a workload")
    raise Rejected((refusal, *nearest) if len(nearest) == 1 else (refusal,))


def _match(workload: Workload, core: CoreRecord, node: str, policy: Policy) -> None:
    findings = tuple(_mismatches(workload, core, node, policy))
    if findings:
        raise Rejected(findings)


def _mismatches(
    workload: Workload, core: CoreRecord, node: str, policy: Policy
) -> Iterator[Finding]:
    what = _named(core)
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
    yield from find_unproven(core, workload, what=what)
    if core.user != workload.user:
        expected, found = workload.user, label(core.user)
        yield Finding(reason=Reason.PROCESS_USER, what=what, expected=expected, found=found)
    if workload.unit and core.unit != workload.unit:
        expected, found = workload.unit, label(core.unit)
        yield Finding(reason=Reason.PROCESS_UNIT, what=what, expected=expected, found=found)
    if core.proof_key != workload.proof_key:
        expected, found = workload.proof_key, label(core.proof_key)
        yield Finding(reason=Reason.PROCESS_PROOF_KEY, what=what, expected=expected, found=found)
    yield from find_other_origin(workload, core, what=what)
    yield from find_unallowed(workload, core.purpose, what=what)
    if workload.launch:
        yield from _launched_otherwise(workload.launch, core)
    is_starter_known = workload.unit or workload.any_starter or workload.container
    if not is_starter_known and core.binding != LAUNCHED:
        expected = "launched by the attestor: attestor run"
        yield Finding(reason=Reason.PROCESS_STARTER, what=what, expected=expected)


def _launched_otherwise(launch: Launch, core: CoreRecord) -> Iterator[Finding]:
    """Find what a process was launched with that its workload does not say, or the other way."""
    if core.binding != LAUNCHED:
        return  # said once: its starter is not the attestor
    what = _named(core)
    if arguments_digest(launch.arguments) != core.arguments:
        expected, found = label(shlex.join(launch.arguments)), sha256_text(core.arguments)
        yield Finding(reason=Reason.PROCESS_ARGUMENTS, what=what, expected=expected, found=found)
    if environment_digest(launch.environment) != core.environment:
        given = [f"{name}={value}" for name, value in sorted(launch.environment.items())]
        expected, found = label(shlex.join(given)) or "none", sha256_text(core.environment)
        yield Finding(reason=Reason.PROCESS_ENVIRONMENT, what=what, expected=expected, found=found)
    yield from _configured_otherwise(launch, core)


def _configured_otherwise(launch: Launch, core: CoreRecord) -> Iterator[Finding]:
    reason = Reason.PROCESS_CONFIGURATION
    named = {one.path: one for one in core.configuration}
    for path, digest in launch.files.items():
        one = named.get(path)
        if one is None or one.digest != digest:
            expected, found = sha256_text(digest), sha256_text(one.digest) if one else "not named"
            yield Finding(reason=reason, what=path, expected=expected, found=found)
        elif not one.is_roots:
            expected = "root's, the directories above it too, and nobody else may write to them"
            yield Finding(reason=reason, what=path, expected=expected)
    for path in named.keys() - launch.files.keys():
        yield Finding(reason=reason, what=label(path), expected="no such file")


# The look


def _verify_look(look: Look, core: CoreRecord) -> None:
    """Raise Rejected unless the look shows the process of the record, and nothing odd about it."""
    for mapping in look.mappings:
        if mapping.file >= len(look.files):
            raise Malformed(f"expected a file below {len(look.files)}, got {mapping.file}")
    judged = (
        _changes(look, core),
        _configuration(look, core),
        _standing(look, core),
        _memory(look),
    )
    findings = capped(
        chain(*judged, _executable_unmapped(look), find_misplaced(look), _places(look))
    )
    if findings:
        raise Rejected(findings)


def _changes(look: Look, core: CoreRecord) -> Iterator[Finding]:
    if look.boot != core.boot:
        expected, found = label(core.boot), label(look.boot)
        yield Finding(reason=Reason.PROCESS_BOOT, what="look", expected=expected, found=found)
    facts: dict[str, tuple[object, object]] = {
        "pid": (core.pid, look.pid),
        "pidfs inode": (core.pidfs_inode, look.pidfs_inode),
        "start": (core.start_ticks, look.start_ticks),
        "executable": (sha256_text(core.executable), sha256_text(look.executable.digest)),
        "cgroup": (label(core.cgroup), label(look.cgroup)),
        "modules": (sha256_text(core.modules), sha256_text(look.modules)),
        "user, pid and mount namespaces": (core.namespaces, look.namespaces[:IN_RECORD]),
    }
    for what, (then, now) in facts.items():
        if then != now:
            yield Finding(
                reason=Reason.PROCESS_CHANGED, what=what, expected=str(then), found=str(now)
            )


def _configuration(look: Look, core: CoreRecord) -> Iterator[Finding]:
    """Find a file of its configuration that is another than when the process was launched."""
    if look.configuration == core.configuration:
        return
    then = {one.path: one for one in core.configuration}
    changed = [one for one in look.configuration if one != then.get(one.path)]
    what = label(changed[0].path) if changed else "files"
    expected = f"its {len(then)} files as they were when it was launched"
    yield Finding(reason=Reason.PROCESS_CONFIGURATION, what=what, expected=expected)


def _standing(look: Look, core: CoreRecord) -> Iterator[Finding]:
    """Judge who the process is to the kernel: ids, capabilities, namespaces, tracer."""
    if look.uids != (core.uid,) * LOOK_UIDS:
        expected, found = f"{LOOK_UIDS} times {core.uid}", f"{look.uids[:8]}"
        yield Finding(reason=Reason.PROCESS_UIDS, expected=expected, found=found)
    if look.strangers:
        expected, found = "nobody with other ids", f"uids {look.strangers[:8]}"
        yield Finding(reason=Reason.PROCESS_SHARED, what="memory", expected=expected, found=found)
    strong = [name for bit, name in CAPABILITIES.items() if look.capabilities >> bit & 1]
    if strong:
        expected = f"none of {', '.join(CAPABILITIES.values())}"
        found = ", ".join(strong)
        yield Finding(reason=Reason.PROCESS_CAPABILITIES, expected=expected, found=found)
    if not look.is_user_namespace_initial:
        yield Finding(reason=Reason.PROCESS_NAMESPACE, what="user", expected="the initial one")
    if core.binding == ATTACHED and not look.is_pid_namespace_initial_owned:
        expected = "owned by the initial user namespace"
        yield Finding(reason=Reason.PROCESS_NAMESPACE, what="pid", expected=expected)
    if look.tracer:
        found = f"pid {look.tracer}"
        yield Finding(reason=Reason.PROCESS_TRACED, expected="no tracer", found=found)


def _memory(look: Look) -> Iterator[Finding]:
    if look.anonymous_executable:
        found = f"{look.anonymous_executable} bytes"
        yield Finding(reason=Reason.PROCESS_ANONYMOUS, expected="0 bytes", found=found)
    for mapping in look.mappings:
        if not (mapping.is_writable or mapping.anonymous):
            continue
        what = label(look.files[mapping.file].path)
        if mapping.is_writable:
            expected = "no writable executable mapping"
            yield Finding(reason=Reason.PROCESS_WRITABLE, what=what, expected=expected)
        if mapping.anonymous:
            found = f"{mapping.anonymous} bytes that are not the file's"
            yield Finding(reason=Reason.PROCESS_PATCHED, what=what, expected="0", found=found)


def _executable_unmapped(look: Look) -> Iterator[Finding]:
    """/proc/PID/exe is a claim: believe it only where the file is what runs."""
    claimed = _identity(look.executable)
    if claimed not in {_identity(look.files[mapping.file]) for mapping in look.mappings}:
        what = label(look.executable.path)
        expected = "an executable mapping of it"
        yield Finding(reason=Reason.PROCESS_EXECUTABLE_UNMAPPED, what=what, expected=expected)


def _identity(file: MappedFile) -> tuple[int, int, bytes]:
    return file.device, file.inode, file.digest


def _places(look: Look) -> Iterator[Finding]:
    for file in dict.fromkeys((look.executable, *look.files)):
        if _is_in_place(file):
            continue
        what = label(file.path)
        if file.links == 0:
            yield Finding(reason=Reason.PROCESS_DELETED, what=what, expected="a file with a name")
        place = {"owner": file.owner, "mode": file.mode, "filesystem": file.filesystem}
        yield from judge_place(file.path, **place)


def _is_in_place(file: MappedFile) -> bool:
    return bool(file.links) and is_in_place(
        owner=file.owner, mode=file.mode, filesystem=file.filesystem
    )


def _verify_unit(look: Look, workload: Workload) -> None:
    """Raise Rejected unless the workload's unit, if it has one, is one of the system's.

    A user names units of his own manager, and cgroups below what was delegated to him, as he
    likes. What is delegated is a service or a scope; above a unit of the system's are slices only.
    """
    root, *above = look.cgroup.split("/")[:-1] or ["none"]
    if workload.unit and (root or not all(one.endswith(".slice") for one in above)):
        expected = f"{workload.unit} below nothing but slices"
        raise reject(Reason.PROCESS_UNIT, "cgroup", expected=expected, found=label(look.cgroup))


def _verify_container(look: Look, workload: Workload) -> None:
    """Raise Rejected unless the process is in a cgroup of the workload's container.

    The runtime puts it there, and only root makes cgroups beside it. Looking like a container
    from within is nothing that counts: any namespace will do that.
    """
    container = workload.container
    if container and not container.has(look.cgroup):
        expected, found = container.cgroup, label(look.cgroup)
        raise reject(Reason.PROCESS_CGROUP, "cgroup", expected=expected, found=found)


def _verify_posture(standing: Standing, workload: Workload) -> None:
    """Raise Rejected unless the node's kernel is set as the workload demands."""
    findings = []
    for word in workload.posture:
        expected, judge = DEMANDS[word]
        is_met, found = judge(standing)
        if not is_met:
            reason = Reason.PROCESS_POSTURE
            findings.append(Finding(reason=reason, what=word, expected=expected, found=found))
    if findings:
        raise Rejected(findings)


def _verify_whereabouts(judge: _Judge, core: CoreRecord, workload: Workload) -> None:
    """Raise Rejected unless the node is where the workload has to be."""
    labels, address = judge.node.labels, judge.address
    findings = tuple(find_elsewhere(workload, labels=labels, address=address, what=_named(core)))
    if findings:
        raise Rejected(findings)


# The look and the list


def _signed(known: KnownList, node: Node, policy: Policy) -> Mapping[bytes, Sequence[Measured]]:
    """Return the records by which a mapped file may be known; none where no signer counts."""
    signed: defaultdict[bytes, list[Measured]] = defaultdict(list)
    if policy.signers_on(node.name):
        for one in known.replayed.measured:
            is_executed = one.register == policy.execute_register and one.algorithm == "sha256"
            if one.signature and is_executed and len(signed[one.digest]) < MOST_SIGNED:
                signed[one.digest].append(one)
    return signed


def _verify_files(judge: _Judge, look: Look, workload: Workload) -> None:
    """Raise Rejected unless every file that runs is in the list, and allowed for the workload."""
    executable = _identity(look.executable)
    findings = capped(
        finding
        for file in dict.fromkeys((look.executable, *look.files))
        for finding in _judge_file(
            judge, file, workload, is_executable=_identity(file) == executable
        )
    )
    if findings:
        raise Rejected(findings)


def _judge_file(
    judge: _Judge, file: MappedFile, workload: Workload, *, is_executable: bool
) -> Iterator[Finding]:
    if file.digest not in judge.known.executed:
        what, found = label(file.path), sha256_text(file.digest)
        expected = f"an entry of register {judge.policy.execute_register}"
        yield Finding(reason=Reason.PROCESS_NOT_MEASURED, what=what, expected=expected, found=found)
    if not is_executable and not _may_be_mapped(judge, file, workload):
        what, found = label(file.path), sha256_text(file.digest)
        expected = ", ".join(workload.mapped) or "no mapped file at all"
        yield Finding(reason=Reason.PROCESS_MAPPED, what=what, expected=expected, found=found)
    if workload.container and not _is_of_image(judge, file, workload.container):
        what, found = label(file.path), sha256_text(file.digest)
        expected = f"a file of {workload.container.image}"
        yield Finding(reason=Reason.PROCESS_IMAGE, what=what, expected=expected, found=found)


def _is_of_image(judge: _Judge, file: MappedFile, container: Container) -> bool:
    sets = judge.policy.named_sets_on(judge.node.name, (container.image,))
    return any(file.digest in one.paths for one in sets)


def _may_be_mapped(judge: _Judge, file: MappedFile, workload: Workload) -> bool:
    """Say whether one of the workload's sets has the file, or one of its signers has signed it."""
    node = judge.node.name
    if any(file.digest in one.paths for one in judge.policy.named_sets_on(node, workload.mapped)):
        return True
    signers = judge.policy.named_signers_on(node, workload.mapped)
    return any(_is_signed(one, signers) for one in judge.signed.get(file.digest, ()))


def _is_signed(one: Measured, signers: tuple[Signer, ...]) -> bool:
    try:
        verify_file_signature(one, what="", signers=signers)
    except Rejected:
        return False
    return True
