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
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile

from evidence import Malformed
from evidence.event_log import ALG_SHA256, MOST_LOG_BYTES, Event, EventLog, Variable
from evidence.messages import INSTANCE_REGISTER, QUOTED_REGISTERS
from verifier.boot import BootedList
from verifier.boot_events import Kind, command_line_of, event_label, kind_of
from verifier.boot_policy import JUDGEABLE_REGISTERS
from verifier.event_log import (
    BOOT_REGISTERS,
    EXIT,
    GLOBAL_VARIABLE,
    SECURE_BOOT_REGISTER,
    judge_event_log,
)
from verifier.node import Checkpoint
from verifier.policy import BootPolicy, Policy
from verifier.reasons import Finding, Reason, Rejected, label, reject, sha256_text
from verifier.replay import ReplayedList

BANK = "sha256"
"""Of every quote."""
ZERO = bytes(32)
"""What a register holds that nothing has extended."""
IMAGE_REGISTER = 4
EXIT_REGISTER = 5
PHASE_REGISTER = 11
"""Sections of a unified kernel image, then systemd-pcrphase's words, which are in no log."""
OPEN_REGISTERS = (1, 3, 5, 6)
"""Not judged unless the policy has a table: settings, partitions, the maker's own."""
MOST_UNKNOWN = 48
"""Unknown events that are told one by one."""
MOST_EXPECTED = 4
"""Digests in one finding."""

_REASONS = {
    Kind.VARIABLE: Reason.BOOT_VARIABLE,
    Kind.AUTHORITY: Reason.BOOT_AUTHORITY,
    Kind.IMAGE: Reason.BOOT_IMAGE,
    Kind.COMMAND_LINE: Reason.BOOT_COMMAND_LINE,
    Kind.FIRMWARE: Reason.BOOT_FIRMWARE,
}


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _secure_boot(value: bytes) -> bytes:
    return _sha256(Variable(vendor=GLOBAL_VARIABLE, name="SecureBoot", value=value).encode())


SEPARATOR_DIGEST = _sha256(bytes(4))
SECURE_BOOT_ON = _secure_boot(b"\1")
SECURE_BOOT_OFF = frozenset(map(_secure_boot, (b"\0", b"")))
"""Firmware without Secure Boot measures the variable as empty."""
EXIT_DIGESTS = tuple(map(_sha256, EXIT))


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
class SoundLog:
    """A TPM's log with digests that can be compared with a quote. Made by `demand_sound` only."""

    log: EventLog
    values: Mapping[int, bytes]
    """What it leads to, by register; one without events is not in it."""
    extended: Mapping[int, tuple[bytes, ...]]
    """The digests that lead there, in order."""

    def digests(self, register: int) -> tuple[bytes, ...]:
        """Return what the register was extended with, in order."""
        return self.extended.get(register, ())

    def firmware_digests(self, register: int) -> tuple[bytes, ...]:
        """Return those before the first separator; all where there is none."""
        digests = self.digests(register)
        return tuple(takewhile(lambda one: one != SEPARATOR_DIGEST, digests))


def digest_of(event: Event) -> bytes:
    """Return the digest that a sound log's event extends its register with."""
    return dict(event.digests)[ALG_SHA256]


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
    data = _select(replayed, sent=sent, stored=stored, checkpoint=checkpoint)
    demanded = policy.boot_policies_on(node)
    if not demanded:
        return JudgedBoot(replayed=replayed, policy="", log=data)
    sound = _read(data)
    quoted = _quoted(replayed, policy)
    _verify_replay(sound, quoted)
    refusals: list[tuple[Finding, ...]] = []
    for one in demanded:
        findings = tuple(_judge_phases(sound, quoted, one)) or judge_boot(sound, one, quoted)
        if not findings:
            return JudgedBoot(
                replayed=replayed,
                policy=one.name,
                log=data,
                command_lines=measured_command_lines(sound, one, quoted),
                is_secure=is_secure(sound),
            )
        refusals.append(findings)
    nearest = min(refusals, key=len)
    raise Rejected(nearest)


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
    if checkpoint is None or _sha256(stored) != checkpoint.boot_log:
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


def demand_sound(log: EventLog) -> SoundLog:
    """Return the log; raise Rejected where it is not what a TPM's firmware writes."""
    judged = judge_event_log(log)
    if judged.refusals:
        raise Rejected(judged.refusals)
    if log.spec is not None and log.spec.is_confidential:
        raise reject(Reason.BOOT_LOG_KIND, expected="registers of a TPM", found="a CCEL")
    if BANK not in judged.registers:
        found = ", ".join(judged.registers)
        raise reject(Reason.BOOT_LOG_BANK, expected=f"{BANK} in every event", found=found)
    extended: dict[int, list[bytes]] = {}
    for event in log.events:
        if event.is_measured:
            extended.setdefault(event.register, []).append(digest_of(event))
    return SoundLog(
        log=log,
        values=judged.registers[BANK],
        extended={register: tuple(digests) for register, digests in extended.items()},
    )


