"""Link 3, as far as it is judged here: the list belongs to the boot that the quote shows.

The kernel's first record is the hash over registers 0 to 9. That what they hold is a good boot
is another matter (event logs): until it is judged, no level above `lab` is given.
"""

import hashlib
from dataclasses import dataclass

from verifier.policy import Policy
from verifier.reasons import Reason, reject, sha256_text
from verifier.replay import BUFFER_TEMPLATE, ReplayedList

AGGREGATE_PATH = b"boot_aggregate"
AGGREGATED_REGISTERS = range(10)
"""Registers 0 to 9, since Linux 5.8, for every algorithm but SHA-1 (ima_crypto.c)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootedList:
    """The list is of the boot that the quote shows. Made by `verify_boot` only."""

    replayed: ReplayedList


def verify_boot(replayed: ReplayedList, *, policy: Policy) -> BootedList:
    """Return the list; raise Rejected unless its first record, and no other, is of this boot."""
    places = [
        index
        for index, one in enumerate(replayed.measured)
        if one.path == AGGREGATE_PATH
        and one.template != BUFFER_TEMPLATE
        and one.register == policy.execute_register
    ]
    if places[:1] != [0]:
        raise reject(Reason.BOOT_AGGREGATE_MISSING, "record 0", expected="boot_aggregate")
    if len(places) > 1:
        what = f"record {places[1]}"
        raise reject(Reason.BOOT_AGGREGATE_AGAIN, what, expected="one boot_aggregate")
    values = replayed.instance.quote.registers
    computed = hashlib.sha256(b"".join(values[one] for one in AGGREGATED_REGISTERS)).digest()
    first = replayed.measured[0]
    if (first.algorithm, first.digest) != ("sha256", computed):
        found = f"{first.algorithm}:{first.digest.hex()}"
        raise reject(
            Reason.BOOT_AGGREGATE, "boot_aggregate", expected=sha256_text(computed), found=found
        )
    return BootedList(replayed=replayed)
