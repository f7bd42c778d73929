"""Link 3, first half: the list belongs to the boot that the quote shows.

The kernel's first record is the hash over registers 0 to 9. That what they hold is a good boot
is another matter: `verifier.boot_log`.
"""

import hashlib
from dataclasses import dataclass

from verifier.node import Measured
from verifier.policy import Policy
from verifier.reasons import Reason, label, reject, sha256_text
from verifier.replay import BUFFER_TEMPLATE, ReplayedList

AGGREGATE_PATHS = (b"boot_aggregate", b"boot_aggregate_late")
"""The second where the kernel has waited for its TPM (Linux 7.3, `IMA_INIT_LATE_SYNC`)."""
AGGREGATED_REGISTERS = range(10)
"""Registers 0 to 9, since Linux 5.8, for every algorithm but SHA-1 (ima_crypto.c)."""
OLD_AGGREGATED_REGISTERS = range(8)
"""What older kernels hash, of the SHA-1 bank where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootedList:
    """The list is of the boot that the quote shows. Made by `verify_boot` only."""

    replayed: ReplayedList


def verify_boot(replayed: ReplayedList, *, policy: Policy) -> BootedList:
    """Return the list; raise Rejected unless its first record, and no other, is of this boot.

    A second one is what kexec leaves: the next kernel carries the list over, and what it was
    is in no register that firmware extends. Not judged, so refused.
    """
    places = [
        index
        for index, one in enumerate(replayed.measured)
        if one.path in AGGREGATE_PATHS
        and one.template != BUFFER_TEMPLATE
        and one.register == policy.execute_register
    ]
    if places[:1] != [0]:
        raise reject(Reason.BOOT_AGGREGATE_MISSING, "record 0", expected="boot_aggregate")
    if len(places) > 1:
        what = f"record {places[1]}"
        raise reject(Reason.BOOT_AGGREGATE_AGAIN, what, expected="one boot_aggregate, no kexec")
    first = replayed.measured[0]
    computed = _aggregate(replayed, AGGREGATED_REGISTERS)
    if (first.algorithm, first.digest) != ("sha256", computed):
        reason = _difference(first, _aggregate(replayed, OLD_AGGREGATED_REGISTERS))
        expected, found = sha256_text(computed), f"{first.algorithm}:{first.digest.hex()}"
        raise reject(reason, label(first.path), expected=expected, found=found)
    return BootedList(replayed=replayed)


def _aggregate(replayed: ReplayedList, registers: range) -> bytes:
    values = replayed.instance.quote.registers
    return hashlib.sha256(b"".join(values[one] for one in registers)).digest()


def _difference(first: Measured, old: bytes) -> Reason:
    """Return what an aggregate is that is not the expected one: zeros are what no TPM gives."""
    if not any(first.digest):
        return Reason.BOOT_AGGREGATE
    if first.algorithm == "sha1" or (first.algorithm, first.digest) == ("sha256", old):
        return Reason.BOOT_AGGREGATE_OLD
    return Reason.BOOT_AGGREGATE if first.algorithm == "sha256" else Reason.BOOT_AGGREGATE_HASH
