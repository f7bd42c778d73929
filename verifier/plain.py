"""Frozen dataclasses as CBOR arrays and back, for what is stored and exported.

A dataclass is the array of its fields in order, a tuple an array, `X | None` an array of no or
one member, a time its whole Unix seconds. What travels has classes of its own
(`evidence.shapes`); this serves the values of the deciding part, which know nothing of bytes.
"""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from types import NoneType, UnionType
from typing import TypeVar, cast, get_args, get_origin, get_type_hints

from evidence import Malformed, cbor

T = TypeVar("T")

LAST_SECOND = 253_402_300_800
"""The end of year 9999, Unix seconds."""


def encode(kind: type[T], value: T) -> bytes:
    """Return the one encoding of `value`, which is a `kind`."""
    return cbor.encode(pack(kind, value))


def decode(kind: type[T], data: bytes) -> T:
    """Return the value in `data`; raise Malformed on anything that is no `kind`."""
    return cast("T", unpack(kind, cbor.decode(data)))


def pack(kind: object, value: object) -> object:
    """Return `value` made of None, bool, int, str, bytes and lists."""
    if get_origin(kind) is UnionType:
        return [] if value is None else [pack(_other(kind), value)]
    if isinstance(value, tuple):
        return [pack(*pair) for pair in zip(_members(kind, len(value)), value, strict=True)]
    if is_dataclass(value):
        assert isinstance(kind, type)
        return [pack(hint, getattr(value, name)) for name, hint in _fields(kind)]
    return int(value.timestamp()) if isinstance(value, datetime) else value


def unpack(kind: object, value: object) -> object:
    """Return the `kind` that was packed into `value`."""
    if get_origin(kind) is UnionType:
        (one,) = _list(value, kind, 1) or [None]
        return None if one is None else unpack(_other(kind), one)
    if get_origin(kind) is tuple:
        items = _list(value, kind)
        return tuple(unpack(*pair) for pair in zip(_members(kind, len(items)), items, strict=True))
    assert isinstance(kind, type)
    if is_dataclass(kind):
        hints = _fields(kind)
        items = _list(value, kind)
        if len(items) != len(hints):
            raise Malformed(f"expected {len(hints)} members of {kind.__name__}")
        pairs = zip(hints, items, strict=True)
        return kind(**{name: unpack(hint, item) for (name, hint), item in pairs})
    if kind is datetime:
        return _time(cast("int", unpack(int, value)))
    if type(value) is not kind:
        raise Malformed(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


@cache
def _fields(kind: type) -> list[tuple[str, object]]:
    hints = get_type_hints(kind)
    return [(field.name, hints[field.name]) for field in fields(kind) if field.init]


def _other(kind: object) -> object:
    (other,) = (one for one in get_args(kind) if one is not NoneType)
    return other


def _members(kind: object, count: int) -> tuple[object, ...]:
    first, *rest = get_args(kind)
    if rest == [...]:
        return (first,) * count
    if count != 1 + len(rest):
        raise Malformed(f"expected {1 + len(rest)} members, got {count}")
    return (first, *rest)


def _list(value: object, kind: object, most: int | None = None) -> list[object]:
    if not isinstance(value, list) or (most is not None and len(value) > most):
        raise Malformed(f"expected an array for {kind}")
    return value


def _time(seconds: int) -> datetime:
    if not 0 <= seconds < LAST_SECOND:
        raise Malformed(f"expected a time up to year 9999, got {seconds}")
    return datetime.fromtimestamp(seconds, UTC)
