"""Boot event logs, as `check-eventlog` reads and judges them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from benchmarks.refusing import Group
from evidence.event_log import (
    EFI_ACTION,
    EFI_VARIABLE_DRIVER_CONFIG,
    MOST_EVENTS,
    NO_ACTION,
    SEPARATOR,
    Event,
    EventLog,
    SpecId,
    Variable,
)
from verifier.event_log import GLOBAL_VARIABLE, STARTUP_LOCALITY, judge_event_log

Make = Callable[[int], Event]

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


def _good(number: int) -> Event:
    return _event(1, EFI_VARIABLE_DRIVER_CONFIG, _variable(number))


def _wrong_data(number: int) -> Event:
    return _event(1, EFI_VARIABLE_DRIVER_CONFIG, _variable(number), of=b"other")


def _short_action(_number: int) -> Event:
    return _event(4, EFI_ACTION, b"", of=b"other")


def _separator(_number: int) -> Event:
    return _event(4, SEPARATOR, b"none", of=b"other")


def _locality(_number: int) -> Event:
    return _event(0, NO_ACTION, STARTUP_LOCALITY + b"\3")


def _secure_boot(number: int) -> Event:
    variable = Variable(vendor=GLOBAL_VARIABLE, name="SecureBoot", value=b"%d" % number)
    return _event(7, EFI_VARIABLE_DRIVER_CONFIG, variable.encode(), of=b"other")


def judged(size: int) -> Group:
    """Return logs of so many events."""
    good = [_good(one) for one in range(size)]
    data = _encode(good)
    room = len(data)
    bad = {
        "the data of every event wrong": _encode([_wrong_data(one) for one in range(size)]),
        "short events, their data wrong": _encode(_as_many_as_fit(_short_action, room)),
        "separators that are none": _encode(_as_many_as_fit(_separator, room)),
        "a startup locality in every event": _encode(_as_many_as_fit(_locality, room)),
        "Secure Boot in every event, and never measured": _encode(
            _as_many_as_fit(_secure_boot, room)
        ),
        "the data of the last event wrong": _encode([*good[:-1], _wrong_data(size)]),
        "no bank that every event has": _encode(
            [replace(good[0], digests=good[0].digests[:1]), *good[1:-1],
             replace(good[-1], digests=good[-1].digests[1:])]
        ),
        "cut by one byte": data[:-1],
        "a byte too many": data[:-4] + b"\1\0\0\0" + b"\1",
        "the last register unknown": _encode([*good[:-1], replace(good[-1], register=24)]),
        "an undeclared algorithm at the end": _encode(
            [*good[:-1], replace(good[-1], digests=((0xC, bytes(20)), *good[-1].digests[1:]))]
        ),
        "no event, and padding": _encode([]) + b"\xff" * (room - len(_encode([]))),
        "four billion digests": data[:-180] + b"\xff" * 180,
    }  # fmt: skip
    return Group(
        name=f"boot event log of {size} events",
        accept=partial(_is_believable, data),
        refuse={name: partial(_is_believable, one) for name, one in bad.items()},
    )


def _encode(events: list[Event]) -> bytes:
    return EventLog(spec=SPEC, events=tuple(events)).encode()


def _as_many_as_fit(make: Make, room: int) -> list[Event]:
    one = len(_encode([make(0)])) - len(_encode([]))
    return [make(number) for number in range(min(room // one - 1, MOST_EVENTS))]


def _is_believable(data: bytes) -> bool:
    return not judge_event_log(EventLog.decode(data)).refusals
