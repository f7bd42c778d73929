"""How a node's kernel is set: what a workload may demand of it, and what levels rest on.

Secure Boot and the command line are in the judged boot log. The rest is the measured attestor's
word of now: it can only refuse, or agree with the command line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from evidence.posture import Posture
from verifier.boot_log import JudgedBoot
from verifier.command_line import always_say, never_say_other

HARMLESS_TAINTS = {
    2: "S",
    4: "M",
    9: "W",
    11: "I",
    14: "L",
    17: "T",
}
"""Flags that say nothing of code in the kernel: a processor out of its specification, a machine
check, a warning, a firmware's fault worked around, a soft lockup, a shuffled layout (Linux
admin-guide/tainted-kernels.rst). Any other one counts."""

LOCKED = ("integrity", "confidentiality")
PTRACE_BY_PRIVILEGE = ("2", "3")
"""Of kernel.yama.ptrace_scope: a process has to be privileged to trace another, or none can."""
PTRACE_BY_NOBODY = ("3",)

_PTRACE = "sysctl.kernel.yama.ptrace_scope"


@dataclass(frozen=True, kw_only=True)  # no slots: what the command line says is worked out once
class Standing:
    """What is known of a node's kernel: from its boot, its list, and its attestor."""

    boot: JudgedBoot
    posture: Posture
    devices: frozenset[int] = frozenset()
    """st_dev of the file systems that nothing can be written to."""
    is_tpm_confined: bool = False
    """Whether the kernel keeps everybody but the attestor from the TPM."""

    @cached_property
    def is_ptrace_by_privilege(self) -> bool:
        """Whether the command line allows ptrace to nobody without privilege, and it is so."""
        return self._is_told(_PTRACE, PTRACE_BY_PRIVILEGE) and self.posture.ptrace_scope in (2, 3)

    @cached_property
    def is_ptrace_by_nobody(self) -> bool:
        """Whether the command line allows ptrace to nobody at all, and it is so."""
        return self._is_told(_PTRACE, PTRACE_BY_NOBODY) and self.posture.ptrace_scope == 3  # noqa: PLR2004

    @cached_property
    def is_locked_down(self) -> bool:
        """Whether the command line locks the kernel down, and it is so."""
        is_hooked = never_say_other(self.boot.command_lines, "lsm", _has_lockdown)
        is_told = is_hooked and self._is_told("lockdown", LOCKED)
        return is_told and self.posture.lockdown in LOCKED

    @cached_property
    def are_modules_signed(self) -> bool:
        """Whether the command line demands signed modules, and it is so."""
        return (
            self._is_told("module.sig_enforce", ("1",))
            and self.posture.is_module_signature_enforced
        )

    @property
    def taints(self) -> int:
        """The taint flags that count."""
        return self.posture.taint & ~sum(1 << bit for bit in HARMLESS_TAINTS)

    def _is_told(self, name: str, values: tuple[str, ...]) -> bool:
        return always_say(self.boot.command_lines, name, values.__contains__)


def _has_lockdown(value: str) -> bool:
    """Say whether `lsm=` leaves the security module there that makes a lockdown one."""
    return "lockdown" in value.split(",")


_Judge = Callable[[Standing], tuple[bool, str]]
"""Returns whether a demand is met, and what was found."""

DEMANDS: Mapping[str, tuple[str, _Judge]] = {
    "secure-boot": (
        "Secure Boot on, in a boot log that a boot policy accepts",
        lambda one: (one.boot.is_secure, "no" if one.boot.policy else "no boot policy"),
    ),
    "lockdown": (
        "lockdown integrity or confidentiality",
        lambda one: (one.posture.lockdown in LOCKED, one.posture.lockdown or "no lockdown LSM"),
    ),
    "signed-modules": (
        "module.sig_enforce = 1",
        lambda one: (one.posture.is_module_signature_enforced, "0"),
    ),
    "no-more-modules": (
        "kernel.modules_disabled = 1",
        lambda one: (one.posture.is_module_loading_disabled, "0"),
    ),
    "no-kexec": (
        "kernel.kexec_load_disabled = 1",
        lambda one: (one.posture.is_kexec_disabled, "0"),
    ),
    "no-ptrace": (
        "kernel.yama.ptrace_scope = 2 or 3",
        lambda one: (one.posture.ptrace_scope in (2, 3), str(one.posture.ptrace_scope)),
    ),
    "untainted": (
        "kernel.tainted = 0, harmless flags aside",
        lambda one: (not one.taints, taint_text(one.taints)),
    ),
}
"""What a workload's `posture` may name."""


def taint_text(taints: int) -> str:
    """Return taint flags as the kernel's documents number them."""
    bits = [bit for bit in range(taints.bit_length()) if taints >> bit & 1]
    return f"flags {', '.join(map(str, bits))}"
