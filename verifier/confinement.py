"""The TPM is the attestor's alone: SELinux, as the kernel measures it (critical data).

The kernel measures a digest of the whole policy, which says nothing of the TPM. Somebody who has
read the policy does, and vouches for it by naming its digest.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evidence.critical_data import SELINUX_EVENTS, SELINUX_POLICY, SELINUX_STATE, SelinuxState
from verifier.node import Measured

Indexed = tuple[int, Measured]
"""A record, and where it stands in the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """SELinux policies under which only the attestor can open the TPM: a reference value."""

    name: str
    policies: tuple[bytes, ...]
    """SHA-256 of each as the kernel writes it (/sys/fs/selinux/policy), 32 bytes."""
    states: tuple[SelinuxState, ...]
    """Those in which the policies are in force, as the kernel measures them."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes it counts on; empty for all."""
    source: str = ""
    """Who has read the policies, for people."""

    @property
    def known(self) -> frozenset[tuple[bytes, bytes]]:
        """Event and digest of each record that it makes known."""
        policies = ((SELINUX_POLICY, one) for one in self.policies)
        states = ((SELINUX_STATE, one.encode()) for one in self.states)
        measured = (*policies, *states)
        return frozenset((event, hashlib.sha256(data).digest()) for event, data in measured)

    def counts_on(self, node: str) -> bool:
        """Say whether the policies count on the node of this name."""
        return not self.nodes or node in self.nodes


def is_confined(events: Sequence[Indexed], named: Iterable[Confinement], *, before: int) -> bool:
    """Say whether one of the named policies is in force since before record `before`.

    `events` are the records of critical data. `before` is the record of the first file: until then
    nothing of the disk has run but what the judged initramfs did, so whoever could invent a record
    could not invent these. One that is not named takes it away: a state or a policy that was there
    once may be so again, without a record (the kernel measures the same data once).
    """
    seen = {(one.path, one.digest) for _, one in events if one.path.startswith(SELINUX_EVENTS)}
    early = {one.path for index, one in events if index < before}
    is_early = {SELINUX_STATE, SELINUX_POLICY} <= early
    return is_early and any(seen <= one.known for one in named)
