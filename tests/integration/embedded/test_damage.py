"""Files of an embedded log that are not as they were written: an error that says so, and never a record that is wrong
or missing without a word."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import LogError, NewRecord, TopicPartition
from perdure_schemas.topics import COMMANDS

RECORDS = 600
PLACE = TopicPartition("c", 0)


@pytest.fixture
def values(tmp_path: Path) -> list[bytes]:
    """What a log in ``tmp_path/log`` holds, in table files."""
    chance = random.Random(5)
    written = [chance.randbytes(1_000) for _ in range(RECORDS)]
    log = EmbeddedLog(tmp_path / "log")
    log.create_topics({"c": COMMANDS}, 1)
    producer = log.producer("p")
    assert producer.append([NewRecord("c", 0, b"k", value) for value in written]).wait(30)
    log.close()
    return written


def read_all(path: Path) -> list[bytes]:
    log = EmbeddedLog(path)
    try:
        reader = log.reader("r")
        reader.assign({PLACE: log.BEGIN})
        found: list[bytes] = []
        while len(found) < RECORDS:
            records = reader.poll(50, 30)
            assert records, "nothing more comes, and nobody says why"
            found += [record.value or b"" for record in records]
        return found
    finally:
        log.close()


def largest_table(path: Path) -> Path:
    return max(path.glob("*.sst"), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_flipped_bit_is_detected(tmp_path: Path, values: list[bytes], share: float) -> None:
    assert read_all(tmp_path / "log") == values
    table = largest_table(tmp_path / "log")
    content = bytearray(table.read_bytes())
    content[int(len(content) * share)] ^= 4
    table.write_bytes(content)
    with pytest.raises(LogError, match=r"cannot be read: Corruption.*restore them from a copy") as failed:
        read_all(tmp_path / "log")
    assert str(tmp_path / "log") in str(failed.value)


def test_a_truncated_file_is_refused(tmp_path: Path, values: list[bytes]) -> None:
    table = largest_table(tmp_path / "log")
    table.write_bytes(table.read_bytes()[:5_000])
    with pytest.raises(LogError, match="cannot be opened"):
        EmbeddedLog(tmp_path / "log")
