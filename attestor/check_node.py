"""What this machine could prove now, link by link, and the next command where it could not.

No trust rests on any of it: the verifier judges evidence. It is for people who set a node up.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attestor import privileges
from attestor.config import Config
from attestor.crypto import spki_digest
from attestor.enrolment import identify
from attestor.measurement_list import ListUnreadable, MeasurementList
from attestor.peer import Kernel
from attestor.posture import read_posture
from attestor.tpm import Tpm, TpmFailed
from evidence import Malformed, ima, tpm
from evidence.event_log import MOST_LOG_BYTES
from evidence.messages import INSTANCE_REGISTER

POLICY_FILE = Path("/sys/kernel/security/ima/policy")
COMMAND_LINE = Path("/proc/cmdline")
MODERN = "6.9"
"""The first kernel whose pidfds have inodes of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question about the machine."""

    link: int
    """Of the chain in docs: 1 the TPM is real ... 7 the process is what it says."""
    name: str
    is_good: bool
    found: str
    next: str = ""
    """What to do where it is not good."""


def check_node(config: Config) -> list[Check]:
    """Return every check, in the order of the links."""
    checks = [
        *_tpm(config),
        *_boot(config),
        *_list(config),
        *_attestor(config),
        *_processes(),
        *_kernel(),
    ]
    return sorted(checks, key=lambda one: one.link)


def _tpm(config: Config) -> Iterator[Check]:
    try:
        with Tpm(config.tcti, ek=config.ek_kind) as one:
            identity = identify(one)
            register = one.read_registers()[INSTANCE_REGISTER]
    except TpmFailed as error:
        yield Check(
            link=1,
            name="TPM",
            is_good=False,
            found=str(error),
            next="ls -l /dev/tpmrm0; stop whatever else holds the TPM",
        )
        return
    ek_hash = spki_digest(tpm.Public.decode(identity.ek_public))
    yield Check(link=1, name="TPM", is_good=True, found=f"EK sha256:{ek_hash}")
    yield Check(
        link=1,
        name="EK certificate",
        is_good=bool(identity.ek_certificate),
        found=f"{len(identity.ek_certificate)} bytes" if identity.ek_certificate else "none",
        next='try ek = "ecc256" in the configuration; else require_ek_certificate = false at the'
        " verifier",
    )
    yield Check(link=2, name="attestation key", is_good=True, found=identity.ak_name.hex())
    yield Check(
        link=6,
        name=f"PCR {INSTANCE_REGISTER}",
        is_good=register == bytes(32),
        found="untouched" if register == bytes(32) else "extended: an attestor has run",
        next="reboot, or attestor serve --second-start and an operator's approval",
    )


def _boot(config: Config) -> Iterator[Check]:
    size, found = _boot_log(config)
    yield Check(
        link=3,
        name="boot log",
        is_good=size > 0,
        found=found,
        next="is `boot_log` the file that the kernel has? Without one, the level is lab",
    )
    words = COMMAND_LINE.read_text(encoding="utf-8", errors="replace").split()
    options = dict(word.partition("=")[::2] for word in words)
    policy = options.get("ima_policy", "").strip('"').split("|")
    yield Check(
        link=3,
        name="ima_policy",
        is_good="tcb" in policy and "critical_data" in policy,
        found="|".join(policy) or "none",
        next='add ima_policy="tcb|critical_data" to the kernel command line',
    )
    yield Check(
        link=3,
        name="ima_hash",
        is_good=options.get("ima_hash") == "sha256",
        found=options.get("ima_hash", "the kernel's default"),
        next="add ima_hash=sha256 to the kernel command line",
    )


def _boot_log(config: Config) -> tuple[int, str]:
    """Return how long the event log is that a boot policy would judge, and what to say of it."""
    try:
        with config.boot_log.open("rb") as file:
            size = len(file.read(MOST_LOG_BYTES + 1))
    except OSError as error:
        return 0, f"{config.boot_log}: {error.strerror}"
    if size > MOST_LOG_BYTES:
        return 0, f"{config.boot_log}: more than {MOST_LOG_BYTES} bytes"
    return size, f"{size} bytes"


def _list(config: Config) -> Iterator[Check]:
    try:
        records = list(
            ima.read_records(MeasurementList(str(config.measurement_list)).records_from(0))
        )
    except (ListUnreadable, Malformed) as error:
        yield Check(
            link=4,
            name="measurement list",
            is_good=False,
            found=str(error),
            next="mount -t securityfs securityfs /sys/kernel/security; run as the attestor",
        )
        return
    yield Check(link=4, name="measurement list", is_good=True, found=f"{len(records)} records")
    templates = {one.template for one in records}
    yield Check(
        link=4,
        name="template",
        is_good=templates <= set(ima.EVIDENCE_TEMPLATES),
        found=", ".join(sorted(templates)),
        next="boot with ima_template=ima-ng, ima-sig or ima-ngv2",
    )
    registers = sorted({one.register for one in records})
    yield Check(
        link=5,
        name="kernel policy",
        is_good=not POLICY_FILE.exists(),
        found=f"registers {', '.join(map(str, registers))}; "
        + ("none loaded" if POLICY_FILE.exists() else "loaded, and closed"),
        next=f"load ima_policies/kernel/procseal.policy in the initramfs, into {POLICY_FILE}",
    )
    violations = sum(one.is_violation for one in records)
    yield Check(
        link=5,
        name="violations",
        is_good=not violations,
        found=str(violations),
        next="find out who writes to what runs; reboot",
    )


def _attestor(config: Config) -> Iterator[Check]:
    yield from _device(config)
    yield from _own_files(config)
    missing = privileges.NEEDED - privileges.permitted()
    yield Check(
        link=6,
        name="capabilities",
        is_good=not missing,
        found=", ".join(privileges.NAMES[one] for one in sorted(missing)) + " missing"
        if missing
        else "all",
        next="start it with AmbientCapabilities=" + " ".join(privileges.NAMES.values()),
    )
    yield Check(
        link=6,
        name="own uid",
        is_good=os.getuid() not in (0, config.looker_uid),
        found=str(os.getuid()),
        next="run the attestor under a uid of its own, the one in the kernel policy",
    )


def _device(config: Config) -> Iterator[Check]:
    """Whoever opens the TPM can extend its registers with anything.

    Root, who asks before there is an attestor, is told whether it is some account's alone.
    """
    if not config.tcti.startswith("device:"):
        yield Check(
            link=2,
            name="TPM device",
            is_good=False,
            found=config.tcti,
            next='tcti = "device:/dev/tpmrm0"',
        )
        return
    for path in sorted(Path("/dev").glob("tpm*")):
        status = path.stat()
        if stat.S_ISCHR(status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            yield Check(
                link=2,
                name=str(path),
                is_good=mode == 0o600 and _is_attestors(status),  # noqa: PLR2004
                found=f"mode {mode:04o}, uid {status.st_uid}",
                next=f"chown {_attestor_name()} {path}; chmod 0600 {path}; a udev rule for both",
            )


def _own_files(config: Config) -> Iterator[Check]:
    """Say whose the CA is: what root owns and the attestor reads is measured, as code is."""
    path = config.ca_file
    is_there = path.is_file()
    is_own = is_there and _is_attestors(path.stat())
    yield Check(
        link=5,
        name="own files",
        is_good=is_own,
        found=f"{path}: uid {path.stat().st_uid}" if is_there else f"there is no {path}",
        next=f"chown -R {_attestor_name()}: {path.parent}"
        if is_there
        else "copy ca.pem, which `verifier init` made",
    )


def _is_attestors(status: os.stat_result) -> bool:
    return status.st_uid != 0 and os.getuid() in (0, status.st_uid)


def _attestor_name() -> str:
    return str(os.getuid() or "attestor")


def _processes() -> Iterator[Check]:
    proof = Kernel.find_out().peer_proof
    yield Check(
        link=7,
        name="kernel",
        is_good=proof == "pidfs",
        found=f"{os.uname().release}: peers by {proof}",
        next=f"Linux {MODERN} or later; below 6.5 attached processes stay at L1",
    )


def _kernel() -> Iterator[Check]:
    """Say what levels above L1 rest on; the command line has to be measured besides."""
    posture = read_posture()
    yield Check(
        link=7,
        name="ptrace_scope",
        is_good=posture.ptrace_scope in (2, 3),
        found=str(posture.ptrace_scope),
        next="sysctl.kernel.yama.ptrace_scope=2 on the kernel command line, for L2 without units;"
        " 3 for L3",
    )
    yield Check(
        link=7,
        name="lockdown",
        is_good=posture.lockdown in ("integrity", "confidentiality"),
        found=posture.lockdown or "no such security module",
        next="lockdown=integrity on the kernel command line, for L3",
    )
    yield Check(
        link=7,
        name="signed modules",
        is_good=posture.is_module_signature_enforced,
        found="demanded" if posture.is_module_signature_enforced else "not demanded",
        next="module.sig_enforce=1 on the kernel command line, for L3",
    )
    yield Check(
        link=7,
        name="taint",
        is_good=posture.taint == 0,
        found=str(posture.taint),
        next="cat /proc/sys/kernel/tainted: Linux admin-guide/tainted-kernels.rst says why; for L3",
    )
