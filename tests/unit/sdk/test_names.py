"""The table of public names says what the code has."""

from __future__ import annotations

from tests.support import names_table


def test_the_table_is_what_the_code_says() -> None:
    assert names_table.TABLE.read_text() == names_table.render(), "run: python -m tests.support.names_table"


def test_every_missing_name_has_a_reason() -> None:
    without = [
        f"{module}.{name}"
        for module, (_, missing) in names_table.rows().items()
        for name in missing
        if names_table.reason_for(name) is None
    ]
    assert not without


def test_what_is_not_there_is_looked_for_in_the_code() -> None:
    assert names_table.is_there("workflow", "execute_activity")
    assert not names_table.is_there("workflow", "no_such_name")
    assert names_table.is_there("client", "Client.start_workflow")
