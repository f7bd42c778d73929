"""Link 4, second half: our kernel policy was loaded before anything else ran, and only it.

What the kernel does not measure is in no list, so a list says something only under a known
policy. The kernel measures the policy's file when it is loaded by path.

Kernels from 6.15 on measure what the initramfs runs too, and it runs before it loads the policy.
Where a boot policy holds, that initramfs is a known one (link 3), so what it ran may stand first,
as long as it is known (link 5).

Kernels from 7.3 on measure the rules too, as critical data, after every load: once, and those of
the file.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from verifier.boot_log import JudgedBoot
from verifier.node import Measured
from verifier.policy import Policy
from verifier.reasons import Finding, Reason, Rejected, label, reject, sha256_text
from verifier.replay import BUFFER_TEMPLATE, ReplayedList

LOADED = b"ima_policy_loaded"
"""The event that shows the rules after a load."""
MOST_EXAMPLES = 16
"""Of what was loaded too early or again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuledList:
    """The list was written under a known kernel policy. Made by `verify_kernel_policy` only."""

    boot: JudgedBoot
    own: frozenset[int]
    """The records of the kernel policy: its file and, where the kernel shows them, its rules."""

    @property
    def replayed(self) -> ReplayedList:
        """The kernel's list."""
        return self.boot.replayed


def verify_kernel_policy(boot: JudgedBoot, *, policy: Policy) -> RuledList:
    """Return the list; raise Rejected unless a known kernel policy was loaded first, and once."""
    measured = boot.replayed.measured
    places = [index for index, one in enumerate(measured) if _is_known(one, policy)]
    if not places:
        raise _missing(measured)
    index = places[0]
    known_boot_register = policy.execute_register if boot.policy else None
    before = [one for one in measured[1:index] if one.register != known_boot_register]
    early = list(islice(_files(before), MOST_EXAMPLES))
    if early or measured[index].template == BUFFER_TEMPLATE:
        expected = "before the kernel policy critical data only, or the programs of a known boot"
        found = ", ".join(early) or "the kernel policy as critical data"
        raise reject(Reason.KERNEL_POLICY_LATE, f"record {index}", expected=expected, found=found)
    loads = [at for at, one in enumerate(measured) if _is_load(one, policy)]
    if loads and loads[0] < index:
        expected, found = "the rules of the first file measured", "other rules before it"
        raise reject(
            Reason.KERNEL_POLICY_LATE, f"record {loads[0]}", expected=expected, found=found
        )
    own = (index, *loads[:1])
    again = (
        Finding(
            reason=Reason.KERNEL_POLICY_AGAIN,
            what=f"record {later}, {label(one.path)}",
            expected="one load of a kernel policy",
            found=f"{one.algorithm}:{one.digest.hex()}",
        )
        for later, one in enumerate(measured[index + 1 :], index + 1)
        if later not in own
        and (later in loads or _is_known(one, policy) or _is_namesake(one, measured[index]))
    )
    if findings := tuple(islice(again, MOST_EXAMPLES)):
        raise Rejected(findings)
    for shown in own[1:]:
        _demand_rules(shown, measured[shown], loaded=measured[index], policy=policy)
    return RuledList(boot=boot, own=frozenset(own))


def _demand_rules(index: int, shown: Measured, *, loaded: Measured, policy: Policy) -> None:
    """Raise Rejected unless the rules that the kernel shows are those of the file it loaded."""
    accepted = (one for one in policy.kernel_policies if one.digest == loaded.digest)
    known = {digest for one in accepted for digest in one.rules}
    if shown.digest in known:
        return
    expected = " or ".join(map(sha256_text, sorted(known))) or "a file whose rules are known"
    found = sha256_text(shown.digest)
    what = f"record {index}, {label(shown.path)}"
    raise reject(Reason.KERNEL_POLICY_RULES, what, expected=expected, found=found)


def _files(measured: Iterable[Measured]) -> Iterator[str]:
    """Yield the records, from record 1 on, that are no critical data."""
    for index, one in enumerate(measured, 1):
        if one.template != BUFFER_TEMPLATE:
            yield f"record {index}"


def _is_known(one: Measured, policy: Policy) -> bool:
    return (
        one.register == policy.execute_register
        and one.algorithm == "sha256"
        and any(one.digest == known.digest for known in policy.kernel_policies)
    )


def _is_load(one: Measured, policy: Policy) -> bool:
    """Say whether the record is named as rules are that were loaded, whatever its template."""
    return one.register == policy.execute_register and one.path == LOADED


def _is_namesake(one: Measured, loaded: Measured) -> bool:
    """Say whether the record looks like another load: the name is all that tells one."""
    return one.register == loaded.register and _name(one) == _name(loaded)


def _name(one: Measured) -> bytes:
    return one.path.rpartition(b"/")[2]


def _missing(measured: Sequence[Measured]) -> Rejected:
    """Return why there is none: a policy that nobody knows, or nothing that looks like one."""
    for index, one in enumerate(measured[1:], 1):
        if one.template == BUFFER_TEMPLATE:
            continue
        if b"policy" not in _name(one):
            break
        what = f"record {index}, {label(one.path)}"
        found = sha256_text(one.digest)
        return reject(Reason.KERNEL_POLICY_UNKNOWN, what, expected="a known one", found=found)
    expected = "a known kernel policy as the first file measured"
    return reject(Reason.KERNEL_POLICY_MISSING, expected=expected, found="none")
