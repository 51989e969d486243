"""Reading JSON, durations and pairs from the command line."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_ops.errors import CliError
from perdure_ops.values import json_inputs, json_pairs, parse_duration

_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("500ms", 500), ("10s", 10_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("1.5s", 1_500), ("0s", 0)],
)
def test_durations(text: str, milliseconds: int) -> None:
    assert parse_duration(text, "--x") == timedelta(milliseconds=milliseconds)


def test_no_duration_is_none() -> None:
    assert parse_duration(None, "--x") is None


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "-1s", "1h30", "1w", "10sx"])
def test_what_is_no_duration_is_refused_with_the_options_name(text: str) -> None:
    with pytest.raises(CliError, match=r"--run-timeout.*1h30m"):
        parse_duration(text, "--run-timeout")


@given(st.lists(_json_values, max_size=3))
def test_json_inputs_keep_their_text_and_order(values: list[object]) -> None:
    texts = [json.dumps(value) for value in values]
    assert json_inputs(texts, []) == [text.encode() for text in texts]


@pytest.mark.parametrize("text", ["{", "hello", "", "NaN", "{'a': 1}", "1 2"])
def test_what_is_no_json_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(CliError, match="--input number 2 is not JSON"):
        json_inputs(["1", text], [])


def test_input_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"sku": "ü"}\n')
    assert json_inputs([], [tmp_path / "a.json"]) == ['{"sku": "ü"}'.encode()]


def test_an_input_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"missing\.json cannot be read: No such file"):
        json_inputs([], [tmp_path / "missing.json"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(CliError, match="not UTF-8"):
        json_inputs([], [tmp_path / "binary"])


def test_inputs_and_files_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="not both"):
        json_inputs(["1"], [tmp_path / "a.json"])


def test_pairs() -> None:
    assert json_pairs(["a=1", 'b="x=y"'], "--memo") == {"a": 1, "b": "x=y"}


@pytest.mark.parametrize("pair", ["a", "=1", "a=x"])
def test_malformed_pairs_are_refused(pair: str) -> None:
    with pytest.raises(CliError, match="--memo"):
        json_pairs([pair], "--memo")
