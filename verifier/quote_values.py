"""Where the values of quoted registers come from: they are given, or what a log leads to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evidence.event_log import EventLog
from evidence.malformed import naming
from verifier.check_log import check_log
from verifier.event_log import judge_event_log
from verifier.inquiry import CheckedList, Inquiry
from verifier.quote_message import QuotedSelection
from verifier.quoted_registers import (
    BOOT_REGISTERS,
    Register,
    Target,
    Values,
    reset_value,
    text_of,
)
from verifier.reasons import Finding, Reason, reject


@dataclass(frozen=True, slots=True, kw_only=True)
class GatheredValues:
    """Every quoted register has a value, or a list that extends it. Made by `gather_values` only.

    Nobody has proven them: that they are the quoted ones, or lead there, is to be seen.
    """

    target: Target
    list_registers: frozenset[int]
    """Which the measurement list extends, quoted or not."""


def gather_values(inquiry: Inquiry, selection: QuotedSelection) -> GatheredValues:
    """Return the values of the registers; raise Rejected where one is missing, or disputed."""
    files, registers = inquiry.files, selection.registers
    logged = _replay_event_log(inquiry, registers)
    list_registers = _check_list(inquiry)
    settled: dict[Register, bytes] = {**logged, **files.values}
    start: dict[Register, bytes] = {}
    for register in registers:
        if register[1] in list_registers:
            start[register] = logged.get(register, reset_value(register))
            if register not in files.values:
                settled.pop(register, None)
    inquiry.settle(*_judge_list_registers(logged, start))
    inquiry.settle(*_judge_log(registers, logged=logged, settled=settled, start=start))
    lacking = [one for one in registers if one not in start and one not in settled]
    if lacking:
        expected = "--pcr BANK:N=HEX for each, or a log that leads to it"
        raise reject(Reason.QUOTE_VALUE_MISSING, text_of(lacking), expected=expected)
    target = Target(
        registers=registers,
        known=settled,
        start=start,
        algorithm=selection.hash,
        digest=selection.digest,
    )
    return GatheredValues(target=target, list_registers=list_registers)


def _check_list(inquiry: Inquiry) -> frozenset[int]:
    """Judge what can be judged of the list without the quote; return which registers it extends."""
    files = inquiry.files
    if files.ima_log is None:
        return frozenset()
    with naming("measurement list"):
        checked = check_log(files.ima_log, log_hash=files.log_hash)
    inquiry.ima = CheckedList(entries=checked.entries, violations=checked.violations, matched=None)
    inquiry.settle(*checked.findings)
    registers = (register for bank in checked.pcrs.values() for register in bank)
    return frozenset(map(int, registers))


def _replay_event_log(inquiry: Inquiry, registers: Sequence[Register]) -> dict[Register, bytes]:
    """Return the value of every quoted register that the log settles.

    One without an event still has its reset value, in a bank that every event has a digest for.
    """
    if inquiry.files.event_log is None:
        return {}
    with naming("event log"):
        log = EventLog.decode(inquiry.files.event_log)
    judged = judge_event_log(log)
    inquiry.settle(*judged.notes, *judged.refusals)
    extended = {
        (bank, number): value
        for bank, values in judged.registers.items()
        for number, value in values.items()
    }
    told = {number for _, number in extended}
    quoted = {number for bank, number in registers if bank in judged.registers}
    unquoted = sorted(told - quoted)
    if not told & quoted:
        banks = ", ".join(judged.registers) or "no bank"
        expected = f"a register of the log in the quote, in {banks}"
        raise reject(Reason.EVENT_LOG_REPLAY, expected=expected, found=text_of(registers))
    if unquoted:
        found = f"events of {', '.join(map(str, unquoted))}, which nobody vouches for"
        inquiry.settle(
            Finding(reason=Reason.EVENT_LOG_UNQUOTED, expected="in the quote", found=found)
        )
    return {
        one: extended.get(one, reset_value(one)) for one in registers if one[0] in judged.registers
    }


def _judge_list_registers(logged: Values, start: Values) -> Iterator[Finding]:
    """Find that the list extends a register of the boot: its records could hide events."""
    shared = [one for one in start if one in logged and one[1] in BOOT_REGISTERS]
    if shared:
        expected = "no record in a register of the boot's events"
        yield Finding(reason=Reason.LIST_REGISTER, what=text_of(shared), expected=expected)


def _judge_log(
    registers: Sequence[Register], *, logged: Values, settled: Values, start: Values
) -> Iterator[Finding]:
    """Compare given values with the event log's: an operating system extends some further."""
    apart = [
        one
        for one in registers
        if one not in start and one in logged and logged[one] != settled[one]
    ]
    closed = [one for one in apart if one[1] in BOOT_REGISTERS]
    further = [one for one in apart if one not in closed and logged[one] != reset_value(one)]
    if closed:
        yield Finding(
            reason=Reason.EVENT_LOG_REPLAY,
            what=text_of(closed),
            expected=", ".join(settled[one].hex() for one in closed),
            found=", ".join(logged[one].hex() for one in closed),
        )
    if further:
        expected, found = "what the log leads to", "extended after it, so nobody vouches for it"
        reason, what = Reason.EVENT_LOG_UNQUOTED, text_of(further)
        yield Finding(reason=reason, what=what, expected=expected, found=found)
