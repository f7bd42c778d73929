"""Link 4, third part: the kernel measures what workloads run, and was seen doing it.

A kernel policy can be a known one and yet not be in force, or measure less than was thought. What
it leaves out is in no list; so the verifier asks for files that nobody has seen before
(`evidence.canary`) to be used as the workload's files are, and looks for them.

It proves nothing against somebody who holds the TPM: he extends the register himself.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from evidence.canary import MOST_CANARIES, USES, CanaryReport, Place, digests
from verifier.instance import is_same_boot
from verifier.kernel_policy import RuledList
from verifier.node import ASKED, FAILED, MISSING, SHOWN, Canary, Node
from verifier.policy import Policy
from verifier.reasons import Finding, Reason, Rejected, capped, label
from verifier.replay import ReplayedList

MOST_IN_A_BOOT = 256
"""Canaries of one boot: they stay in the kernel's memory, in its list and in every decision's
evidence. After so many, what was shown counts on, and nothing more is asked for."""
MOST_OF_A_UID = 64
"""Of those: who mounts file systems in a namespace of his own makes places as he likes."""
MOST_PAUSE_DOUBLINGS = 16
"""A place that shows none is asked again after 1, 2, 4 ... seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedList:
    """The list has every canary that was let loose. Made by `verify_canaries` only."""

    ruled: RuledList
    digests: frozenset[bytes]
    """Of this boot's canaries, whatever became of them: they are no unknown files."""
    shown: frozenset[Place]
    """Where the kernel was seen measuring, in this boot."""
    now_shown: tuple[Place, ...]
    """Those of them that this evidence shows."""
    failures: Mapping[Place, str]
    """Where there is none this time, and why."""

    @property
    def replayed(self) -> ReplayedList:
        """The kernel's list."""
        return self.ruled.replayed


def choose_places(
    places: Iterable[Place], canaries: Collection[Canary], *, now: int, every: int
) -> tuple[Place, ...]:
    """Return where a challenge wants canaries; times in Unix seconds, `every` in seconds.

    `canaries` are those of this boot. A place that has none, or an old one, is due; one that was
    asked for one in vain waits twice as long each time.
    """
    if any(one.state == MISSING for one in canaries):
        return ()  # nothing can make that list complete again
    room = min(MOST_CANARIES, MOST_IN_A_BOOT - len(canaries))
    held = Counter(one.place.uid for one in canaries)
    due: list[Place] = []
    for one in dict.fromkeys(places):
        earlier = [known for known in canaries if known.place == one]
        if held[one.uid] < MOST_OF_A_UID and _is_due(earlier, now, every):
            held[one.uid] += 1
            due.append(one)
    return tuple(due[: max(room, 0)])


def _is_due(canaries: Collection[Canary], now: int, every: int) -> bool:
    """Say whether the place of these canaries, oldest first, needs another."""
    in_vain, last = 0, None
    for one in canaries:
        in_vain = 0 if one.state == SHOWN else in_vain + 1
        last = one.asked
    if last is None:
        return True
    pause = min(every, 1 << min(in_vain - 1, MOST_PAUSE_DOUBLINGS)) if in_vain else every
    return now - last >= pause


def verify_canaries(ruled: RuledList, *, node: Node, policy: Policy) -> WatchedList:
    """Return the list; raise Rejected if a canary was let loose and is not in it.

    Nor does a list count in which one was missing earlier in this boot.
    """
    quote = ruled.replayed.instance.quote
    earlier = node.canaries if is_same_boot(quote, node) else ()
    nonce, wanted = quote.challenge.nonce, quote.challenge.canaries
    reports = quote.body.canaries
    measured = frozenset(
        one.digest
        for one in ruled.replayed.new
        if one.register == policy.execute_register and one.algorithm == "sha256"
    )
    findings = capped(
        (
            *(_missing(one.place, "earlier in this boot") for one in earlier if _is_missing(one)),
            *_unanswered(wanted, reports),
            *(
                one
                for report in reports
                if not report.failure
                for one in _unseen(report.place, digests(nonce, report.place), measured, policy)
            ),
        )
    )
    if findings:
        raise Rejected(findings)
    now_shown = tuple(one.place for one in reports if not one.failure)
    known = ((nonce, place) for place in wanted)
    known_before = ((one.nonce, one.place) for one in earlier)
    return WatchedList(
        ruled=ruled,
        digests=frozenset(digest for pair in (*known_before, *known) for digest in digests(*pair)),
        shown=frozenset(now_shown) | {one.place for one in earlier if one.state == SHOWN},
        now_shown=now_shown,
        failures={one.place: label(one.failure) for one in reports if one.failure},
    )


def _is_missing(canary: Canary) -> bool:
    return canary.state == MISSING


def _unanswered(wanted: tuple[Place, ...], reports: tuple[CanaryReport, ...]) -> Iterator[Finding]:
    """Find canaries that nothing is said of: an attestor says at least why there is none."""
    told = tuple(one.place for one in reports)
    if told != wanted:
        yield Finding(
            reason=Reason.KERNEL_POLICY_CANARY,
            what="the challenge's canaries",
            expected="; ".join(one.label for one in wanted) or "none",
            found="; ".join(one.label for one in told[:MOST_CANARIES]) or "none",
        )


def _unseen(
    place: Place, wanted: tuple[bytes, ...], measured: Collection[bytes], policy: Policy
) -> Iterator[Finding]:
    unseen = [use for use, one in zip(USES, wanted, strict=True) if one not in measured]
    if unseen:
        where = f"not in register {policy.execute_register}"
        yield _missing(place, f"the one that was {' and the one that was '.join(unseen)} {where}")


def _missing(place: Place, found: str) -> Finding:
    expected = "a canary in the list: the kernel measures what runs there"
    reason = Reason.KERNEL_POLICY_CANARY
    return Finding(reason=reason, what=place.label, expected=expected, found=found)


# What is remembered


def remember_asked(
    canaries: tuple[Canary, ...], *, nonce: bytes, places: Iterable[Place], now: int
) -> tuple[Canary, ...]:
    """Return the boot's canaries with those of a new challenge."""
    asked = (Canary(nonce=nonce, place=one, asked=now, state=ASKED) for one in places)
    return (*canaries, *asked)


def remember_outcome(
    canaries: Iterable[Canary], *, nonce: bytes, shown: Collection[Place]
) -> tuple[Canary, ...]:
    """Return the boot's canaries, those of an accepted answer with what became of them."""
    return tuple(
        replace(one, state=SHOWN if one.place in shown else FAILED) if one.nonce == nonce else one
        for one in canaries
    )


def remember_missing(canaries: Iterable[Canary], *, nonce: bytes) -> tuple[Canary, ...]:
    """Return the boot's canaries, those of this challenge missing: for good, in this boot."""
    return tuple(replace(one, state=MISSING) if one.nonce == nonce else one for one in canaries)
