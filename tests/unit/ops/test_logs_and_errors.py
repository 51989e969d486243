"""One line for each event and for each error."""

from __future__ import annotations

import logging
import sys

import pytest

from perdure_ops.errors import CliError, describe_error
from perdure_ops.logs import KeyValueFormatter, quoted
from perdure_runtime.log import LogUnavailableError


def _line(message: str, *args: object, error: bool = False) -> str:
    record = logging.LogRecord("perdure.engine", logging.WARNING, __file__, 1, message, args, None)
    if error:
        try:
            raise ValueError('bad "x"\nworse')
        except ValueError:
            record.exc_info = sys.exc_info()
    record.created, record.msecs = 0.25, 250.0
    return KeyValueFormatter().format(record)


def test_pairs_are_kept_as_they_are() -> None:
    assert _line("role=%s event=restarting", "history") == (
        "ts=1970-01-01T00:00:00.250Z level=warning logger=perdure.engine role=history event=restarting"
    )


def test_other_messages_become_a_pair() -> None:
    assert _line('it "works"').endswith('logger=perdure.engine msg="it \\"works\\""')


def test_a_traceback_stays_on_the_line() -> None:
    line = _line("event=failed", error=True)
    assert "\n" not in line
    assert 'error="ValueError: bad \\"x\\"\\nworse"' in line
    assert "traceback=" in line


def test_a_message_of_several_lines_stays_on_the_line() -> None:
    assert "\n" not in _line("a\nb")


def test_quoting_escapes_quotes_backslashes_and_line_breaks() -> None:
    assert quoted('a"b\\c\nd\re') == '"a\\"b\\\\c\\nd\\re"'


def test_the_causes_of_an_explained_error_are_told_once() -> None:
    error = LogUnavailableError("nobody answers at b1:9092")
    error.__cause__ = ConnectionError("refused")
    assert describe_error(error) == "nobody answers at b1:9092: refused"
    error.__cause__ = ConnectionError("nobody answers at b1:9092")
    assert describe_error(error) == "nobody answers at b1:9092"


def test_errors_without_a_message_are_named() -> None:
    assert describe_error(LogUnavailableError()) == "LogUnavailableError"


def test_a_cli_error_stands_for_itself() -> None:
    error = CliError("do this")
    error.__cause__ = OSError("that")
    assert describe_error(error) == "do this"


def test_errors_of_the_system_keep_their_file() -> None:
    assert describe_error(FileNotFoundError(2, "No such file or directory", "a.json")) == (
        "No such file or directory: a.json"
    )


@pytest.mark.parametrize("error", [RuntimeError("x"), TypeError()])
def test_bugs_are_named_by_their_type(error: Exception) -> None:
    assert type(error).__name__ in describe_error(error)
