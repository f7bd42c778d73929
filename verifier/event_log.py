"""Boot event logs by themselves: which registers they lead to, and which of their data hold.

Nobody vouches for a log but a quote of the registers that it leads to. And even then only the
digests are vouched for: types, descriptions and data are whoever wrote the file's, unless a
digest covers them, which it does for some types of events and not for others (TCG PC Client
Platform Firmware Profile 1.05, section 10.4.1). Real firmware breaks the rules in ways that are
known; those are findings, and what they touch is not used.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from evidence import Malformed
from evidence.event_log import (
    ACTION,
    ALGORITHMS,
    EFI_ACTION,
    EFI_EVENTS,
    EFI_GPT_EVENT,
    EFI_HCRTM_EVENT,
    EFI_VARIABLE_AUTHORITY,
    EFI_VARIABLE_BOOT2,
    EFI_VARIABLE_DRIVER_CONFIG,
    EVENT_TAG,
    S_CRTM_VERSION,
    SEPARATOR,
    Event,
    EventLog,
    Variable,
)
from verifier.reasons import MOST_FINDINGS, Finding, Reason, capped, label

BOOT_REGISTERS = range(8)
"""Registers of the firmware, each of which a separator ends."""
CLOSED_REGISTERS = (0, 1, 2, 3, 6)
"""Those of them that nothing should extend after the separator. Registers 4 and 5 tell of what
is booted, register 7 of the keys that let it."""
DYNAMIC_REGISTERS = range(17, 23)
"""Reset by a dynamic launch: the log does not say what they started from."""
SECURE_BOOT_REGISTER = 7
CONFIDENTIAL_SECURE_BOOT_REGISTER = 1
"""UEFI 2.10, section 38: measurement register 1 stands for registers 1 and 7."""

GLOBAL_VARIABLE = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")
"""EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c."""

STARTUP_LOCALITY = b"StartupLocality\0"
STARTUP_LOCALITIES = (b"\0", b"\3", b"\4")
HCRTM_LOCALITY = b"\4"
"""An H-CRTM sequence leaves register 0 as if it had been started from here."""

COVERED = frozenset(
    {EFI_VARIABLE_DRIVER_CONFIG, EFI_VARIABLE_BOOT2, EFI_GPT_EVENT, EFI_ACTION, SEPARATOR}
)
"""The digest is that of the data, and no log of real firmware has been seen to differ."""
COVERED_BY_SPECIFICATION = frozenset({ACTION, EVENT_TAG, S_CRTM_VERSION, EFI_VARIABLE_AUTHORITY})
"""The digest should be that of the data, and real logs differ: in OpenPOWER's actions, Linux'
tags of load options and initrd (the tagged thing alone is hashed), the authorities of old shims,
the version of one server."""

SEPARATOR_VALUES = (bytes(4), b"\xff\xff\xff\xff", b"\1\0\0\0", b"\0\0\0\1")
"""What a separator's digest may be of while its data are words for people: after an error, or
on OpenPOWER."""

EXIT = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")

HASHES = {
    algorithm: {"sm3_256": "sm3"}.get(name, name) for algorithm, (name, _) in ALGORITHMS.items()
}
"""Name in `hashlib`, by TPM_ALG_ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedLog:
    """What a log leads to. Made by `judge_event_log` only; no quote has been seen yet."""

    events: int
    registers: Mapping[str, Mapping[int, bytes]]
    """Final value of every register that was extended, for each bank that all events have."""
    secure_boot: bool | None
    """None where the log does not say, or not in a way that its digests bear out."""
    refusals: tuple[Finding, ...]
    """Why the log cannot be what firmware wrote."""
    notes: tuple[Finding, ...]
    """What a policy may want to know."""


