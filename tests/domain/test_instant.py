"""Instants at the edge."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.domain.instant import parse_instant, rfc3339


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2030-01-31T09:30:00.250Z", 1896082200.25),
        ("2030-01-31t10:30:00+01:00", 1896082200.0),
        ("2030-01-31T04:00:00-05:30", 1896082200.0),
        ("2030-01-31T09:30:00.123456789z", 1896082200.123456),
    ],
)
def test_an_instant_is_read_with_its_zone(text: str, at: float) -> None:
    """RFC 3339, whatever the offset, in either case."""
    assert parse_instant(text) == pytest.approx(at, abs=1e-6)


@pytest.mark.parametrize("text", ["2030-01-31T09:30:00", "2030-01-31T09:30:00.5"])
def test_an_instant_without_zone_is_refused(text: str) -> None:
    """Nobody can tell when that is."""
    with pytest.raises(ValueError, match="no time zone"):
        parse_instant(text)
    with pytest.raises(ValueError, match="no time zone"):
        parse_instant(datetime(2030, 1, 31))  # noqa: DTZ001  # the very thing that is refused


@pytest.mark.parametrize(
    "value",
    ["2030-01-31", "2030-W05-4T09:30:00Z", "20300131T093000Z", "2030-01-31 09:30:00Z", "soon",
     "2030-02-30T00:00:00Z", "2030-01-31T24:00:00Z", "2030-01-31T09:30:00+24:00",
     "2030-01-31T09:30:60Z", "２030-01-31T09:30:00Z", "2030-01-31T09:30:00Z\n", "",
     1896082200, True, None, [], {}],
)  # fmt: skip
def test_other_ways_to_write_time_are_refused(value: object) -> None:
    """ISO 8601 has many; RFC 3339 has one."""
    with pytest.raises(ValueError, match=r"RFC 3339|does not exist"):
        parse_instant(value)


def test_an_aware_datetime_is_an_instant() -> None:
    """In process there is no need to write text first."""
    assert parse_instant(datetime(2030, 1, 31, 9, 30, tzinfo=UTC)) == 1896082200.0


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_time_do_not_overflow(text: str) -> None:
    """Whatever is written, the answer is an instant or a ValueError."""
    with suppress(ValueError):
        parse_instant(text)


@given(st.integers(0, 4_000_000_000_000))
def test_what_is_written_reads_as_the_same_millisecond(milliseconds: int) -> None:
    """Milliseconds survive the edge."""
    text = rfc3339(milliseconds / 1000)

    assert text.endswith("Z")
    assert len(text) == 24
    assert round(parse_instant(text) * 1000) in (milliseconds, milliseconds - 1)


@given(st.integers(-2_208_988_800_000, 7_258_118_399_999))
def test_an_instant_is_written_as_the_calendar_has_it(ms: int) -> None:
    """To the millisecond, before the epoch too: from 1900 to 2199, where floats are that fine."""
    at = ms / 1000

    text = rfc3339(at)

    seconds, millis = divmod(ms, 1000)
    calendar = datetime.fromtimestamp(seconds, UTC).strftime("%m-%dT%H:%M:%S")
    assert text.endswith(f"-{calendar}.{millis:03d}Z")
    assert int(text[:4]) == datetime.fromtimestamp(seconds, UTC).year
