"""Reading JSON objects member by member: exactly the members expected, each of its exact type."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Never, Self

from credential.reasons import Malformed, Reason

MOST_NUMBER = 253_402_214_400
"""The last midnight of year 9999: what a time may be, and more than any count is. What is added to
one, a lifetime or the difference of two clocks, still makes a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The members of one JSON object; each reader returns a value or raises Malformed."""

    values: Mapping[str, object]
    reason: Reason
    """What Malformed says."""

    @classmethod
    def parse(cls, data: bytes | str, reason: Reason) -> Self:
        """Return the object that `data` is, no member twice, no number but whole ones."""
        try:
            text = data.decode() if isinstance(data, bytes) else data
            value = json.loads(
                text,
                object_pairs_hook=_without_duplicates,
                parse_float=_no_number,
                parse_constant=_no_number,
            )
        except (ValueError, RecursionError) as error:
            raise Malformed(reason, f"not JSON: {type(error).__name__}") from error
        return cls.of(value, reason)

    @classmethod
    def of(cls, value: object, reason: Reason) -> Self:
        """Return the members of `value`, which must be an object."""
        if not isinstance(value, dict):
            raise Malformed(reason, "expected a JSON object")
        return cls(values=value, reason=reason)

    def exactly(self, names: Collection[str]) -> Self:
        """Return self if it has these members, no fewer and no others."""
        if set(self.values) != set(names):
            odd = ", ".join(sorted(set(self.values) ^ set(names)))
            raise Malformed(self.reason, f"members missing or unknown: {odd[:200]!a}")
        return self

    def text(self, name: str, pattern: str) -> str:
        """Return a string, all of which matches `pattern`."""
        return self._matching(self.values.get(name), name, pattern)

    def texts(self, name: str, pattern: str, *, most: int) -> tuple[str, ...]:
        """Return an array of at most `most` strings that match `pattern`."""
        found = self.array(name, most=most)
        return tuple(self._matching(one, name, pattern) for one in found)

    def array(self, name: str, *, most: int) -> list[object]:
        """Return an array of at most `most` values."""
        found = self.values.get(name)
        if not isinstance(found, list) or len(found) > most:
            raise Malformed(self.reason, f"expected {name} to be an array of at most {most}")
        return found

    def number(self, name: str) -> int:
        """Return a whole number from 0 to MOST_NUMBER."""
        found = self.values.get(name)
        if type(found) is not int or not 0 <= found <= MOST_NUMBER:
            raise Malformed(self.reason, f"expected {name} to be a whole number, not negative")
        return found

    def time(self, name: str) -> datetime:
        """Return a NumericDate of whole seconds (RFC 7519, section 2)."""
        return datetime.fromtimestamp(self.number(name), UTC)

    def map(self, name: str, value: str, *, most: int) -> Mapping[str, str]:
        """Return the members, at most `most`: names match `name` and strings match `value`."""
        if len(self.values) > most:
            raise Malformed(self.reason, f"expected at most {most} members")
        return {
            self._matching(key, "a name", name): self._matching(found, key, value)
            for key, found in self.values.items()
        }

    def child(self, name: str) -> Self:
        """Return the members of an object that is a member."""
        return self.of(self.values.get(name), self.reason)

    def _matching(self, found: object, name: str, pattern: str) -> str:
        if not isinstance(found, str) or not re.fullmatch(pattern, found):
            raise Malformed(self.reason, f"expected {name} to match {pattern}")
        return found


def numeric_date(time: datetime) -> int:
    """Return `time`, which must know its time zone, in whole Unix seconds, rounded down."""
    if time.tzinfo is None:
        raise ValueError("expected a time with a time zone")
    return int(time.timestamp())


def to_json(value: object) -> bytes:
    """Return `value` as JSON without spaces, members in the order given."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member twice")
    return found


def _no_number(_text: str) -> Never:
    raise ValueError("a number that is not whole")
