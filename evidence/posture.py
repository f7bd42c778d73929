"""What an attestor says of its node besides processes: how the kernel is set, who is where.

No register covers any of it. It is the measured attestor's word, read when it makes evidence.
"""

from dataclasses import dataclass

from evidence.shapes import Shape

MOST_CGROUPS = 16
"""Of one uid."""

LOCKDOWNS = ("", "none", "integrity", "confidentiality")
"""States of the lockdown LSM, weakest first; empty where the kernel has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posture(Shape):
    """How the kernel is set now."""

    taint: int
    """/proc/sys/kernel/tainted, a bit set (Linux admin-guide/tainted-kernels.rst)."""
    lockdown: str
    """One of LOCKDOWNS: what /sys/kernel/security/lockdown has in brackets."""
    is_module_signature_enforced: bool
    """/sys/module/module/parameters/sig_enforce: modules need a signature of the kernel's."""
    is_module_loading_disabled: bool
    """/proc/sys/kernel/modules_disabled: no module is loaded any more in this boot."""
    is_kexec_disabled: bool
    """/proc/sys/kernel/kexec_load_disabled: no other kernel is loaded any more in this boot."""
    ptrace_scope: int
    """/proc/sys/kernel/yama/ptrace_scope; 0 where there is no Yama, whose 0 is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence(Shape):
    """Where the processes of one uid are."""

    uid: int
    cgroups: tuple[str, ...]
    """Paths of every process of the node that has this uid among its real, effective, saved and
    file system uids: ascending, each once. MOST_CGROUPS of them are not all that there are.
    Empty is the one of processes that were not seen."""

    def is_within(self, cgroup: str) -> bool:
        """Say whether they are all in this cgroup or below it, and some are."""
        if not self.cgroups or len(self.cgroups) >= MOST_CGROUPS:
            return False
        return all(f"{one}/".startswith(f"{cgroup}/") for one in self.cgroups)
