"""Devices that nothing can be written to: dm-verity, as the kernel measures it (critical data).

Where files lie on such a device, nobody changes them beneath the file system, root neither: what is
read is hashed up to a root digest that an operator has named.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from evidence.critical_data import DEVICE_EVENTS, DEVICE_RESUMED, TABLE_LOADED, VerityTable
from verifier.node import Measured

STRONG = ("sha256", "sha384", "sha512")
MODES = ("", "restart_on_corruption", "panic_on_corruption")
"""What may be done with a bad block: whoever reads it has to be none the wiser."""
ERROR_MODES = ("", "restart_on_error", "panic_on_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verity:
    """Tables of dm-verity devices whose contents an operator has chosen: a reference value."""

    name: str
    tables: tuple[VerityTable, ...]
    nodes: tuple[str, ...] = ()
    """Names of the nodes it counts on; empty for all."""
    source: str = ""
    """Where the tables come from, for people."""

    @property
    def known(self) -> frozenset[tuple[bytes, bytes]]:
        """Event and digest of each record that it makes known."""
        return frozenset(pair for one in self.tables for pair in _pairs(one))

    def counts_on(self, node: str) -> bool:
        """Say whether the tables count on the node of this name."""
        return not self.nodes or node in self.nodes


def is_unchangeable(table: VerityTable) -> bool:
    """Say whether each block of the device is looked at each time that it is read."""
    return (
        table.algorithm in STRONG
        and len(table.root_digest) == 2 * hashlib.new(table.algorithm).digest_size
        and not table.checks_once
        and table.mode in MODES
        and table.error_mode in ERROR_MODES
    )


def find_devices(events: Iterable[Measured], named: Iterable[Verity]) -> frozenset[int]:
    """Return st_dev of the devices whose table is a named one.

    `events` are the records of critical data. A record of device-mapper's that is no named
    table's takes all of them away: what it is about, its digest does not tell.
    """
    events = [one for one in events if one.path.startswith(DEVICE_EVENTS)]
    seen = {(one.path, one.digest): index for index, one in enumerate(events)}
    tables = [one for value in named for one in value.tables]
    if not seen.keys() <= {pair for one in tables for pair in _pairs(one)}:
        return frozenset()
    return frozenset(one.device for one in tables if _is_in_force(one, seen))


def _is_in_force(table: VerityTable, seen: dict[tuple[bytes, bytes], int]) -> bool:
    loaded, resumed = (seen.get(pair) for pair in _pairs(table))
    return loaded is not None and resumed is not None and loaded < resumed


def _pairs(table: VerityTable) -> tuple[tuple[bytes, bytes], ...]:
    """Return event and digest of the record of its load, and of that which puts it into force."""
    return (
        (TABLE_LOADED, hashlib.sha256(table.encode()).digest()),
        (DEVICE_RESUMED, hashlib.sha256(table.resumed()).digest()),
    )