def judge_event_log(log: EventLog) -> JudgedLog:
    """Return what the log leads to and what is wrong with it, which may be anything."""
    # (1) Something was measured: a log without events would vouch for nothing.
    refusals = _judge_emptiness(log)
    # (2) Register 0 starts from the locality of TPM2_Startup, or of the H-CRTM.
    locality, wrong_locality = _startup_locality(log)
    # (3) A bank counts only if every event has a digest for it.
    banks, wrong_banks = _whole_banks(log)
    if not banks:
        expected = "a known one that every event has a digest for"
        refusals.append(Finding(reason=Reason.EVENT_LOG_NO_BANK, expected=expected))
    # (4) Data that a digest covers are the data that were measured.
    mismatches, unclear = _judge_data(log)
    refusals += [*wrong_locality, *mismatches]
    # (5) What firmware does once, in its order.
    secure_boot, wrong_secure_boot = _secure_boot(log)
    notes = chain(wrong_banks, unclear, wrong_secure_boot, _judge_order(log))
    return JudgedLog(
        events=len(log.events),
        registers={ALGORITHMS[one][0]: _replay(log, one, locality) for one in banks},
        secure_boot=None if refusals else secure_boot,
        refusals=capped(refusals),
        notes=capped(notes),
    )


def _judge_emptiness(log: EventLog) -> list[Finding]:
    if any(_is_replayed(event) for event in log.events):
        return []
    return [Finding(reason=Reason.EVENT_LOG_EMPTY, expected="an event that extends a register")]


def _is_replayed(event: Event) -> bool:
    return event.is_measured and event.register not in DYNAMIC_REGISTERS


def _startup_locality(log: EventLog) -> tuple[int, list[Finding]]:
    """Return what register 0 starts with, 0 where the log is wrong about it."""
    claims = tuple(_locality_claims(log))
    kinds = Counter(event.type for _, event, _ in claims)
    told = {_claimed_locality(event) for _, event, _ in claims} or {b"\0"}
    is_in_place = all(is_in_place for _, _, is_in_place in claims)
    if is_in_place and max(kinds.values(), default=1) == 1 and len(told) == 1:
        (locality,) = told
        if locality in STARTUP_LOCALITIES:
            return locality[0], []
    finding = Finding(
        reason=Reason.EVENT_LOG_LOCALITY,
        what=", ".join(f"event {index}" for index, _, _ in claims[:8]),
        expected="0, 3 or 4, once, in register 0, before any other event of it",
        found=", ".join(sorted(one[:8].hex() for one in told)[:8]),
    )
    return 0, [finding]


def _locality_claims(log: EventLog) -> Iterator[tuple[int, Event, bool]]:
    """Yield index and event of each claim, and whether it comes where it may."""
    is_extended = False
    for index, event in enumerate(log.events):
        is_startup = not event.is_measured and event.data.startswith(STARTUP_LOCALITY)
        if is_startup or event.type == EFI_HCRTM_EVENT:
            yield index, event, event.register == 0 and not is_extended
        is_extended |= event.is_measured and event.register == 0


def _claimed_locality(event: Event) -> bytes:
    return HCRTM_LOCALITY if event.is_measured else event.data[len(STARTUP_LOCALITY) :]


def _whole_banks(log: EventLog) -> tuple[list[int], list[Finding]]:
    whole: list[int] = []
    findings = []
    for algorithm in log.algorithms:
        name, _ = ALGORITHMS.get(algorithm, (f"{algorithm:#06x}", 0))
        lacking = _first_event_without(log, algorithm)
        if HASHES.get(algorithm) not in hashlib.algorithms_available:
            findings.append(Finding(reason=Reason.EVENT_LOG_BANK_UNKNOWN, what=name))
        elif lacking is not None:
            finding = Finding(
                reason=Reason.EVENT_LOG_BANK_INCOMPLETE,
                what=name,
                expected="a digest in every event",
                found=f"none in event {lacking}",
            )
            findings.append(finding)
        else:
            whole.append(algorithm)
    return whole, findings


def _first_event_without(log: EventLog, algorithm: int) -> int | None:
    indices = (
        index
        for index, event in enumerate(log.events)
        if event.is_measured and algorithm not in dict(event.digests)
    )
    return next(indices, None)


