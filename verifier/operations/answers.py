"""Answers: what operators are told in JSON, and that something does not go."""

from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


class Unfit(Exception):
    """An operator asked for something that does not go: there is no such thing, or not now."""

    def __init__(self, reason: str, what: str, *, expected: str = "", found: str = "") -> None:
        self.finding = {"reason": reason, "what": what, "expected": expected, "found": found}
        super().__init__(f"{reason}: {what}")


def time_text(seconds: int) -> str:
    """Return a time as people read it, empty where there is none."""
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else ""
