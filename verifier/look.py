"""Link 7, third part: a look shows the process of the record, and nothing odd about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from evidence import Malformed
from evidence.process import ATTACHED, IN_RECORD, CoreRecord, Look, MappedFile
from verifier.layout import find_misplaced
from verifier.places import is_in_place, judge_place
from verifier.policy import Workload
from verifier.reasons import Finding, Reason, Rejected, capped, label, reject, sha256_text
from verifier.selection import WantedProcess

CAPABILITIES = {
    19: "CAP_SYS_PTRACE",
    21: "CAP_SYS_ADMIN",
    24: "CAP_SYS_RESOURCE",
    40: "CAP_CHECKPOINT_RESTORE",
}
"""With one of these a process can be made to look like another (PR_SET_MM_MAP) or be one of
those that make it so (Linux include/uapi/linux/capability.h)."""

LOOK_UIDS = 4
"""Real, effective, saved, file system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenProcess:
    """The process was seen, and runs where its workload says. Made by `verify_look` only."""

    wanted: WantedProcess
    look: Look

    @property
    def core(self) -> CoreRecord:
        """What of the process cannot change."""
        return self.wanted.core

    @property
    def workload(self) -> Workload:
        """Whose process it is."""
        return self.wanted.workload


def verify_look(wanted: WantedProcess, look: Look) -> SeenProcess:
    """Return the process as it was seen; raise Rejected unless the look fits the record.

    Raise Malformed for a look at what cannot be.
    """
    core = wanted.core
    for mapping in look.mappings:
        if mapping.file >= len(look.files):
            raise Malformed(f"expected a file below {len(look.files)}, got {mapping.file}")
    findings = capped(
        chain(
            _changes(look, core),
            _configuration(look, core),
            _standing(look, core),
            _memory(look),
            _executable_unmapped(look),
            find_misplaced(look),
            _places(look),
        )
    )
    if findings:
        raise Rejected(findings)
    _verify_unit(look, wanted.workload)
    _verify_container(look, wanted.workload)
    return SeenProcess(wanted=wanted, look=look)


def file_identity(file: MappedFile) -> tuple[int, int, bytes]:
    """Return what makes a mapped file the same one as another: its path is only a label."""
    return file.device, file.inode, file.digest


# Is it the process of the record?


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


# Who is it to the kernel?


def _standing(look: Look, core: CoreRecord) -> Iterator[Finding]:
    """Judge who the process is to the kernel: ids, capabilities, namespaces, tracer."""
    yield from _ids(look, core)
    yield from _capabilities(look)
    yield from _namespaces(look, core)
    if look.tracer:
        found = f"pid {look.tracer}"
        yield Finding(reason=Reason.PROCESS_TRACED, expected="no tracer", found=found)


def _ids(look: Look, core: CoreRecord) -> Iterator[Finding]:
    if look.uids != (core.uid,) * LOOK_UIDS:
        expected, found = f"{LOOK_UIDS} times {core.uid}", f"{look.uids[:8]}"
        yield Finding(reason=Reason.PROCESS_UIDS, expected=expected, found=found)
    if look.strangers:
        expected, found = "nobody with other ids", f"uids {look.strangers[:8]}"
        yield Finding(reason=Reason.PROCESS_SHARED, what="memory", expected=expected, found=found)


def _capabilities(look: Look) -> Iterator[Finding]:
    strong = [name for bit, name in CAPABILITIES.items() if look.capabilities >> bit & 1]
    if strong:
        expected = f"none of {', '.join(CAPABILITIES.values())}"
        found = ", ".join(strong)
        yield Finding(reason=Reason.PROCESS_CAPABILITIES, expected=expected, found=found)


def _namespaces(look: Look, core: CoreRecord) -> Iterator[Finding]:
    if not look.is_user_namespace_initial:
        yield Finding(reason=Reason.PROCESS_NAMESPACE, what="user", expected="the initial one")
    if core.binding == ATTACHED and not look.is_pid_namespace_initial_owned:
        expected = "owned by the initial user namespace"
        yield Finding(reason=Reason.PROCESS_NAMESPACE, what="pid", expected=expected)


# What runs in it?


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
    claimed = file_identity(look.executable)
    if claimed not in {file_identity(look.files[mapping.file]) for mapping in look.mappings}:
        what = label(look.executable.path)
        expected = "an executable mapping of it"
        yield Finding(reason=Reason.PROCESS_EXECUTABLE_UNMAPPED, what=what, expected=expected)


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


# Is it where its workload says?


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