def _replay(log: EventLog, algorithm: int, locality: int) -> dict[int, bytes]:
    """Return the final value of every register that the events extend, but the dynamic ones."""
    _, size = ALGORITHMS[algorithm]
    values: dict[int, bytes] = {}
    for event in log.events:
        if not _is_replayed(event):
            continue
        start = (locality if event.register == 0 else 0).to_bytes(size, "big")
        value = values.get(event.register, start)
        values[event.register] = _hash(algorithm, value + dict(event.digests)[algorithm])
    return dict(sorted(values.items()))


def _hash(algorithm: int, data: bytes) -> bytes:
    return hashlib.new(HASHES[algorithm], data, usedforsecurity=False).digest()


def is_digest_of(event: Event, data: bytes) -> bool:
    """Say whether all digests of the event that can be computed are of `data`, and there is one."""
    known = [
        (algorithm, digest)
        for algorithm, digest in event.digests
        if HASHES.get(algorithm) in hashlib.algorithms_available
    ]
    return bool(known) and all(_hash(algorithm, data) == digest for algorithm, digest in known)


def _judge_data(log: EventLog) -> tuple[list[Finding], list[Finding]]:
    """Return the events whose data are not what was measured, and those that may have a reason."""
    refusals: list[Finding] = []
    notes: list[Finding] = []
    is_uefi = any(event.type >= EFI_EVENTS for event in log.events)
    for index, event in enumerate(log.events):
        if len(refusals) > MOST_FINDINGS:
            break  # it is refused, whatever else it holds
        if event.type not in COVERED | COVERED_BY_SPECIFICATION:
            continue
        if is_digest_of(event, event.data):
            continue
        what = f"event {index}, type {event.type:#x}, register {event.register}"
        if _has_known_excuse(event, is_uefi=is_uefi):
            notes.append(Finding(reason=Reason.EVENT_LOG_DATA, what=what))
        else:
            expected = "the digest of its data"
            refusals.append(Finding(reason=Reason.EVENT_LOG_DIGEST, what=what, expected=expected))
    return refusals, notes


def _has_known_excuse(event: Event, *, is_uefi: bool) -> bool:
    if event.type == SEPARATOR:
        is_text = all(len(event.data) != len(value) for value in SEPARATOR_VALUES)
        return is_text and any(is_digest_of(event, value) for value in SEPARATOR_VALUES)
    if event.type == ACTION:
        return not is_uefi
    if event.type == EFI_VARIABLE_AUTHORITY:
        return read_variable(event) is None  # old shims log six bytes too many
    return event.type in COVERED_BY_SPECIFICATION


def read_variable(event: Event) -> Variable | None:
    """Return the UEFI variable that the event's data are, whatever its digest is of."""
    try:
        return Variable.decode(event.data)
    except Malformed:
        return None


def _is_confidential(log: EventLog) -> bool:
    return log.spec is not None and log.spec.is_confidential


def _secure_boot(log: EventLog) -> tuple[bool | None, list[Finding]]:
    """Return whether Secure Boot was on, as firmware said before the register's separator.

    Types are not measured, and whoever opens the TPM later may extend the register with any
    digest: so a separator is one by its digest too, and a variable that says off counts
    wherever it stands, whatever type the log gives it.
    """
    register = SECURE_BOOT_REGISTER
    if _is_confidential(log):
        register = CONFIDENTIAL_SECURE_BOOT_REGISTER
    values = set(_secure_boot_values(log, register))
    if values and any(
        one.register == register and _has_one_of(one, _SECURE_BOOT_OFF) for one in log.events
    ):
        values -= {b""}
        values.add(b"\0")
    if not values:
        return None, []
    if values <= {b"", b"\0"}:
        return False, []  # firmware without Secure Boot measures the variable as empty
    if values == {b"\1"}:
        return True, []
    found = ", ".join(sorted(label(value.hex()) or "empty" for value in values))
    finding = Finding(
        reason=Reason.EVENT_LOG_SECURE_BOOT, what="SecureBoot", expected="00 or 01", found=found
    )
    return None, [finding]


