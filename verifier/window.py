"""Times of the week at which a use is open.

    Mon-Fri 06:00-20:00 UTC           on these days
    Sat,Sun 22:00-06:00 Europe/Berlin from these evenings to the next mornings
    00:00-24:00 UTC                   every day, all day: without an end

Days are those on which it opens, in the zone's own calendar. Where a zone's clock leaves times
out, a time that is left out counts as if the clock had not been changed yet; where it has times
twice, the first one counts. Which UTC time that is, the zone database of the verifier's host says.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from verifier.reasons import Reason, label, reject

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WHOLE_DAY = 24 * 60
"""Minutes."""
AHEAD_DAYS = 15
"""How far openings are looked for: two of each day of the week, one of which may not exist."""

FORM = re.compile(
    r"(?:(?P<days>[A-Z][a-z]{2}(?:[-,][A-Z][a-z]{2}){0,12}) )?"
    r"(?P<opens>(?:[01][0-9]|2[0-3]):[0-5][0-9])-(?P<closes>(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)"
    r" (?P<zone>[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z][A-Za-z0-9_+-]{0,31}){0,2})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When it opens and closes, again and again. Made by `parse`."""

    days: tuple[int, ...]
    """On which it opens, ascending; Monday is 0."""
    opens: int
    """Minutes after midnight."""
    closes: int
    """Minutes after midnight, 1 to WHOLE_DAY: of the same day if later than `opens`, else of the
    next one."""
    zone: str
    """Name in the IANA time zone database."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the window that the text says; raise Rejected if it says none."""
        found = FORM.fullmatch(text)
        days = _read_days(found["days"]) if found else ()
        if found is None or not days or not _is_zone(found["zone"]):
            expected = "[DAYS ]HH:MM-HH:MM ZONE, as Mon-Fri 06:00-20:00 UTC"
            raise reject(Reason.POLICY_INVALID, "window", expected=expected, found=label(text))
        opens, closes = _minutes(found["opens"]), _minutes(found["closes"])
        if opens == closes or not closes:
            expected = "an end other than its beginning, midnight as 24:00"
            raise reject(Reason.POLICY_INVALID, "window", expected=expected, found=label(text))
        return cls(days=days, opens=opens, closes=closes, zone=found["zone"])

    def __str__(self) -> str:
        """Return a text that says this window."""
        days = "" if len(self.days) == len(DAYS) else ",".join(DAYS[one] for one in self.days) + " "
        return f"{days}{_clock(self.opens)}-{_clock(self.closes)} {self.zone}"

    def end(self, now: datetime) -> datetime | None:
        """Return when it closes, if it is open now; None if it is not.

        What opens as the one before closes goes on; further than AHEAD_DAYS nobody looks.
        """
        end = None
        for opens, closes in self._spans(now):
            if opens <= (end or now) < closes:
                end = closes
        return end

    def next_opening(self, now: datetime) -> datetime | None:
        """Return when it opens next after now; None where it does not in the next AHEAD_DAYS."""
        return min((opens for opens, _ in self._spans(now) if opens > now), default=None)

    def _spans(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield when it opens and closes, from yesterday on, in order."""
        zone = ZoneInfo(self.zone)
        today = now.astimezone(zone).date()
        for ahead in range(-1, AHEAD_DAYS):
            day = today + timedelta(days=ahead)
            until = day if self.closes > self.opens else day + timedelta(days=1)
            opens, closes = _moment(day, self.opens, zone), _moment(until, self.closes, zone)
            if day.weekday() in self.days and opens < closes:
                yield opens, closes


def _read_days(text: str | None) -> tuple[int, ...]:
    """Return the days, all of them for no text; none where they are not ascending, each once."""
    if text is None:
        return tuple(range(len(DAYS)))
    days: list[int] = []
    for part in text.split(","):
        first, *last = part.split("-")
        if len(last) > 1 or not {first, *last} <= {*DAYS}:
            return ()
        start, end = DAYS.index(first), DAYS.index(last[0] if last else first)
        if (last and start >= end) or (days and start <= days[-1]):
            return ()
        days += range(start, end + 1)
    return tuple(days)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # no such zone; no name of one; a directory of zones
        return False
    return True


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _moment(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    local = datetime.combine(day, time()) + timedelta(minutes=minutes)
    return local.replace(tzinfo=zone).astimezone(UTC)
