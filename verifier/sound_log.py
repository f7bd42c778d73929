"""A boot's event log that a TPM's firmware has written: digests, in their order, by register."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

from evidence.event_log import ALG_SHA256, Event, EventLog, Variable
from verifier.event_log import EXIT, GLOBAL_VARIABLE, SECURE_BOOT_REGISTER, judge_event_log
from verifier.reasons import Reason, Rejected, reject

BANK = "sha256"
"""Of every quote."""


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


def digest_of(event: Event) -> bytes:
    """Return the digest that a sound log's event extends its register with."""
    return dict(event.digests)[ALG_SHA256]


def is_secure(sound: SoundLog) -> bool:
    """Say whether Secure Boot was on when the keys were measured, and nothing says otherwise."""
    is_on = SECURE_BOOT_ON in sound.firmware_digests(SECURE_BOOT_REGISTER)
    return is_on and SECURE_BOOT_OFF.isdisjoint(sound.digests(SECURE_BOOT_REGISTER))
