"""What a workload demands of the node that its process runs on: canary, posture, whereabouts."""

from collections.abc import Mapping
from dataclasses import dataclass

from evidence.canary import Place
from evidence.posture import Presence
from verifier.canary import WatchedList
from verifier.core_record import process_label
from verifier.look import SeenProcess
from verifier.mapped_files import MeasuredProcess
from verifier.posture import DEMANDS, Standing
from verifier.reasons import Finding, Reason, Rejected, reject
from verifier.whereabouts import find_elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What is known of the node, for every process of the body."""

    watched: WatchedList
    standing: Standing
    presences: Mapping[int, Presence]
    """Where the processes of a uid are, by uid."""
    labels: tuple[tuple[str, str], ...]
    """That operators gave it."""
    address: str
    """Where the evidence came from, empty where nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedProcess:
    """The node is as the workload demands. Made by `verify_host` only."""

    measured: MeasuredProcess
    host: Host

    @property
    def seen(self) -> SeenProcess:
        """The process, and what was seen of it."""
        return self.measured.seen


def verify_host(measured: MeasuredProcess, *, host: Host) -> HostedProcess:
    """Return the process; raise Rejected unless it may run on this node, as it is now."""
    seen = measured.seen
    _verify_canary(seen, host.watched)
    _verify_posture(seen, host.standing)
    _verify_whereabouts(seen, host)
    return HostedProcess(measured=measured, host=host)


def _verify_canary(seen: SeenProcess, watched: WatchedList) -> None:
    """Raise Rejected unless the kernel was seen measuring for this uid on this file system."""
    if not seen.workload.needs_canary:
        return
    place = Place(uid=seen.core.uid, device=seen.look.executable.device)
    if place not in watched.shown:
        what, expected = f"{place.label}, {process_label(seen.core)}", "a canary in the list"
        found = watched.failures.get(place, "none was asked for yet")
        raise reject(Reason.PROCESS_CANARY, what, expected=expected, found=found)


def _verify_posture(seen: SeenProcess, standing: Standing) -> None:
    """Raise Rejected unless the node's kernel is set as the workload demands."""
    findings = []
    for word in seen.workload.posture:
        expected, judge = DEMANDS[word]
        is_met, found = judge(standing)
        if not is_met:
            reason = Reason.PROCESS_POSTURE
            findings.append(Finding(reason=reason, what=word, expected=expected, found=found))
    if findings:
        raise Rejected(findings)


def _verify_whereabouts(seen: SeenProcess, host: Host) -> None:
    """Raise Rejected unless the node is where the workload has to be."""
    labels, address, what = host.labels, host.address, process_label(seen.core)
    findings = tuple(find_elsewhere(seen.workload, labels=labels, address=address, what=what))
    if findings:
        raise Rejected(findings)
