"""Whether a boot is as a policy allows: a closed world of digests for each register.

What an event is called serves to name it in a refusal; its digest decides.
"""

from collections.abc import Collection, Iterator

from evidence.event_log import Event
from evidence.messages import QUOTED_REGISTERS
from verifier.boot_command_lines import (
    command_line_digests,
    compare_words,
    measured_command_lines,
)
from verifier.boot_events import Kind, command_line_of, event_label, kind_of
from verifier.boot_policy import JUDGEABLE_REGISTERS
from verifier.event_log import BOOT_REGISTERS, EXIT, SECURE_BOOT_REGISTER
from verifier.policy import BootPolicy
from verifier.reasons import Finding, Reason, label, sha256_text
from verifier.sound_log import (
    EXIT_DIGESTS,
    SECURE_BOOT_OFF,
    SECURE_BOOT_ON,
    SEPARATOR_DIGEST,
    SoundLog,
    digest_of,
    is_secure,
)

IMAGE_REGISTER = 4
EXIT_REGISTER = 5
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
    unknown = tuple(_judge_events(sound, policy, registers))
    findings += unknown
    # (4) The kernel was given a known command line; (3) has refused any other.
    if all(one.reason is not Reason.BOOT_COMMAND_LINE for one in unknown):
        findings += _judge_command_line(sound, policy, registers)
    return tuple(findings)


def implied_digests(policy: BootPolicy, register: int) -> set[bytes]:
    """Return the digests that may extend the register without a line in the policy's table."""
    known = {*command_line_digests(policy, register)}
    if register in BOOT_REGISTERS:
        known.add(SEPARATOR_DIGEST)
    if register == SECURE_BOOT_REGISTER:
        known |= {SECURE_BOOT_ON, *SECURE_BOOT_OFF}
    if register == EXIT_REGISTER:
        known |= {*EXIT_DIGESTS}
    return known


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


def _judge_events(
    sound: SoundLog, policy: BootPolicy, registers: Collection[int]
) -> Iterator[Finding]:
    unknown = tuple(_unknown_events(sound, policy, registers))
    for index, event in unknown[:MOST_UNKNOWN]:
        yield _tell(index, event, policy, registers)
    if len(unknown) > MOST_UNKNOWN:
        rest = f"{len(unknown) - MOST_UNKNOWN} more"
        yield Finding(reason=Reason.BOOT_EVENT, what="and more", found=rest)


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


def _is_judged(policy: BootPolicy, register: int) -> bool:
    return register in policy.registers or register not in OPEN_REGISTERS


def _known(policy: BootPolicy, register: int) -> set[bytes]:
    """Return every digest that may extend the register."""
    held = policy.registers.get(register, {}).values()
    return implied_digests(policy, register) | {one for digests in held for one in digests}


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
        expected, found = compare_words(policy.command_lines, line, found)
    return Finding(
        reason=_REASONS.get(kind, Reason.BOOT_EVENT),
        what=f"{name}, event {index} of register {event.register}",
        expected=expected,
        found=found,
    )


def _judge_command_line(
    sound: SoundLog, policy: BootPolicy, registers: Collection[int]
) -> Iterator[Finding]:
    if not measured_command_lines(sound, policy, registers):
        expected = label(" | ".join(policy.command_lines)) or "a known one"
        yield Finding(reason=Reason.BOOT_COMMAND_LINE_MISSING, expected=expected)
