"""When cron schedules are due: tables of expressions and times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from perdure_history.cron import next_cron_ms


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("schedule", "after", "due"),
    [
        ("*/15 * * * *", "2024-01-01T10:07:00", "2024-01-01T10:15:00"),
        ("*/15 * * * *", "2024-01-01T10:15:00", "2024-01-01T10:30:00"),
        ("0 12 * * MON-FRI", "2024-01-05T12:00:00", "2024-01-08T12:00:00"),
        ("0 0 29 2 *", "2024-03-01T00:00:00", "2028-02-29T00:00:00"),
        ("@hourly", "2024-01-01T10:59:59.999", "2024-01-01T11:00:00"),
        ("@daily", "2024-12-31T23:00:00", "2025-01-01T00:00:00"),
        ("@weekly", "2024-01-01T00:00:00", "2024-01-07T00:00:00"),
        ("@monthly", "2024-01-31T00:00:00", "2024-02-01T00:00:00"),
        ("@yearly", "2024-06-01T00:00:00", "2025-01-01T00:00:00"),
        ("CRON_TZ=Europe/Zurich 0 8 * * *", "2024-07-01T00:00:00", "2024-07-01T06:00:00"),
        ("TZ=America/New_York 0 8 * * *", "2024-01-01T00:00:00", "2024-01-01T13:00:00"),
        # The clock goes forward over the hour between 2 and 3, and back over the one before 3.
        ("CRON_TZ=Europe/Zurich 30 2 * * *", "2024-03-31T00:00:00", "2024-03-31T01:00:00"),
        ("CRON_TZ=Europe/Zurich 0 12 * * *", "2024-10-26T10:00:00", "2024-10-27T11:00:00"),
    ],
)
def test_the_next_time(schedule: str, after: str, due: str) -> None:
    assert next_cron_ms(schedule, ms(after), ms(after)) == ms(due)


def test_every_counts_from_the_run_before() -> None:
    base = ms("2024-01-01T10:00:07")
    for after, due in (("10:00:07", "10:01:37"), ("10:01:36", "10:01:37"), ("10:01:37", "10:03:07")):
        assert next_cron_ms("@every 1m30s", base, ms(f"2024-01-01T{after}")) == ms(f"2024-01-01T{due}")


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("60 * * * *", "cannot be read"),
        ("@fortnightly", "five fields"),
        ("@every soon", "duration"),
        ("@every 0s", "duration"),
        ("CRON_TZ=Mars/Base 0 8 * * *", "time zone"),
        ("0 0 30 2 *", "cron schedule"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_names_the_schedule(schedule: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        next_cron_ms(schedule, 0, 0)
    assert schedule in str(caught.value)