def _quoted(replayed: ReplayedList, policy: Policy) -> dict[int, bytes]:
    """Return the quoted values that the log has to lead to."""
    others = {*policy.list_registers, INSTANCE_REGISTER}
    values = replayed.instance.quote.registers
    return {one: values[one] for one in QUOTED_REGISTERS if one not in others}


def _verify_replay(sound: SoundLog, quoted: Mapping[int, bytes]) -> None:
    findings = [
        _apart(register, value, sound)
        for register, value in quoted.items()
        if register != PHASE_REGISTER and value != sound.values.get(register, ZERO)
    ]
    if findings:
        raise Rejected(findings)


def _judge_phases(
    sound: SoundLog, quoted: Mapping[int, bytes], policy: BootPolicy
) -> Iterator[Finding]:
    """Find that the register of the phases has another value than after any of them."""
    if PHASE_REGISTER not in quoted:
        return
    value = sound.values.get(PHASE_REGISTER, ZERO)
    reachable = {value}
    for phase in policy.phases:
        value = _sha256(value + _sha256(phase.encode()))
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


# The log and a policy


def judge_boot(
    sound: SoundLog, policy: BootPolicy, registers: Collection[int] = JUDGEABLE_REGISTERS
) -> tuple[Finding, ...]:
    """Return why the boot is not as the policy allows; nothing where it is.

    `registers` are those that the log answers for: an event in another quoted one is refused.
    """
    # (1) Secure Boot was on when the keys were measured, where that is demanded.
    findings = [*_judge_secure_boot(sound, policy)]
    # (2) Firmware came to its end, started something, and left the machine to it.
    findings += _judge_course(sound)
    # (3) Nothing unknown has extended a judged register, and nothing at all one of others.
    unknown = tuple(_unknown_events(sound, policy, registers))
    told = [_tell(*one, policy, registers) for one in unknown[:MOST_UNKNOWN]]
    findings += told
    if len(unknown) > MOST_UNKNOWN:
        rest = f"{len(unknown) - MOST_UNKNOWN} more"
        findings.append(Finding(reason=Reason.BOOT_EVENT, what="and more", found=rest))
    # (4) The kernel was given a known command line; (3) has refused any other.
    if all(one.reason is not Reason.BOOT_COMMAND_LINE for one in told):
        findings += _judge_command_line(sound, policy, registers)
    return tuple(findings)


def _unknown_events(
    sound: SoundLog, policy: BootPolicy, registers: Collection[int]
) -> Iterator[tuple[int, Event]]:
    """Yield index and event of what the policy does not know; no quote shows other registers."""
    known = {
        one: _known(policy, one) if one in registers else set[bytes]()
        for one in QUOTED_REGISTERS
        if _is_judged(policy, one)
    }
    for index, event in enumerate(sound.log.events):
        is_judged = event.is_measured and event.register in known
        if is_judged and digest_of(event) not in known[event.register]:
            yield index, event


def is_secure(sound: SoundLog) -> bool:
    """Say whether Secure Boot was on when the keys were measured, and nothing says otherwise."""
    is_on = SECURE_BOOT_ON in sound.firmware_digests(SECURE_BOOT_REGISTER)
    return is_on and SECURE_BOOT_OFF.isdisjoint(sound.digests(SECURE_BOOT_REGISTER))


def _is_judged(policy: BootPolicy, register: int) -> bool:
    return register in policy.registers or register not in OPEN_REGISTERS


def _known(policy: BootPolicy, register: int) -> set[bytes]:
    """Return every digest that may extend the register."""
    held = policy.registers.get(register, {}).values()
    return implied_digests(policy, register) | {one for digests in held for one in digests}


def implied_digests(policy: BootPolicy, register: int) -> set[bytes]:
    """Return the digests that may extend the register without a line in the policy's table."""
    known = _command_lines(policy, register)
    if register in BOOT_REGISTERS:
        known.add(SEPARATOR_DIGEST)
    if register == SECURE_BOOT_REGISTER:
        known |= {SECURE_BOOT_ON, *SECURE_BOOT_OFF}
    if register == EXIT_REGISTER:
        known |= {*EXIT_DIGESTS}
    return known


def _command_lines(policy: BootPolicy, register: int) -> set[bytes]:
    lines = policy.command_lines
    return {_sha256(form) for line in lines for form in _forms(line, register)}


