"""Specs of schedules in words, and fields of calendars as texts and back."""

from __future__ import annotations

import pytest

from perdure_ops.schedule_words import CALENDAR_FIELDS, field_text, ranges_of, spec_words
from perdure_schemas.records import ScheduleCalendar, ScheduleInterval, ScheduleSpec


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 6 * * MON-FRI", "at 06:00 on Monday to Friday (UTC)"),
        ("@daily", "at 00:00 every day (UTC)"),
        ("30 6,18 * * *", "at 06:30, 18:30 every day (UTC)"),
        ("15 0 12 1,15 * * *", "at 12:00:15 on day 1, 15 of the month (UTC)"),
        ("0 0 1 JAN,MAR-MAY *", "at 00:00 on day 1 of the month in January, March to May (UTC)"),
        ("0 0 1 1 * 2027", "at 00:00 on day 1 of the month in January in 2027 (UTC)"),
        ("* * * * *", "every minute (UTC)"),
        ("*/15 * * * *", "every 15 minutes (UTC)"),
        ("5 * * * *", "minute 5 of every hour (UTC)"),
        ("*/15 9-17 * * SAT", "every 15 minutes of hour 9 to 17 on Saturday (UTC)"),
        ("* * * * * * *", "every second (UTC)"),
        ("*/10 * * * * * *", "every 10 seconds (UTC)"),
        ("0-58/2 * * * *", "every 2 minutes (UTC)"),
        ("1-9/4 * * * *", "minute 1 to 9 in steps of 4 of every hour (UTC)"),
        ("CRON_TZ=Asia/Tokyo 0 6 * * *", "at 06:00 every day in zone Asia/Tokyo"),
        ("@every 1h30m/10m", "every 1h30m + 10m"),
        ("nonsense", "cron nonsense (UTC)"),
    ],
)
def test_a_cron_string_in_words(cron: str, words: str) -> None:
    assert spec_words(ScheduleSpec(cron_expressions=[cron])) == words


def test_all_parts_of_a_spec_are_in_its_words() -> None:
    noon = {name: ranges_of("", name, "*") for name in CALENDAR_FIELDS}
    noon |= {name: ranges_of("", name, text) for name, text in (("hour", "12"), ("minute", "0"), ("second", "0"))}
    spec = ScheduleSpec(
        calendars=[ScheduleCalendar(**noon)],
        intervals=[ScheduleInterval(every_ms=90_500, offset_ms=1_000)],
        skip=[ScheduleCalendar(**{**noon, "month": ranges_of("", "month", "8")})],
        start_at_ms=3_786_912_000_000,
        end_at_ms=3_786_912_061_000,
        jitter_ms=300_000,
        time_zone_name="Europe/Zurich",
    )
    assert spec_words(spec) == (
        "at 12:00 every day; every 1m30s500ms + 1s, except at 12:00 in August (Europe/Zurich),"
        " from 2090-01-01 00:00 UTC, until 2090-01-01 00:01:01 UTC, up to 5m late"
    )
    assert spec_words(ScheduleSpec(intervals=[ScheduleInterval(every_ms=60_000)])) == "every 1m"
    assert spec_words(ScheduleSpec()) == "only by hand"


@pytest.mark.parametrize("text", ["*", "6", "6,12", "1-5", "2-10/2", "1,3-5,7-11/2"])
@pytest.mark.parametrize("name", [name for name in CALENDAR_FIELDS if name not in ("year", "day_of_week")])
def test_a_field_is_written_as_it_is_read(name: str, text: str) -> None:
    assert field_text(name, ranges_of("", name, text)) == text


def test_a_wrong_field_says_where_it_stands() -> None:
    with pytest.raises(ValueError, match=r"spec.calendars\[0\].hour: '24' is no hour; 0 to 23 are"):
        ranges_of("spec.calendars[0].hour", "hour", "24")
