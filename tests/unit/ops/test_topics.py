"""A server's look at its topics, and the commands for them, on an embedded log in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from perdure_ops import cli, topic_changes
from perdure_ops.topic_changes import ensure_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import TopicConfigurationError
from perdure_schemas.topics import TOPICS, TopicNames

NAMES = TopicNames(namespace="prod", partitions=3)
ADDRESS = ("--address", "kafka://here", "-n", "prod")


# --- on a log -----------------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    opened = EmbeddedLog(None)
    yield opened
    opened.close()


def test_ensuring_creates_what_is_missing_once(log: EmbeddedLog) -> None:
    assert ensure_topics(log, "prod", 3, -1, create=True) == NAMES
    assert ensure_topics(log, "prod", None, -1, create=False) == NAMES
    assert set(log.topic_names()) == {NAMES.of(spec) for spec in TOPICS}


def test_missing_topics_are_an_error_when_they_must_not_be_created(log: EmbeddedLog) -> None:
    with pytest.raises(TopicConfigurationError, match=r"(?s)perdure topics apply.*perdure\.prod\.commands"):
        ensure_topics(log, "prod", 3, -1, create=False)
    assert log.topic_names() == []


def test_another_partition_count_is_an_error(log: EmbeddedLog) -> None:
    ensure_topics(log, "prod", 3, -1, create=True)
    with pytest.raises(TopicConfigurationError, match=r"partitions is 3, not 4: .*Use the number the topic has"):
        ensure_topics(log, "prod", 4, -1, create=True)


def test_a_wrong_cleanup_policy_is_an_error_that_names_the_way_out(log: EmbeddedLog) -> None:
    ensure_topics(log, "prod", 3, -1, create=True)
    log.alter_topic(NAMES.history, {"cleanup.policy": "delete"})
    with pytest.raises(TopicConfigurationError, match=r"(?s)perdure topics apply.*cleanup\.policy is delete"):
        ensure_topics(log, "prod", None, -1, create=True)


def test_a_longer_retention_is_the_operators_choice(log: EmbeddedLog) -> None:
    ensure_topics(log, "prod", 3, -1, create=True)
    log.alter_topic(NAMES.commands, {"retention.ms": "-1"})
    ensure_topics(log, "prod", None, -1, create=False)
    assert log.describe_topics([NAMES.commands])[NAMES.commands].config["retention.ms"] == "-1"


# --- the commands -------------------------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Commands on the embedded log, which stays open."""
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    monkeypatch.setattr(topic_changes, "open_log", lambda _: log)
    monkeypatch.setattr(log, "close", lambda: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(("topics", *arguments, *ADDRESS))
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


def test_plan_shows_and_changes_nothing(run: Run, log: EmbeddedLog) -> None:
    code, out, _ = run("plan", "--partitions", "3", "-o", "json")
    assert code == 0
    assert [row["action"] for row in json.loads(out)] == ["create"] * len(TOPICS)
    assert log.topic_names() == []
    assert len(run("plan")[1].splitlines()) == len(TOPICS) + 1


def test_apply_creates_and_corrects_and_then_has_nothing_to_do(run: Run, log: EmbeddedLog) -> None:
    assert run("apply", "--partitions", "3", "--yes")[0] == 0
    log.alter_topic(NAMES.history, {"cleanup.policy": "delete"})
    code, out, _ = run("apply", "--yes")
    assert code == 0
    assert out.splitlines()[1].split()[:5] == ["alter", NAMES.history, "cleanup.policy", "delete", "compact"]
    assert out.splitlines()[-1] == "done: 1 change"
    assert run("apply")[1].startswith("nothing to do")
    assert run("plan")[1].startswith("nothing to do")
    assert run("plan", "-o", "json")[1] == "[]\n"


def test_apply_asks_and_no_changes_nothing(run: Run, log: EmbeddedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def confirm(question: str, **_: bool) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr(topic_changes.typer, "confirm", confirm)
    code, _, err = run("apply")
    assert (code, err) == (1, "Error: nothing was changed\n")
    assert asked == ["Do this?"]
    assert log.topic_names() == []


def test_apply_refuses_another_partition_count(run: Run) -> None:
    run("apply", "--partitions", "3", "--yes")
    code, _, err = run("apply", "--partitions", "4", "--yes")
    assert code == 1
    assert "nothing was changed" in err
    assert err.count("\n") == 1


def test_describe_shows_topics_as_they_are(run: Run) -> None:
    code, _, err = run("describe")
    assert code == 1
    assert "has no topics" in err
    run("apply", "--partitions", "3", "--yes")
    rows = json.loads(run("describe", "-o", "json")[1])
    assert {row["topic"] for row in rows} == {NAMES.of(spec) for spec in TOPICS}
    assert {row["partitions"] for row in rows} == {3}
    assert {row["offsets_kept"] for row in rows} == {0}


def test_topics_of_a_development_server_are_not_ours_to_change(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(("topics", "plan", "--address", "localhost:7233"))
    assert "is not one of Kafka" in capsys.readouterr().err
