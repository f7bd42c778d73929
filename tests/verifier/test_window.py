"""Times of the week: what is read, and when it is open."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.reasons import Reason, Rejected
from verifier.window import AHEAD_DAYS, DAYS, WHOLE_DAY, Window

OFFICE = "Mon-Fri 06:00-20:00 UTC"
MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Asia/Kolkata")

windows = st.builds(
    Window,
    days=st.sets(st.integers(0, 6), min_size=1).map(lambda days: tuple(sorted(days))),
    opens=st.integers(0, WHOLE_DAY - 1),
    closes=st.integers(1, WHOLE_DAY),
    zone=st.sampled_from(ZONES),
).filter(lambda one: one.opens != one.closes)
moments = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(2035, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


# Reading


@given(windows)
def test_what_is_written_reads_as_itself(window: Window) -> None:
    assert Window.parse(str(window)) == window


@given(windows, st.data())
def test_a_text_cut_short_is_refused(window: Window, data: st.DataObject) -> None:
    text = str(window).removesuffix(window.zone)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(Rejected):
        Window.parse(text[:cut])


@given(windows, st.data())
def test_a_flipped_bit_is_refused_or_says_a_window(window: Window, data: st.DataObject) -> None:
    raw = bytearray(str(window).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    text = raw.decode("latin-1")
    try:
        read = Window.parse(text)
    except Rejected:
        return
    assert Window.parse(str(read)) == read


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("Mon-Fri 06:00-20:00 UTC", (0, 1, 2, 3, 4)),
        ("Mon 06:00-20:00 UTC", (0,)),
        ("Mon,Wed-Fri,Sun 06:00-20:00 UTC", (0, 2, 3, 4, 6)),
        ("06:00-20:00 UTC", (0, 1, 2, 3, 4, 5, 6)),
    ],
)
def test_days(text: str, days: tuple[int, ...]) -> None:
    assert Window.parse(text).days == days


@pytest.mark.parametrize(
    "text",
    [
        "",
        "always",
        "Mon-Fri 06:00-20:00",
        "Mon-Fri 06:00-20:00 ",
        " Mon-Fri 06:00-20:00 UTC",
        "Mon-Fri 06:00-20:00 UTC\n",
        "Mon-Fri  06:00-20:00 UTC",
        "Mon-Fri 6:00-20:00 UTC",
        "Mon-Fri 06:00-20:60 UTC",
        "Mon-Fri 06:00-24:01 UTC",
        "Mon-Fri 24:00-06:00 UTC",
        "Mon-Fri 06:00-06:00 UTC",
        "Mon-Fri 22:00-00:00 UTC",
        "mon-fri 06:00-20:00 UTC",
        "Mon-Foo 06:00-20:00 UTC",
        "Fri-Mon 06:00-20:00 UTC",
        "Mon-Mon 06:00-20:00 UTC",
        "Mon-Wed-Fri 06:00-20:00 UTC",
        "Mon,Mon 06:00-20:00 UTC",
        "Mon-Wed,Tue 06:00-20:00 UTC",
        "Tue,Mon 06:00-20:00 UTC",
        "Mon- 06:00-20:00 UTC",
        "Mon-Fri 06:00-20:00 CEST",
        "Mon-Fri 06:00-20:00 Europe",
        "Mon-Fri 06:00-20:00 Europe/Atlantis",
        "Mon-Fri 06:00-20:00 ../etc/passwd",
        "Mon-Fri 06:00-20:00 /etc/localtime",
        "Mon-Fri ٠٦:00-20:00 UTC",
    ],
)
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(Rejected) as refused:
        Window.parse(text)
    assert [one.reason for one in refused.value.findings] == [Reason.POLICY_INVALID]


# Opening and closing


@pytest.mark.parametrize(
    ("text", "now", "end", "opening"),
    [
        (OFFICE, "2026-11-30T05:59:59", None, "2026-11-30T06:00:00"),
        (OFFICE, "2026-11-30T06:00:00", "2026-11-30T20:00:00", "2026-12-01T06:00:00"),
        (OFFICE, "2026-11-30T19:59:59", "2026-11-30T20:00:00", "2026-12-01T06:00:00"),
        (OFFICE, "2026-11-30T20:00:00", None, "2026-12-01T06:00:00"),
        (OFFICE, "2026-12-04T20:00:00", None, "2026-12-07T06:00:00"),
        ("Sun 22:00-02:00 UTC", "2026-11-30T01:59:59", "2026-11-30T02:00:00",
         "2026-12-06T22:00:00"),
        ("Sun 22:00-02:00 UTC", "2026-11-30T02:00:00", None, "2026-12-06T22:00:00"),
        ("Mon 22:00-02:00 UTC", "2026-11-30T01:00:00", None, "2026-11-30T22:00:00"),
        ("Sat,Sun 00:00-24:00 UTC", "2026-12-05T12:00:00", "2026-12-07T00:00:00",
         "2026-12-06T00:00:00"),
        ("06:00-20:00 America/New_York", "2026-11-30T10:59:59", None, "2026-11-30T11:00:00"),
        ("06:00-20:00 America/New_York", "2026-12-01T00:59:59", "2026-12-01T01:00:00",
         "2026-12-01T11:00:00"),
    ],
)  # fmt: skip
def test_when_it_is_open(text: str, now: str, end: str | None, opening: str) -> None:
    window = Window.parse(text)
    assert window.end(at(now)) == (at(end) if end else None)
    assert window.next_opening(at(now)) == at(opening)


def test_what_never_closes_ends_further_ahead_than_any_token() -> None:
    end = Window.parse("00:00-24:00 UTC").end(MONDAY)
    assert end is not None
    assert end - MONDAY >= timedelta(days=AHEAD_DAYS - 1)


def test_a_clock_that_is_put_forward() -> None:
    """Berlin has no 02:30 on this night: it is 03:30, as if the clock had not been changed."""
    window = Window.parse("02:30-04:00 Europe/Berlin")
    assert window.next_opening(at("2026-03-29T00:00:00")) == at("2026-03-29T01:30:00")
    assert window.end(at("2026-03-29T01:30:00")) == at("2026-03-29T02:00:00")
    left_out = Window.parse("02:10-02:50 Europe/Berlin")
    assert left_out.end(at("2026-03-29T01:20:00")) == at("2026-03-29T01:50:00")


def test_a_clock_that_is_put_back() -> None:
    """Berlin has 02:30 twice on this night: the first counts, for the beginning and the end."""
    window = Window.parse("01:00-02:30 Europe/Berlin")
    assert window.end(at("2026-10-25T00:00:00")) == at("2026-10-25T00:30:00")
    assert window.end(at("2026-10-25T01:15:00")) is None


def test_a_window_that_one_night_does_not_have() -> None:
    """It opens at what is 03:30 and has closed at 03:10: not on this night."""
    window = Window.parse("Sun 02:30-03:10 Europe/Berlin")
    for minute in range(180):
        assert window.end(at("2026-03-29T00:00:00") + timedelta(minutes=minute)) is None


@given(windows, moments)
def test_it_is_open_until_it_closes_and_not_a_second_longer(window: Window, now: datetime) -> None:
    end = window.end(now)
    if end is None:
        return
    assert end > now
    assert window.end(end - timedelta(seconds=1)) is not None
    if end - now < timedelta(days=7):
        assert window.end(end) is None


@given(windows, moments)
def test_it_is_open_as_soon_as_it_opens(window: Window, now: datetime) -> None:
    opening = window.next_opening(now)
    assert opening is not None
    assert opening > now
    assert opening.astimezone(ZoneInfo(window.zone)).weekday() in window.days or (
        window.zone != "UTC"
    )


@given(windows.filter(lambda one: one.zone == "UTC"), moments)
def test_in_utc_it_is_what_the_clock_shows(window: Window, now: datetime) -> None:
    minute = now.hour * 60 + now.minute
    yesterday = (now.weekday() - 1) % len(DAYS)
    is_open = (
        now.weekday() in window.days and window.opens <= minute < window.closes
        if window.opens < window.closes
        else (now.weekday() in window.days and minute >= window.opens)
        or (yesterday in window.days and minute < window.closes)
    )
    assert (window.end(now) is not None) == is_open


def test_openings_come_in_order() -> None:
    window, now, found = Window.parse(OFFICE), MONDAY, []
    for _ in range(12):
        opening = window.next_opening(now)
        assert opening is not None
        found.append(opening)
        now = opening
    assert all(one < other for one, other in pairwise(found))
    assert {one.weekday() for one in found} == {0, 1, 2, 3, 4}
