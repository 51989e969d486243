"""The pipeline: a killed worker costs a few rows that are loaded twice, and none that is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from examples.pipeline.__main__ import run
from examples.pipeline.workflow import Job, Loaded, Position, load_rows
from perdure.testing import ActivityEnvironment
from perdure_runtime.embedded import EmbeddedLog
from perdure_schemas.topics import TopicNames
from tests.support.platform import running_engine

ROWS = 600


@pytest.mark.timeout(300)  # a process is started, and a silent one waited for
async def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    log = EmbeddedLog(None)
    with running_engine(log, TopicNames(partitions=2)):
        outcome = await run(f"localhost:{log.serve('127.0.0.1', 0).port}", ROWS, tmp_path)
    log.close()
    assert outcome.lost == 0
    assert outcome.resumed_at > 0
    # Loaded twice is what lies between the last position that the engine heard of and the kill. Where a machine is so
    # slow that heartbeats come too late, there are more attempts, and more rows like that.
    assert outcome.attempts > 2 or outcome.doubled == outcome.at_kill - outcome.resumed_at


def test_an_attempt_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("one\ntwo\nthree\n")
    env = ActivityEnvironment()
    heartbeats: list[Position] = []
    env.on_heartbeat = lambda *details: heartbeats.append(details[0])
    job = Job(str(source), str(target), row_s=0)
    assert env.run(load_rows, job) == Loaded(rows=3, resumed_at=0, attempts=1)
    assert heartbeats == [Position(1, 4), Position(2, 8), Position(3, 14)]

    env.info = replace(ActivityEnvironment.default_info(), attempt=2, heartbeat_details=[{"rows": 2, "byte": 8}])
    assert env.run(load_rows, job) == Loaded(rows=3, resumed_at=2, attempts=2)
    assert target.read_text().splitlines() == ["one", "two", "three", "three"]
