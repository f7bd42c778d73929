"""Reading a TOML table of which every key is known and every value has a form."""

import re
import tomllib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from verifier.reasons import Reason, Rejected, label, reject

DURATION = re.compile(r"([1-9][0-9]{0,5})([smh])")
MOST_TEXT_CHARACTERS = 4096
"""Of one value."""
MOST_DOTS = 16
"""Of a line, texts and comments left out: a key with so many parts is none of ours, and what the
TOML library does with one grows with the square of them."""

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1)}
_TEXTS = re.compile(
    r"""
    "{3} (?: [^"\\]+ | \\. | "{1,2}(?!") )* (?: "{3,5} | \\?\Z )
    | '{3} (?: [^']+ | '{1,2}(?!') )* (?: '{3,5} | \Z )
    | " (?: [^"\\\n]+ | \\[^\n] )* "?
    | ' [^'\n]* '?
    | \# [^\n]*
    """,
    re.VERBOSE | re.DOTALL,
)
"""Texts and comments (TOML 1.0). What is not closed goes on to the end: nothing is tried twice."""


@dataclass(slots=True)
class Table:
    """A table that is used up key by key: `end` refuses what nobody asked for."""

    what: str
    """What a refusal calls it."""
    values: dict[str, object]
    taken: set[str] = field(default_factory=set)

    @classmethod
    def parse(cls, text: str, what: str) -> Self:
        """Return the table in the TOML document `text`, of version 1.

        A lone surrogate, which JSON can name in any text, is no text that could be stored.
        """
        try:
            text.encode()
            _demand_plain(text)
            values = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # ValueError: of numbers too long, too
            raise reject(
                Reason.POLICY_INVALID, what, expected="TOML", found=label(str(error))
            ) from error
        table = cls(what, values)
        if (version := table.value("version")) != 1 or isinstance(version, bool):
            raise table.refuse("version", expected="1")
        return table

    def refuse(self, key: str, *, expected: str) -> Rejected:
        """Return the refusal of what `key` holds."""
        found = _shown(self.values[key]) if key in self.values else "nothing"
        return reject(
            Reason.POLICY_INVALID, f"{self.what}: {label(key)}", expected=expected, found=found
        )

    def value(self, key: str) -> object:
        """Return whatever `key` holds, None for nothing."""
        self.taken.add(key)
        return self.values.get(key)

    def text(self, key: str, form: re.Pattern[str], default: str | None = None) -> str:
        """Return the text of `key`, all of which has the form."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not _has_form(value, form):
            raise self.refuse(key, expected=f"text of the form {form.pattern}")
        return value

    def texts(self, key: str, form: re.Pattern[str]) -> tuple[str, ...]:
        """Return the different texts of the array `key`, each of which has the form."""
        values = self.value(key)
        if values is None:
            values = []
        if not isinstance(values, list) or not all(
            isinstance(one, str) and _has_form(one, form) for one in values
        ):
            raise self.refuse(key, expected=f"an array of texts of the form {form.pattern}")
        if len(set(values)) != len(values):
            raise self.refuse(key, expected="no text twice")
        return tuple(values)

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return the truth value of `key`, `default` for nothing."""
        value = self.value(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(key, expected="true or false")
        return value

    def table(self, key: str) -> "Table":
        """Return the table that `key` holds."""
        value = self.value(key)
        if not isinstance(value, dict):
            raise self.refuse(key, expected="a table")
        return Table(f"{self.what}: {key}", value)

    def tables(self, key: str) -> tuple["Table", ...]:
        """Return the tables of the array `key`."""
        values = self.value(key)
        if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
            raise self.refuse(key, expected="an array of tables")
        return tuple(Table(f"{self.what}: {key}", one) for one in values)

    def end(self) -> None:
        """Refuse any key that has not been asked for."""
        for key in sorted(self.values.keys() - self.taken):
            known = ", ".join(sorted(self.taken))
            raise reject(
                Reason.POLICY_INVALID, self.what, expected=f"keys among {known}", found=label(key)
            )


def read_duration(text: str) -> timedelta:
    """Return the time that a text of the form DURATION says; raise ValueError of any other."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError("expected a time such as 90s, 15m or 2h")
    return int(match[1]) * _UNITS[match[2]]


def _demand_plain(text: str) -> None:
    """Raise ValueError where the text has a key of more parts than any document here needs."""
    if any(line.count(".") > MOST_DOTS for line in _TEXTS.sub("", text).split("\n")):
        raise ValueError("a key of many parts")


def _shown(value: object) -> str:
    try:
        return label(repr(value))
    except ValueError:  # Python writes no number of thousands of digits
        return "a number too long to be shown"


def _has_form(value: str, form: re.Pattern[str]) -> bool:
    return len(value) <= MOST_TEXT_CHARACTERS and form.fullmatch(value) is not None
