"""What stays the same for this boot and this start of the attestor."""

from dataclasses import dataclass

from attestor.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The node, as every piece of its evidence names it."""

    node: str
    boot: str
    """The boot's random name, as the kernel has it."""
    kernel: str
    """Its release, as uname(2) has it."""
    boot_log: str
    """Path of the TCG event log."""
    instance: Instance
