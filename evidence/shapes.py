"""Messages as frozen dataclasses whose fields, in order, are a CBOR array.

Every message starts with its name and version and has one encoding; there are no optional
fields. A class lists its fields with exact types; this module turns values into arrays and
back, and refuses any array whose members are of other types.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import ClassVar, Self, get_args, get_origin, get_type_hints

from evidence import cbor
from evidence.malformed import Malformed

MOST_MEMBERS = 1 << 16
"""No array in any message is longer."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A value whose fields are the members of an array."""

    def members(self) -> list[object]:
        """Return the array."""
        return [_plain(getattr(self, field.name)) for field in fields(self)]

    @classmethod
    def read(cls, value: object) -> Self:
        """Return the value whose array is `value`; raise Malformed on any other shape."""
        hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
        if not isinstance(value, list) or len(value) != len(hints):
            raise Malformed(f"expected {len(hints)} members of {cls.__name__}")
        members = zip(hints.items(), value, strict=True)
        return cls(**{name: _read(hint, member, name) for (name, hint), member in members})


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


@cache
def _hints(cls: type[Shape]) -> dict[str, object]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _plain(value: object) -> object:
    if isinstance(value, Shape):
        return value.members()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value


def _read(hint: object, value: object, name: str) -> object:
    if get_origin(hint) is tuple:
        (member, *rest) = get_args(hint)
        if rest != [...]:
            raise TypeError(f"{name}: only tuple[X, ...] has a shape")
        if not isinstance(value, list) or len(value) > MOST_MEMBERS:
            raise Malformed(f"expected an array for {name}")
        return tuple(_read(member, one, name) for one in value)
    if isinstance(hint, type) and issubclass(hint, Shape):
        return hint.read(value)
    if type(value) is not hint:
        raise Malformed(f"expected {name} to be {hint}, got {type(value).__name__}")
    if type(value) is int and value < 0:
        raise Malformed(f"expected {name} to be no less than 0")
    return value


__all__ = ["Message", "Shape"]
