"""Assurance levels: how far the evidence goes, and what it lacks for the next one.

    lab  nobody has judged how the machine booted
    L1   links 1 to 6 hold, a boot policy and the command line included
    L2   and no ordinary process can work the process like a puppet
    L3   and it was launched as the policy says, and nobody can at all while the kernel is intact
    L4   and the kernel keeps its files from being changed, and the TPM from all but the attestor

Each rests on those below it. What a level lacks is told to people; a minimum refuses.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from evidence.posture import Presence
from evidence.process import LAUNCHED, PEER_PROOFS, CoreRecord, Look
from verifier.core_record import process_label
from verifier.host import HostedProcess
from verifier.policy import LEVELS, Workload
from verifier.posture import Standing
from verifier.reasons import Reason, reject


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What the level of one process rests on; node, record and look have been judged."""

    standing: Standing
    core: CoreRecord
    look: Look
    workload: Workload
    presence: Presence | None
    """Where the processes of its uid are; None where the attestor does not say."""

    @property
    def is_alone(self) -> bool:
        """Whether every process of its uid is in its unit or container."""
        is_bounded = bool(self.workload.unit or self.workload.container)
        presence = self.presence
        return is_bounded and presence is not None and presence.is_within(self.look.cgroup)

    @property
    def is_unchangeable(self) -> bool:
        """Whether all that it runs lies on devices that nothing can be written to."""
        files = (self.look.executable, *self.look.files)
        return all(one.device in self.standing.devices for one in files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A level, and what the next one lacks."""

    level: str
    lacks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelledProcess:
    """The evidence goes as far as the workload demands. Made by `verify_level` only."""

    hosted: HostedProcess
    reached: Reached


def verify_level(hosted: HostedProcess) -> LevelledProcess:
    """Return the process and its level; raise Rejected unless its workload is content with it."""
    seen, host = hosted.seen, hosted.host
    grounds = Grounds(
        standing=host.standing,
        core=seen.core,
        look=seen.look,
        workload=seen.workload,
        presence=host.presences.get(seen.core.uid),
    )
    reached, minimum = reach(grounds), seen.workload.minimum
    if LEVELS.index(reached.level) < LEVELS.index(minimum):
        expected = f"{minimum} or more"
        found = f"{reached.level}, for want of {'; '.join(reached.lacks)}"
        raise reject(Reason.PROCESS_LEVEL, process_label(seen.core), expected=expected, found=found)
    return LevelledProcess(hosted=hosted, reached=reached)


def reach(grounds: Grounds) -> Reached:
    """Return the highest level that the evidence reaches."""
    level = LEVELS[0]
    for higher, find_lacks in _CONDITIONS.items():
        lacks = tuple(find_lacks(grounds))
        if lacks:
            return Reached(level=level, lacks=lacks)
        level = higher
    return Reached(level=level, lacks=())


_UNCHANGEABLE = "each of its files on a dm-verity device that a reference value names"


def _lacks_for_l1(grounds: Grounds) -> Iterator[str]:
    if not grounds.standing.boot.policy:
        yield "a boot policy for the node"
    if not (grounds.workload.needs_canary or grounds.is_unchangeable):
        # From such a device nothing runs that its operator has not put there, measured or not.
        yield f"a canary, or {_UNCHANGEABLE}"


def _lacks_for_l2(grounds: Grounds) -> Iterator[str]:
    if PEER_PROOFS.index(grounds.core.peer_proof) >= PEER_PROOFS.index("pid"):
        yield "peer_proof pidfd, Linux 6.5"
    if not (grounds.standing.is_ptrace_by_privilege or grounds.is_alone):
        yield (
            "sysctl.kernel.yama.ptrace_scope=2 on the command line and in force, or every process"
            " of its uid in its unit or container"
        )


def _lacks_for_l3(grounds: Grounds) -> Iterator[str]:
    standing = grounds.standing
    if not standing.is_ptrace_by_nobody:
        yield "sysctl.kernel.yama.ptrace_scope=3 on the command line and in force"
    if not standing.is_locked_down:
        yield "lockdown=integrity on the command line and in force"
    if not standing.are_modules_signed:
        yield "module.sig_enforce=1 on the command line and in force"
    if standing.taints:
        yield "a kernel that is not tainted"
    if grounds.workload.interpreter is not None:
        yield "a program that is no interpreter"
    if grounds.core.binding != LAUNCHED or grounds.workload.launch is None:
        yield "to be launched with arguments, environment and files that the workload names"


def _lacks_for_l4(grounds: Grounds) -> Iterator[str]:
    if not grounds.is_unchangeable:
        yield _UNCHANGEABLE
    if not grounds.standing.is_tpm_confined:
        yield "a SELinux policy that a confinement names, in force before the first file ran"


_CONDITIONS: dict[str, Callable[[Grounds], Iterator[str]]] = {
    "L1": _lacks_for_l1,
    "L2": _lacks_for_l2,
    "L3": _lacks_for_l3,
    "L4": _lacks_for_l4,
}
