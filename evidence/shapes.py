"""Messages as frozen dataclasses whose fields, in order, are a CBOR array.

Every message starts with its name and version and has one encoding; there are no optional
fields. A class lists its fields with exact types; this module turns values into arrays and
back, and refuses any array whose members are of other types.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from evidence import cbor
from evidence.malformed import Malformed

MOST_MEMBERS = 1 << 16
"""No array in any message is longer."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A value whose fields are the members of an array."""

    def members(self) -> list[object]:
        """Return the array."""
        names = _names(type(self))  # type: ignore[arg-type]  # a class is hashable
        return [_plain(getattr(self, name)) for name in names]

    @classmethod
    def read(cls, value: object) -> Self:
        """Return the value whose array is `value`; raise Malformed on any other shape."""
        readers = _readers(cls)  # type: ignore[arg-type]  # a class is hashable
        if type(value) is not list or len(value) != len(readers):
            raise Malformed(f"expected {len(readers)} members of {cls.__name__}")
        return cls(**{name: read(one) for (name, read), one in zip(readers, value, strict=True)})


@dataclass(frozen=True, slots=True)
class Message(Shape):
    """A shape that travels or is hashed on its own: its array starts with its TYPE."""

    TYPE: ClassVar[str]

    def encode(self) -> bytes:
        """Return the message's one encoding."""
        return cbor.encode([self.TYPE, *self.members()])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the message in `data`; raise Malformed on anything else."""
        match cbor.decode(data):
            case [cls.TYPE, *members]:
                return cls.read(members)
            case [str(other), *_]:
                raise Malformed(f"expected {cls.TYPE!r}, got {other[:40]!r}")
            case _:
                raise Malformed(f"expected {cls.TYPE!r}")


_Reader = Callable[[object], Any]
"""Returns the value that a member is, or raises Malformed."""


@cache
def _names(cls: type[Shape]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(cls))


@cache
def _readers(cls: type[Shape]) -> tuple[tuple[str, _Reader], ...]:
    """Return name and reader of each field: worked out once, for there can be many values."""
    hints = get_type_hints(cls)
    return tuple((field.name, _reader(hints[field.name], field.name)) for field in fields(cls))


def _plain(value: object) -> object:
    if isinstance(value, Shape):
        return value.members()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def _reader(hint: object, name: str) -> _Reader:
    if get_origin(hint) is tuple:
        (member, *rest) = get_args(hint)
        if rest != [...]:
            raise TypeError(f"{name}: only tuple[X, ...] has a shape")
        return _array_reader(_reader(member, name), name)
    assert isinstance(hint, type)
    return hint.read if issubclass(hint, Shape) else _plain_reader(hint, name)


def _array_reader(read: _Reader, name: str) -> _Reader:
    def read_array(value: object) -> tuple[object, ...]:
        if type(value) is not list or len(value) > MOST_MEMBERS:
            raise Malformed(f"expected an array for {name}")
        return tuple(map(read, value))

    return read_array


def _plain_reader(kind: type, name: str) -> _Reader:
    def read_plain(value: object) -> object:
        if type(value) is not kind:
            raise Malformed(f"expected {name} to be {kind}, got {type(value).__name__}")
        if kind is int and value < 0:  # type: ignore[operator]  # an int, as has been seen
            raise Malformed(f"expected {name} to be no less than 0")
        return value

    return read_plain


__all__ = ["Message", "Shape"]