def _secure_boot_values(log: EventLog, register: int) -> Iterator[bytes]:
    for event in log.events:
        if event.register == register and (
            event.type == SEPARATOR or _has_one_of(event, _SEPARATORS)
        ):
            return
        if (event.register, event.type) != (register, EFI_VARIABLE_DRIVER_CONFIG):
            continue
        variable = read_variable(event)
        if variable is None or (variable.vendor, variable.name) != (GLOBAL_VARIABLE, "SecureBoot"):
            continue
        if is_digest_of(event, event.data):
            yield variable.value


def _every_digest(*data: bytes) -> frozenset[tuple[int, bytes]]:
    """Return all digests that events of one of these data may have, as `Event.digests` has them."""
    return frozenset(
        (algorithm, _hash(algorithm, one))
        for algorithm, name in HASHES.items()
        if name in hashlib.algorithms_available
        for one in data
    )


_SEPARATORS = _every_digest(*SEPARATOR_VALUES)
_SECURE_BOOT_OFF = _every_digest(
    *(
        Variable(vendor=GLOBAL_VARIABLE, name="SecureBoot", value=value).encode()
        for value in (b"", b"\0")
    )
)


def _has_one_of(event: Event, digests: frozenset[tuple[int, bytes]]) -> bool:
    """Say whether one of an event's digests is among these: a quote may prove only that one."""
    return event.is_measured and not digests.isdisjoint(event.digests)


def _judge_order(log: EventLog) -> Iterator[Finding]:
    dynamic = {one.register for one in log.events if one.is_measured} & {*DYNAMIC_REGISTERS}
    if dynamic:
        yield Finding(reason=Reason.EVENT_LOG_DYNAMIC, what=_registers(dynamic))
    yield from _judge_separators(log)
    actions = {one.data for one in log.events if one.type == EFI_ACTION}
    if any(one.type >= EFI_EVENTS for one in log.events) and not actions.issuperset(EXIT):
        yield Finding(reason=Reason.EVENT_LOG_EXIT, expected=EXIT[1].decode())


def _judge_separators(log: EventLog) -> Iterator[Finding]:
    counted = Counter(one.register for one in log.events if one.type == SEPARATOR)
    boot = set(BOOT_REGISTERS)
    again = {register for register in boot if counted[register] > 1}
    if again:
        yield Finding(reason=Reason.EVENT_LOG_SEPARATOR_AGAIN, what=_registers(again))
    for index, event in enumerate(log.events):
        is_separator = event.type == SEPARATOR and event.register in boot
        if is_separator and not is_digest_of(event, bytes(4)):
            yield Finding(
                reason=Reason.EVENT_LOG_SEPARATOR_VALUE,
                what=f"event {index}, register {event.register}",
                expected=bytes(4).hex(),
                found=event.data[:16].hex(),
            )
    if _is_confidential(log):
        return  # one measurement register stands for several registers, each with its separator
    missing = boot - set(counted)
    if missing:
        yield Finding(reason=Reason.EVENT_LOG_SEPARATOR_MISSING, what=_registers(missing))
    yield from _judge_late_events(log)


def _judge_late_events(log: EventLog) -> Iterator[Finding]:
    late: dict[int, list[int]] = {}
    ended: set[int] = set()
    for index, event in enumerate(log.events):
        if event.type == SEPARATOR:
            ended.add(event.register)
        elif event.is_measured and event.register in ended.intersection(CLOSED_REGISTERS):
            late.setdefault(event.register, []).append(index)
    for register, indices in sorted(late.items()):
        found = f"{len(indices)} after it, from event {indices[0]} on"
        yield Finding(reason=Reason.EVENT_LOG_LATE, what=f"register {register}", found=found)


def _registers(registers: Iterable[int]) -> str:
    return f"register {', '.join(map(str, sorted(registers)))}"
