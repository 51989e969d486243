"""What commands print, on a pipe."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum

import pytest

from perdure_ops.output import OutputFormat, iso, print_fields, print_rows, progress, to_json


class _Status(Enum):
    RUNNING = 1


ROWS = [
    {"id": 1, "status": _Status.RUNNING, "text": "a [bold]b[/bold]", "time": datetime(2026, 1, 2, tzinfo=UTC)},
    {"id": 22, "status": None, "text": "x" * 300, "time": None},
]


def test_times_are_iso_in_utc_with_milliseconds() -> None:
    assert iso(1_000) == "1970-01-01T00:00:01.000Z"
    assert iso(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000Z"
    assert iso(None) == ""


def test_json_knows_what_commands_print() -> None:
    assert json.loads(to_json({"a": _Status.RUNNING, "b": b"x", "c": datetime(2026, 1, 2, tzinfo=UTC)})) == {
        "a": "RUNNING",
        "b": "x",
        "c": "2026-01-02T00:00:00.000Z",
    }


def test_a_table_on_a_pipe_has_one_line_for_each_row_unwrapped_and_without_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows(ROWS, OutputFormat.TABLE, ("id", "status", "text", "time"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["id", "status", "text", "time"]
    assert "a [bold]b[/bold]" in lines[1]
    assert "RUNNING" in lines[1]
    assert "x" * 300 in lines[2]


def test_rows_as_json_and_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, OutputFormat.JSON, ())
    assert [row["id"] for row in json.loads(capsys.readouterr().out)] == [1, 22]
    print_rows(ROWS, OutputFormat.JSONL, ())
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == [1, 22]


def test_fields_leave_out_what_is_empty_in_tables_only(capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"a": 0, "longer": "x", "none": None, "empty": ""}
    print_fields(fields, OutputFormat.TABLE)
    assert capsys.readouterr().out == "a       0\nlonger  x\n"
    print_fields(fields, OutputFormat.JSON)
    assert json.loads(capsys.readouterr().out) == fields


def test_progress_is_silent_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("waiting"):
        pass
    assert capsys.readouterr().err == ""
