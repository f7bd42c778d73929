"""How the kernel of this node is set now, as /proc and /sys say it."""

import re
from pathlib import Path

from evidence.posture import Posture

SYSTEM = Path("/")

TAINT = "proc/sys/kernel/tainted"
LOCKDOWN = "sys/kernel/security/lockdown"
MODULE_SIGNATURES = "sys/module/module/parameters/sig_enforce"
MODULES = "proc/sys/kernel/modules_disabled"
KEXEC = "proc/sys/kernel/kexec_load_disabled"
PTRACE_SCOPE = "proc/sys/kernel/yama/ptrace_scope"


def read_posture(root: Path = SYSTEM) -> Posture:
    """Return it; what this kernel has no file for is not in force."""
    lockdown = re.search(r"\[(\w+)\]", _read(root, LOCKDOWN))
    return Posture(
        taint=int(_read(root, TAINT) or 0),
        lockdown=lockdown[1] if lockdown else "",
        is_module_signature_enforced=_read(root, MODULE_SIGNATURES) == "Y",
        is_module_loading_disabled=_read(root, MODULES) == "1",
        is_kexec_disabled=_read(root, KEXEC) == "1",
        ptrace_scope=int(_read(root, PTRACE_SCOPE) or 0),
    )


def _read(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
