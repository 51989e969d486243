"""``kill -9`` of the process that has the log: what was acknowledged is there, and what is there is a prefix."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import LogError, TopicPartition
from tests.integration.embedded import processes

PARTITIONS = 5


def _numbers(log: EmbeddedLog) -> list[int]:
    """All records of both topics, partition by partition."""
    found = []
    for topic in ("t", "u"):
        for partition in range(PARTITIONS):
            place = TopicPartition(topic, partition)
            reader = log.reader("check")
            reader.assign({place: log.BEGIN})
            numbers: list[int] = []
            while reader.position(place) < log.watermarks(place)[1]:
                numbers += [int(record.value or b"") for record in reader.poll(1_000, 5)]
            assert numbers == sorted(numbers), "the order of the appends is the order of the partition"
            found += numbers
            reader.close()
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_acknowledged_records_survive_and_a_prefix_of_all_appends_is_there(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    begin = 0
    for _ in range(3):
        child = processes.start("append", tmp_path / "log", begin, PARTITIONS)
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(chance.randrange(1, 400))]
        # Its last line may be torn; everything before is acknowledged, too.
        acknowledged += [int(line) for line in processes.kill(child).splitlines(keepends=True) if line.endswith("\n")]
        log = EmbeddedLog(tmp_path / "log")
        try:
            found = _numbers(log)
        finally:
            log.close()
        assert sorted(found) == list(range(len(found))), "nothing doubled, and no hole in the order of all appends"
        assert max(acknowledged) < len(found)
        begin = len(found)


def test_two_processes_cannot_have_one_log(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    try:
        with pytest.raises(LogError, match="in use") as refusal:
            EmbeddedLog(tmp_path / "log")
        assert str(tmp_path / "log") in str(refusal.value)
        said, _ = processes.start("open", tmp_path / "log").communicate(timeout=30)
        assert "in use by another process" in said
        assert str(tmp_path / "log") in said
    finally:
        log.close()
    said, _ = processes.start("open", tmp_path / "log").communicate(timeout=30)
    assert said == ""
