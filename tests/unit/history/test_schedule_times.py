"""When schedules fire: tables, daylight saving, and a comparison with trying every second."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure_history.schedules.times import SpecTimes
from perdure_schemas import limits
from perdure_schemas.records import ScheduleCalendar, ScheduleInterval, ScheduleRange, ScheduleSpec
from tests.unit.history.schedule_specs import calendar, iso, ms, numbers, oracle


def following(spec: ScheduleSpec, after: str, count: int = 1) -> list[str]:
    times = SpecTimes(spec, "seed")
    found: list[str] = []
    time_ms: int | None = ms(after)
    while time_ms is not None and len(found) < count:
        time_ms = times.next_ms(time_ms)
        if time_ms is not None:
            found.append(iso(time_ms))
    return found


def cron(*expressions: str, **fields: object) -> ScheduleSpec:
    return ScheduleSpec(cron_expressions=list(expressions), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("*/15 * * * *", "2024-01-01T10:07:00", "2024-01-01T10:15:00"),
        ("*/15 * * * *", "2024-01-01T10:15:00", "2024-01-01T10:30:00"),
        ("0 12 * * MON-FRI", "2024-01-05T12:00:00", "2024-01-08T12:00:00"),
        ("0 12 * jan,Mar SUN,3", "2024-02-01T00:00:00", "2024-03-03T12:00:00"),
        ("0 0 * * 5-7", "2024-01-06T01:00:00", "2024-01-07T00:00:00"),
        ("0 0 * * 7", "2024-01-01T00:00:00", "2024-01-07T00:00:00"),
        # Day of month and day of week must both match: a Friday the 13th.
        ("0 0 13 * 5", "2024-01-01T00:00:00", "2024-09-13T00:00:00"),
        ("0 0 29 2 *", "2024-03-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 1 1 * 2030", "2024-03-01T00:00:00", "2030-01-01T00:00:00"),
        ("30 0 0 1 1 * 2030-2032/2", "2030-01-01T00:00:30", "2032-01-01T00:00:30"),
        ("5/20 * * * * *", "2024-01-01T00:06:00", "2024-01-01T00:25:00"),
        ("0 ? * * *  # hourly", "2024-01-01T00:06:00", "2024-01-01T01:00:00"),
        ("@hourly", "2024-01-01T10:59:59.999", "2024-01-01T11:00:00"),
        ("@Daily", "2024-12-31T23:00:00", "2025-01-01T00:00:00"),
        ("@midnight", "2024-12-31T23:00:00", "2025-01-01T00:00:00"),
        ("@weekly", "2024-01-01T00:00:00", "2024-01-07T00:00:00"),
        ("@monthly", "2024-01-31T00:00:00", "2024-02-01T00:00:00"),
        ("@yearly", "2024-06-01T00:00:00", "2025-01-01T00:00:00"),
        ("@annually", "2024-06-01T00:00:00", "2025-01-01T00:00:00"),
        ("@every 1h30m", "2024-01-01T00:00:00", "2024-01-01T01:30:00"),
        ("@every 1h/10m", "2024-01-01T00:10:00", "2024-01-01T01:10:00"),
        ("@every 2d", "1970-01-02T00:00:00", "1970-01-03T00:00:00"),
        ("CRON_TZ=Europe/Zurich 0 8 * * *", "2024-07-01T00:00:00", "2024-07-01T06:00:00"),
        ("TZ=America/New_York 0 8 * * *", "2024-01-01T00:00:00", "2024-01-01T13:00:00"),
    ],
)
def test_cron_strings(expression: str, after: str, due: str) -> None:
    assert following(cron(expression), after) == [due]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("* * * *", "4 fields"),
        ("", "0 fields"),
        ("60 * * * *", "'60' is no minute"),
        ("* * 0 * *", "'0' is no day_of_month"),
        ("* * * foo *", "'foo' is no month"),
        ("* * * * 8", "'8' is no day_of_week"),
        ("*/0 * * * *", "is no step"),
        ("5-1 * * * *", "must go upwards"),
        ("@every", "is no duration"),
        ("@every 5", "is no duration"),
        ("@every 1h/2h", "shorter than the interval"),
        ("@sometimes", "1 fields"),
        ("CRON_TZ=Mars/Olympus 0 0 * * *", "no time zone 'Mars/Olympus'"),
    ],
)
def test_a_bad_cron_string_says_what_is_wrong(expression: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpecTimes(cron(expression))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ScheduleSpec(calendars=[calendar(hour=numbers((0, 24)))]), "within 0 to 23"),
        (ScheduleSpec(calendars=[calendar(hour=numbers((0, 2, 0)))]), "at least 1"),
        (ScheduleSpec(calendars=[calendar(year=numbers(1969))]), "for year"),
        (ScheduleSpec(skip=[calendar(month=numbers(0))]), "for month"),
        (ScheduleSpec(calendars=[calendar(year=numbers(limits.SCHEDULE_YEAR_MAX + 1))]), "for year"),
        (ScheduleSpec(intervals=[ScheduleInterval(every_ms=limits.SCHEDULE_INTERVAL_MS_MIN - 1)]), "the shortest is"),
        (ScheduleSpec(intervals=[ScheduleInterval(every_ms=1_000, offset_ms=-1)]), "offset of -1 ms"),
        (ScheduleSpec(time_zone_name="Nowhere/Land"), "no time zone"),
        (ScheduleSpec(jitter_ms=-1), "jitter"),
        (ScheduleSpec(start_at_ms=2, end_at_ms=1), "ends before it starts"),
        (ScheduleSpec(cron_expressions=["@daily"] * (limits.SCHEDULE_PARTS_MAX + 1)), "the limit is 100"),
    ],
)
def test_a_bad_spec_says_what_is_wrong(spec: ScheduleSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpecTimes(spec)


def test_what_falls_into_the_hour_that_daylight_saving_leaves_out_does_not_happen() -> None:
    spec = ScheduleSpec(calendars=[calendar(hour=numbers(2), minute=numbers(30))], time_zone_name="Europe/Zurich")
    assert following(spec, "2025-03-29T00:00:00", 3) == [
        "2025-03-29T01:30:00",
        "2025-03-31T00:30:00",
        "2025-04-01T00:30:00",
    ]


def test_what_falls_into_the_hour_that_daylight_saving_repeats_happens_twice() -> None:
    spec = ScheduleSpec(calendars=[calendar(hour=numbers(2), minute=numbers(30))], time_zone_name="Europe/Zurich")
    assert following(spec, "2025-10-25T12:00:00", 3) == [
        "2025-10-26T00:30:00",
        "2025-10-26T01:30:00",
        "2025-10-27T01:30:00",
    ]


def test_skipped_readings_are_skipped_in_both_hours_that_daylight_saving_makes_alike() -> None:
    spec = ScheduleSpec(
        intervals=[ScheduleInterval(every_ms=1_800_000)],
        skip=[calendar(hour=numbers(2), minute=numbers((0, 59)), second=numbers((0, 59)))],
        time_zone_name="Europe/Zurich",
    )
    assert following(spec, "2025-10-25T23:59:59", 2) == ["2025-10-26T02:00:00", "2025-10-26T02:30:00"]


def test_intervals_know_no_daylight_saving() -> None:
    spec = ScheduleSpec(intervals=[ScheduleInterval(every_ms=3_600_000, offset_ms=1)], time_zone_name="Europe/Zurich")
    times = SpecTimes(spec)
    assert times.next_ms(ms("2025-03-30T00:30:00")) == ms("2025-03-30T01:00:00.001")
    assert times.next_ms(ms("2025-03-30T01:00:00.001")) == ms("2025-03-30T02:00:00.001")


def test_both_ends_of_a_spec_are_included() -> None:
    spec = cron("@hourly", start_at_ms=ms("2024-01-01T10:00:00"), end_at_ms=ms("2024-01-01T11:00:00"))
    assert following(spec, "2020-01-01T00:00:00", 5) == ["2024-01-01T10:00:00", "2024-01-01T11:00:00"]


def test_calendars_end_with_their_last_year() -> None:
    last = f"{limits.SCHEDULE_YEAR_MAX}-12-31T00:00:00"
    spec = ScheduleSpec(calendars=[calendar(month=numbers(12), day_of_month=numbers(31))])
    assert following(spec, f"{limits.SCHEDULE_YEAR_MAX}-01-01T00:00:00", 2) == [last]


def test_a_spec_without_times_has_no_next_one() -> None:
    assert following(ScheduleSpec(), "2024-01-01T00:00:00") == []
    assert following(cron("0 0 30 2 *"), "2024-01-01T00:00:00") == []
    assert following(ScheduleSpec(calendars=[calendar(hour=[])]), "2024-01-01T00:00:00") == []
    assert following(ScheduleSpec(calendars=[calendar(year=numbers(2020))]), "2024-01-01T00:00:00") == []
    everything = calendar(hour=numbers((0, 23)), minute=numbers((0, 59)), second=numbers((0, 59)))
    assert following(cron("* * * * *", skip=[everything]), "2024-01-01T00:00:00") == []


def test_jitter_is_the_same_each_time_and_ends_before_the_next_time() -> None:
    spec = ScheduleSpec(intervals=[ScheduleInterval(every_ms=10_000)], jitter_ms=3_600_000)
    times, again, other = SpecTimes(spec, "a"), SpecTimes(spec, "a"), SpecTimes(spec, "b")
    nominal = [number * 10_000 for number in range(100)]
    scheduled = [times.scheduled_ms(time_ms) for time_ms in nominal]
    assert scheduled == [again.scheduled_ms(time_ms) for time_ms in nominal]
    assert scheduled != [other.scheduled_ms(time_ms) for time_ms in nominal]
    assert all(0 <= late - time_ms < 10_000 for late, time_ms in zip(scheduled, nominal, strict=True))
    assert len({late % 10_000 for late in scheduled}) > 50


def test_jitter_is_no_longer_than_it_may_be() -> None:
    spec = ScheduleSpec(intervals=[ScheduleInterval(every_ms=3_600_000)], jitter_ms=5)
    times = SpecTimes(spec, "a")
    assert {times.scheduled_ms(number * 3_600_000) % 3_600_000 for number in range(200)} == set(range(6))


ZONES = ("", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca")


def ranges(low: int, high: int) -> st.SearchStrategy[list[ScheduleRange]]:
    one = st.tuples(st.integers(low, high), st.integers(low, high), st.integers(1, 7)).map(
        lambda t: ScheduleRange(start=min(t[:2]), end=max(t[:2]), step=t[2])
    )
    return st.lists(one, min_size=1, max_size=2)


CALENDARS = st.builds(
    ScheduleCalendar,
    second=st.just(numbers(0)),
    minute=ranges(0, 59),
    hour=ranges(0, 23),
    day_of_month=st.one_of(st.just(numbers((1, 31))), ranges(1, 31)),
    month=st.one_of(st.just(numbers((1, 12))), ranges(1, 12)),
    day_of_week=st.one_of(st.just(numbers((0, 6))), ranges(0, 6)),
    year=st.one_of(st.just([]), st.just(numbers((2_020, 2_030)))),
)
SKIPS = st.builds(
    ScheduleCalendar,
    second=st.just(numbers((0, 59))),
    minute=st.one_of(st.just(numbers((0, 59))), ranges(0, 59)),
    hour=st.one_of(st.just(numbers((0, 23))), ranges(0, 23)),
    day_of_month=st.just(numbers((1, 31))),
    month=st.just(numbers((1, 12))),
    day_of_week=ranges(0, 6),
)
#: Around changes of the clock, and a plain day.
STARTS = (
    "2025-03-29T18:00",
    "2025-10-25T18:00",
    "2025-03-08T18:00",
    "2025-04-05T06:00",
    "2025-02-22T18:00",
    "2024-02-28T12:00",
)


@settings(max_examples=20, deadline=None)
@given(
    spec=st.builds(
        ScheduleSpec,
        calendars=st.lists(CALENDARS, max_size=2),
        intervals=st.lists(
            st.builds(ScheduleInterval, every_ms=st.integers(1, 300).map(lambda n: n * 60_000), offset_ms=st.just(0)),
            max_size=1,
        ),
        skip=st.lists(SKIPS, max_size=2),
        time_zone_name=st.sampled_from(ZONES),
    ),
    start=st.sampled_from(STARTS),
)
def test_the_times_are_those_found_by_trying_every_minute(spec: ScheduleSpec, start: str) -> None:
    start_ms = ms(start)
    end_ms = start_ms + 14 * 3_600_000
    times = SpecTimes(spec)
    found: list[int] = []
    time_ms: int | None = start_ms
    while (time_ms := times.next_ms(time_ms)) is not None and time_ms <= end_ms:
        found.append(time_ms)
    assert found == oracle(spec, start_ms, end_ms, 60_000)
