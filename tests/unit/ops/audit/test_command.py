"""``perdure audit`` and ``perdure dump`` on an embedded log in memory: exit codes, output, offline as online."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_ops import auditing, cli
from perdure_ops.audit.reading import TopicScan
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import NewRecord
from perdure_schemas import records
from tests.unit.ops.audit.builder import LogBuilder, options

ONLINE = ("audit", "-n", "audit", "--settle", "0.3")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogBuilder]:
    """A log on which the commands find what was built, once :func:`publish` has put it there."""
    log = EmbeddedLog(None)
    monkeypatch.setattr(log, "close", lambda: None)
    monkeypatch.setattr(auditing, "open_log", lambda _: log)
    built = LogBuilder()
    create_platform_topics(log, built.names)
    built.log = log  # type: ignore[attr-defined]
    yield built
    EmbeddedLog.close(log)


def publish(builder: LogBuilder) -> None:
    producer = builder.log.producer("test")  # type: ignore[attr-defined]
    new = [NewRecord(r.topic, r.partition, r.key, r.value, r.timestamp_ms, r.headers) for r in builder.records]
    assert producer.append(new).wait(30.0)
    producer.close()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_sound_log_ends_with_0(builder: LogBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    builder.with_activity()
    publish(builder)
    assert run(*ONLINE) == 0
    printed = capsys.readouterr().out
    assert "1 open runs, 0 closed, 2 tasks (1 done, 1 outstanding, 0 dead)" in printed
    assert "sound: no breach found" in printed


def test_a_breach_ends_with_1_and_is_named(builder: LogBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    builder.start()
    lost = builder.complete_task(records.ActivityTaskScheduled(options=options(), workflow_task_completed_event_id=3))
    publish(builder)
    assert run(*ONLINE, "-o", "json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] is False
    assert found["counts"]["breaches"] == 1
    (breach,) = found["breaches"]
    assert (breach["check"], breach["topic"], breach["partition"], breach["offset"]) == (
        "task-lost", builder.names.history, 0, lost.offset,
    )  # fmt: skip
    assert (breach["workflow_id"], breach["run_id"]) == ("wf", "run")
    assert "perdure workflow reset" in breach["remedy"]
    assert run(*ONLINE) == 1
    printed = capsys.readouterr().out
    assert "task-lost: it must be that a task that its run waits for is in `tasks`" in printed
    assert run(*ONLINE, "-o", "jsonl") == 1
    assert json.loads(capsys.readouterr().out)["check"] == "task-lost"


def test_a_dump_is_checked_as_the_cluster_is(
    builder: LogBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.with_activity()
    builder.decide(records.WorkflowExecutionSignaled(signal_name="s", command_id="c"), first_id=9)
    publish(builder)
    file = tmp_path / "it.dump"
    assert run("dump", str(file), "-n", "audit") == 0
    assert f"{len(builder.records)} records of 6 topics of namespace audit" in capsys.readouterr().out
    assert run("audit", "--dump", str(file), "-o", "json") == 1
    (breach,) = json.loads(capsys.readouterr().out)["breaches"]
    assert breach["check"] == "event-gap"
    assert run("dump", str(file), "-n", "audit") == 2
    assert "exists; choose another name, or give --force" in capsys.readouterr().err
    assert run("dump", str(file), "-n", "audit", "--force", "--all") == 0


def test_what_cannot_be_looked_at_ends_with_2(
    builder: LogBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(builder)
    for arguments, message in (
        (("audit", "-n", "nobody"), "no Perdure engine has created topics for namespace 'nobody'"),
        (("audit", "--dump", str(tmp_path / "no.dump")), "cannot be read"),
        (("audit", "-n", "audit", "--state-dir", str(tmp_path)), "is no state folder of an engine"),
        (("dump", str(tmp_path / "no" / "it.dump"), "-n", "audit"), "cannot be written"),
    ):
        assert run(*arguments) == 2, arguments
        printed = capsys.readouterr().err
        assert message in printed
        assert "Traceback" not in printed


def test_what_is_on_its_way_is_no_breach(builder: LogBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task comes a moment after the history that asks for it, while the audit looks on."""
    builder.start()
    builder.complete_task(records.ActivityTaskScheduled(options=options(), workflow_task_completed_event_id=3))
    publish(builder)
    builder.records.clear()
    waits = []
    wait = TopicScan.wait

    def wait_and_see(scan: TopicScan, timeout_s: float) -> None:
        waits.append(timeout_s)
        if len(waits) == 2:
            builder.task("run/a4.1")
            publish(builder)
        wait(scan, timeout_s)

    monkeypatch.setattr(TopicScan, "wait", wait_and_see)
    assert run("audit", "-n", "audit", "--settle", "600") == 0
    assert len(waits) >= 2
