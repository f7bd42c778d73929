"""Link 3, second half: the machine booted as a boot policy allows, its command line included.

Nobody signs an event log. What makes it evidence is that it leads to the quoted registers; and
then it is evidence of digests and of their order in each register, of nothing else. So a policy
is a closed world of digests for each register: whatever extended one of them is known, wherever
the log says that it came from. What an event is called serves to name it in a refusal.

What must be there is proven by digest too, and can be added by whoever opens the TPM later
(`extend` with a known digest). It is there to refuse machines that measure too little, not
attackers: those are refused because what they booted is unknown.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from evidence import Malformed
from evidence.event_log import MOST_LOG_BYTES, EventLog
from evidence.messages import INSTANCE_REGISTER, QUOTED_REGISTERS
from verifier.boot import BootedList
from verifier.boot_command_lines import measured_command_lines
from verifier.boot_judgement import judge_boot
from verifier.node import Checkpoint
from verifier.policy import BootPolicy, Policy
from verifier.reasons import Finding, Reason, Rejected, label, reject
from verifier.replay import ReplayedList
from verifier.sound_log import SoundLog, demand_sound, is_secure

ZERO = bytes(32)
"""What a register holds that nothing has extended."""
PHASE_REGISTER = 11
"""Sections of a unified kernel image, then systemd-pcrphase's words, which are in no log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBoot:
    """The boot is as a policy allows, or none was demanded. Made by `verify_boot_log` only."""

    replayed: ReplayedList
    policy: str
    """Name of the boot policy that holds; empty where none counts on the node."""
    log: bytes
    """The boot's event log, as it came with the list's first record."""
    command_lines: tuple[str, ...] = ()
    """Those of the policy's that quoted registers have been extended with; none without one."""
    is_secure: bool = False
    """Whether Secure Boot was on; false without a policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProvenLog:
    """The log leads to what the quote shows. Made by `_verify_replay` only."""

    sound: SoundLog
    quoted: Mapping[int, bytes]
    """Values of the registers that it answers for."""


def verify_boot_log(  # noqa: PLR0913 - what a boot is compared with
    booted: BootedList,
    *,
    sent: bytes,
    stored: bytes,
    checkpoint: Checkpoint | None,
    policy: Policy,
    node: str,
) -> JudgedBoot:
    """Return the boot; raise Rejected unless a policy that counts on the node, if any, holds.

    `sent` came with this evidence, `stored` with the one that the list started over with. The
    log is judged every time, against the registers and the policies of now.
    """
    replayed = booted.replayed
    # (1) The log is the one of this boot.
    data = _select(replayed, sent=sent, stored=stored, checkpoint=checkpoint)
    demanded = policy.boot_policies_on(node)
    if not demanded:
        return JudgedBoot(replayed=replayed, policy="", log=data)
    # (2) It is what a TPM's firmware writes.
    sound = _read(data)
    # (3) It leads to the registers that are quoted.
    proven = _verify_replay(sound, _quoted(replayed, policy))
    # (4) What it says is what one of the policies allows.
    allowing = _verify_allowed(proven, demanded)
    return JudgedBoot(
        replayed=replayed,
        policy=allowing.name,
        log=data,
        command_lines=measured_command_lines(sound, allowing, proven.quoted),
        is_secure=is_secure(sound),
    )


def _select(
    replayed: ReplayedList, *, sent: bytes, stored: bytes, checkpoint: Checkpoint | None
) -> bytes:
    """Return the log of this boot: what is sent now, or what the checkpoint commits to."""
    if replayed.starts_over:
        data = sent if replayed.instance.quote.challenge.wants_boot_log else b""
        if len(data) > MOST_LOG_BYTES:
            expected, found = f"at most {MOST_LOG_BYTES} bytes", f"{len(data)}"
            raise reject(Reason.BOOT_LOG_SIZE, expected=expected, found=found)
        return data
    if checkpoint is None or hashlib.sha256(stored).digest() != checkpoint.boot_log:
        raise reject(Reason.BOOT_LOG_STORED, expected="the log as it was judged")
    return stored


def _read(data: bytes) -> SoundLog:
    if not data:
        raise reject(Reason.BOOT_LOG_MISSING, expected="the event log of the boot", found="none")
    try:
        return demand_sound(EventLog.decode(data))
    except Malformed as malformed:
        found = label(str(malformed))
        raise reject(Reason.BOOT_LOG_FORMAT, expected="an event log", found=found) from malformed


def _quoted(replayed: ReplayedList, policy: Policy) -> dict[int, bytes]:
    """Return the quoted values that the log has to lead to."""
    others = {*policy.list_registers, INSTANCE_REGISTER}
    values = replayed.instance.quote.registers
    return {one: values[one] for one in QUOTED_REGISTERS if one not in others}


def _verify_replay(sound: SoundLog, quoted: Mapping[int, bytes]) -> _ProvenLog:
    findings = [
        _apart(register, value, sound)
        for register, value in quoted.items()
        if register != PHASE_REGISTER and value != sound.values.get(register, ZERO)
    ]
    if findings:
        raise Rejected(findings)
    return _ProvenLog(sound=sound, quoted=quoted)


def _verify_allowed(proven: _ProvenLog, demanded: Iterable[BootPolicy]) -> BootPolicy:
    """Return the first policy that the boot is as; raise Rejected, for the nearest, if none is."""
    refusals: list[tuple[Finding, ...]] = []
    for one in demanded:
        findings = tuple(_judge_phases(proven, one)) or judge_boot(proven.sound, one, proven.quoted)
        if not findings:
            return one
        refusals.append(findings)
    nearest = min(refusals, key=len)
    raise Rejected(nearest)


def _judge_phases(proven: _ProvenLog, policy: BootPolicy) -> Iterator[Finding]:
    """Find that the register of the phases has another value than after any of them."""
    sound, quoted = proven.sound, proven.quoted
    if PHASE_REGISTER not in quoted:
        return
    value = sound.values.get(PHASE_REGISTER, ZERO)
    reachable = {value}
    for phase in policy.phases:
        word = hashlib.sha256(phase.encode()).digest()
        value = hashlib.sha256(value + word).digest()
        reachable.add(value)
    if quoted[PHASE_REGISTER] not in reachable:
        yield _apart(PHASE_REGISTER, quoted[PHASE_REGISTER], sound)


def _apart(register: int, quoted: bytes, sound: SoundLog) -> Finding:
    return Finding(
        reason=Reason.BOOT_LOG_REPLAY,
        what=f"register {register}",
        expected=quoted.hex(),
        found=sound.values.get(register, ZERO).hex(),
    )
