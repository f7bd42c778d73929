"""How a machine may boot."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class BootPolicy:
    """How a machine may boot: what may extend the registers of its boot, and what must."""

    name: str
    secure_boot: bool
    """Whether Secure Boot must have been on."""
    command_lines: tuple[str, ...]
    """Kernel command lines, each as it is measured; one of them must have been."""
    registers: Mapping[int, Mapping[str, tuple[bytes, ...]]]
    """By register, the SHA-256 digests that may extend it, under labels for people."""
    phases: tuple[str, ...] = ()
    """What user space extends register 11 with later, in this order (systemd-pcrphase)."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes it counts on; empty for all."""
    source: str = ""
    """Where the digests come from, for people."""

    def counts_on(self, node: str) -> bool:
        """Say whether the policy counts on the node of this name."""
        return not self.nodes or node in self.nodes

    def allows_all_of(self, other: "BootPolicy") -> bool:
        """Say whether each boot that `other` allowed is allowed still, wherever it was.

        Only more command lines, more digests in the same registers, and more nodes are more.
        """
        widened = replace(
            other,
            command_lines=self.command_lines,
            registers=self.registers,
            nodes=self.nodes,
            source=self.source,
        )
        return (
            self == widened
            and set(other.command_lines) <= set(self.command_lines)
            and self.registers.keys() == other.registers.keys()
            and all(
                _digests_of(other.registers[one]) <= _digests_of(self.registers[one])
                for one in self.registers
            )
            and (not self.nodes or (bool(other.nodes) and set(other.nodes) <= set(self.nodes)))
        )


def _digests_of(labelled: Mapping[str, tuple[bytes, ...]]) -> set[bytes]:
    return {digest for digests in labelled.values() for digest in digests}
