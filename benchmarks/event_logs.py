"""Boot event logs, as `check-eventlog` reads and judges them."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from benchmarks.refusing import Group
from evidence.event_log import (
    EFI_ACTION,
    EFI_VARIABLE_DRIVER_CONFIG,
    NO_ACTION,
    SEPARATOR,
    Event,
    EventLog,
    SpecId,
    Variable,
)
from verifier.event_log import GLOBAL_VARIABLE, STARTUP_LOCALITY, judge_event_log

Make = Callable[[int, bytes | None], Event]
"""Makes an event of a number; its digests are of the data, or of other bytes."""

SHA1, SHA256 = 0x4, 0xB
SPEC = SpecId(
    register=0,
    digest=bytes(20),
    platform_class=0,
    minor=0,
    major=2,
    errata=0,
    pointer_size=2,
    algorithms=((SHA1, 20), (SHA256, 32)),
    vendor=b"",
)


def _event(register: int, type_: int, data: bytes, *, of: bytes | None = None) -> Event:
    measured = data if of is None else of
    digests = (
        (SHA1, hashlib.sha1(measured).digest()),  # noqa: S324 - firmware's
        (SHA256, hashlib.sha256(measured).digest()),
    )
    return Event(register=register, type=type_, digests=digests, data=data)


def _variable(number: int, value: bytes = bytes(40)) -> bytes:
    return Variable(vendor=GLOBAL_VARIABLE, name=f"Boot{number:04}", value=value).encode()


def _variables(number: int, of: bytes | None) -> Event:
    return _event(1, EFI_VARIABLE_DRIVER_CONFIG, _variable(number), of=of)


def _short_actions(_number: int, of: bytes | None) -> Event:
    return _event(4, EFI_ACTION, b"", of=of)


def _separators(_number: int, of: bytes | None) -> Event:
    return _event(4, SEPARATOR, bytes(4) if of is None else b"none!", of=of)


def _secure_boot(number: int, of: bytes | None) -> Event:
    variable = Variable(vendor=GLOBAL_VARIABLE, name="SecureBoot", value=b"%d" % (number % 10))
    return _event(7, EFI_VARIABLE_DRIVER_CONFIG, variable.encode(), of=of)


SHAPES: dict[str, Make] = {
    "variables": _variables,
    "short actions": _short_actions,
    "separators": _separators,
    "SecureBoot": _secure_boot,
}
"""Events whose digest covers their data, or is of something else."""


def judged(size: int) -> Iterator[Group]:
    """Yield logs of so many events, of each shape."""
    for shape, make in SHAPES.items():
        good = [make(one, None) for one in range(size)]
        bad = {
            "the data of every event wrong": [make(one, b"other") for one in range(size)],
            "the data of the last event wrong": [*good[:-1], make(size, b"other")],
        }
        logs = {name: _encode(events) for name, events in bad.items()}
        if shape == "variables":
            logs |= _broken(good)
        yield Group(
            name=f"boot event log of {size} events, {shape}",
            accept=partial(_is_believable, _encode(good)),
            refuse={name: partial(_is_believable, log) for name, log in logs.items()},
        )


def _broken(good: list[Event]) -> dict[str, bytes]:
    """Return what firmware does not write."""
    data = _encode(good)
    first, *others, last = good
    locality = _event(0, NO_ACTION, STARTUP_LOCALITY + b"\3")
    undeclared = replace(last, digests=((0xC, bytes(20)), *last.digests[1:]))
    return {
        "a startup locality in every event": _encode([locality] * len(good)),
        "no bank that every event has": _encode(
            [
                replace(first, digests=first.digests[:1]),
                *others,
                replace(last, digests=last.digests[1:]),
            ]
        ),
        "cut by one byte": data[:-1],
        "a byte too many": data[:-4] + b"\1\0\0\0" + b"\1",
        "the last register unknown": _encode([*good[:-1], replace(last, register=24)]),
        "an undeclared algorithm at the end": _encode([*good[:-1], undeclared]),
        "no event, and padding": _encode([]) + b"\xff" * (len(data) - len(_encode([]))),
        "four billion digests": data[: -len(_encode([last])) + len(_encode([])) + 8] + b"\xff" * 60,
    }


def _encode(events: list[Event]) -> bytes:
    return EventLog(spec=SPEC, events=tuple(events)).encode()


def _is_believable(data: bytes) -> bool:
    return not judge_event_log(EventLog.decode(data)).refusals