def _forms(line: str, register: int) -> tuple[bytes, ...]:
    """Return the bytes that may be measured into a register for a command line.

    8: GRUB, the text. 9: the Linux EFI stub, what the boot loader passed on: with a NUL from
    systemd-stub, without one and with a word more from GRUB. 11: the section `.cmdline`, as it
    was built. 12: systemd's, for a line that was not built in.
    """
    text, wide = line.encode(), line.encode("utf-16-le")
    told = f"BOOT_IMAGE={line}".encode("utf-16-le")
    forms = {
        8: (text,),
        9: (wide, wide + bytes(2), told, told + bytes(2)),
        11: (text, text + b"\n", text + b"\0"),
        12: (wide + bytes(2),),
    }
    return forms.get(register, ())


def _tell(index: int, event: Event, policy: BootPolicy, registers: Collection[int]) -> Finding:
    """Return the finding of an unknown event. Only so many are told: each may be long."""
    if event.register not in registers:
        what = f"event {index} of register {event.register}"
        expected = "none in a register of the measurement list or the attestor"
        return Finding(reason=Reason.BOOT_EVENT, what=what, expected=expected)
    kind, name = kind_of(event), event_label(event)
    held = policy.registers.get(event.register, {}).get(name, ())
    expected = ", ".join(map(sha256_text, held[:MOST_EXPECTED])) or "nothing of that name"
    found = sha256_text(digest_of(event))
    if kind is Kind.COMMAND_LINE:
        line = command_line_of(event)
        name = name if line is None else "command line"
        expected, found = _compare(policy.command_lines, line, found)
    return Finding(
        reason=_REASONS.get(kind, Reason.BOOT_EVENT),
        what=f"{name}, event {index} of register {event.register}",
        expected=expected,
        found=found,
    )


def _compare(allowed: tuple[str, ...], line: str | None, digest: str) -> tuple[str, str]:
    """Return what is expected and found of a command line: the words that differ, if any do."""
    if line is None:
        return label(" | ".join(allowed)), digest
    words = dict.fromkeys(line.split())  # a set in the order of the line
    nearest = min(allowed, key=lambda one: len({*one.split()} ^ words.keys()))
    held = {*nearest.split()}
    missing = [word for word in nearest.split() if word not in words]
    added = [word for word in words if word not in held]
    if not missing and not added:
        return label(nearest), label(line)
    return label(" ".join(missing) or "no more words"), label(" ".join(added) or "no such words")


def _judge_secure_boot(sound: SoundLog, policy: BootPolicy) -> Iterator[Finding]:
    if not policy.secure_boot or is_secure(sound):
        return
    is_measured = not SECURE_BOOT_OFF.isdisjoint(sound.digests(SECURE_BOOT_REGISTER))
    found = "off" if is_measured else "not measured"
    yield Finding(reason=Reason.BOOT_SECURE_BOOT, expected="on", found=found)


def _judge_course(sound: SoundLog) -> Iterator[Finding]:
    """Find what a boot lacks.

    Several separators are none too many: some firmware has two, and other things that are
    measured as four zero bytes have the digest of one.
    """
    for register in BOOT_REGISTERS:
        if SEPARATOR_DIGEST not in sound.digests(register):
            what = f"register {register}"
            yield Finding(reason=Reason.BOOT_SEPARATOR, what=what, expected="a separator")
    started = sound.digests(IMAGE_REGISTER)[len(sound.firmware_digests(IMAGE_REGISTER)) :]
    if not set(started) - {SEPARATOR_DIGEST}:
        what, expected = f"register {IMAGE_REGISTER}", "an image after the separator"
        yield Finding(reason=Reason.BOOT_IMAGE_MISSING, what=what, expected=expected)
    if not {*EXIT_DIGESTS}.issubset(sound.digests(EXIT_REGISTER)):
        what, expected = f"register {EXIT_REGISTER}", EXIT[1].decode()
        yield Finding(reason=Reason.BOOT_EXIT, what=what, expected=expected)


def measured_command_lines(
    sound: SoundLog, policy: BootPolicy, registers: Collection[int]
) -> tuple[str, ...]:
    """Return the policy's command lines of which one of the registers has a digest.

    Whoever opens the TPM later can add one that the policy accepts, so they count together only.
    """
    digests = {register: frozenset(sound.digests(register)) for register in registers}
    return tuple(
        line
        for line in policy.command_lines
        if any(_sha256(form) in held for one, held in digests.items() for form in _forms(line, one))
    )


def _judge_command_line(
    sound: SoundLog, policy: BootPolicy, registers: Collection[int]
) -> Iterator[Finding]:
    if not measured_command_lines(sound, policy, registers):
        expected = label(" | ".join(policy.command_lines)) or "a known one"
        yield Finding(reason=Reason.BOOT_COMMAND_LINE_MISSING, expected=expected)
