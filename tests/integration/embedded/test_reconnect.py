"""A client of a dev server that stops, crashes, and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import LogError, LogRecord, LogUnavailableError, NewRecord, Reader, TopicPartition
from perdure_runtime.remote import RemoteLog
from perdure_runtime.remote import producer as producer_module
from perdure_runtime.remote import requests as requests_module
from perdure_schemas.topics import COMMANDS
from tests.integration.embedded.processes import ServerProcess

PLACE = TopicPartition("t", 0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path / "log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[RemoteLog]:
    client = RemoteLog("127.0.0.1", server.port)
    yield client
    client.close()


def _read(reader: Reader, count: int) -> list[bytes]:
    found: list[LogRecord] = []
    while len(found) < count:
        records = reader.poll(count - len(found), 20)
        assert records, f"only {len(found)} of {count} records came"
        found += records
    return [record.value or b"" for record in found]


def _all(client: RemoteLog) -> list[bytes]:
    reader = client.reader("all")
    reader.assign({PLACE: client.BEGIN})
    return _read(reader, client.watermarks(PLACE)[1])


def _record(value: str) -> NewRecord:
    return NewRecord("t", 0, b"k", value.encode())


def test_a_reader_goes_on_where_it_was_and_appends_made_meanwhile_arrive_once(
    server: ServerProcess, client: RemoteLog
) -> None:
    reader, producer = client.reader("r"), client.producer("p")
    reader.assign({PLACE: 0})
    producer.append([_record("1")])
    assert _read(reader, 1) == [b"1"]
    server.stop()
    acks = [producer.append([_record(str(number))]) for number in range(2, 6)]
    assert not acks[-1].wait(0)
    server.start()
    assert acks[-1].wait(30)
    assert [ack.error() for ack in acks] == [None] * 4
    assert acks[-1].offsets() == {PLACE: 4}
    assert _read(reader, 4) == [b"2", b"3", b"4", b"5"]
    assert _all(client) == [b"1", b"2", b"3", b"4", b"5"]


def test_killing_the_server_in_a_stream_of_appends_doubles_and_loses_nothing(
    server: ServerProcess, client: RemoteLog
) -> None:
    producer = client.producer("p")
    acks = []
    for number in range(600):
        acks.append(producer.append([_record(str(number))]))
        if number in (150, 400):
            assert acks[number // 2].wait(30)
            server.kill()
            server.start()
    assert producer.flush(30)
    assert all(ack.error() is None for ack in acks)
    assert _all(client) == [b"%d" % number for number in range(600)]


def test_a_reader_behind_the_socket_sees_only_what_is_synced_and_one_beyond_goes_back(
    server: ServerProcess, client: RemoteLog
) -> None:
    """What was not synced when the server was killed never was: its offsets are given again, to other records."""
    reader, ahead = client.reader("r"), client.reader("ahead")
    reader.assign({PLACE: 0})
    assert client.producer("p").append([_record("safe")]).wait(10)
    server.order("stall")
    server.order("append lost 1")
    server.order("append lost 2")
    assert client.watermarks(PLACE) == (0, 3), "the end counts what is not synced"
    ahead.assign({PLACE: 3})
    assert _read(reader, 1) == [b"safe"]
    assert reader.poll(10, 0.1) == []
    server.kill()
    server.start()
    server.order("append new 1")
    assert _read(reader, 1) == [b"new 1"]
    assert _read(ahead, 1) == [b"new 1"]
    assert reader.position(PLACE) == ahead.position(PLACE) == 2
    server.order("append new 2")
    assert _read(reader, 1) == [b"new 2"]


def test_a_reader_follows_through_two_crashes_it_did_not_see(
    server: ServerProcess, client: RemoteLog, tmp_path: Path
) -> None:
    """What counts is the lowest end of all the crashes since the reader was connected, not that of the last one."""
    reader = client.reader("r")
    assert client.producer("p").append([_record("safe")]).wait(10)
    server.order("stall")
    server.order("append lost 1")
    server.order("append lost 2")
    assert client.watermarks(PLACE) == (0, 3)
    reader.assign({PLACE: 3})
    assert reader.poll(10, 0.1) == []
    server.kill()
    for value in ("new 1", "new 2", "new 3"):  # the server comes and goes elsewhere, unclean each time
        log = EmbeddedLog(tmp_path / "log")
        assert log.producer("p").append([_record(value)]).wait(10)
        identity = log.identity
        log.close()
        _forget_clean_end(tmp_path / "log", identity.log_id)
    server.start()
    assert _read(reader, 3) == [b"new 1", b"new 2", b"new 3"]


def _forget_clean_end(path: Path, log_id: str) -> None:
    from perdure_runtime.embedded import layout
    from perdure_runtime.embedded.storage import RocksStorage

    storage = RocksStorage(path)
    stored = layout.decode_identity(storage.get(layout.IDENTITY_KEY) or b"")
    assert stored.log_id == log_id
    unclean = layout.Identity(stored.log_id, stored.incarnation, False, stored.unclean)
    storage.write({layout.IDENTITY_KEY: layout.encode(unclean)}, [])
    storage.sync()
    storage.close()


def test_a_server_with_another_log_is_read_from_its_beginning(
    server: ServerProcess, client: RemoteLog, tmp_path: Path
) -> None:
    """Who starts a dev server in memory anew has lost everything; workers that live on must go on, too."""
    client.create_topics({"mine": COMMANDS}, 2)
    reader, producer = client.reader("r"), client.producer("p")
    mine = TopicPartition("mine", 1)
    reader.assign({PLACE: 0, mine: 0})
    for _ in range(3):
        assert producer.append([_record("old"), NewRecord("mine", 1, b"k", b"old")]).wait(10)
    _read(reader, 6)
    server.kill()
    server.start(tmp_path / "other")
    assert producer.append([_record("new"), NewRecord("mine", 1, b"k", b"new")]).wait(30)
    assert _read(reader, 2) == [b"new", b"new"]
    assert client.watermarks(mine) == (0, 1)


def test_while_the_server_is_away_questions_fail_in_bounded_time(
    server: ServerProcess, client: RemoteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "ANSWER_S_MAX", 0.05)
    reader = client.reader("r")
    reader.assign({PLACE: 0})
    server.kill()
    for question in (
        lambda: client.watermarks(PLACE),
        lambda: client.describe_topics(["t"]),
        lambda: client.create_topics({"u": COMMANDS}, 1),
        lambda: client.offset_for_time(PLACE, 0),
    ):
        with pytest.raises(LogUnavailableError, match=f"127.0.0.1:{server.port}.*perdure dev"):
            question()
    assert reader.poll(1, 0.01) == []


def test_what_waits_for_an_absent_server_is_bounded(
    server: ServerProcess, client: RemoteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "UNACKNOWLEDGED_BYTES_MAX", 10_000)
    producer = client.producer("p")
    server.kill()
    with pytest.raises(LogUnavailableError, match="perdure dev"):
        for _ in range(10):
            producer.append([_record("x" * 2_000)])


def test_an_append_that_the_server_refuses_fails_alone(client: RemoteLog) -> None:
    producer = client.producer("p")
    acks = [producer.append([NewRecord(topic, 0, b"k", b"v")]) for topic in ("t", "missing", "t")]
    assert producer.flush(10)
    assert all(ack.wait(10) for ack in acks)
    assert acks[0].offsets() == {PLACE: 0}
    assert "'missing' does not exist" in str(acks[1].error())
    with pytest.raises(LogError):
        acks[1].offsets()
    assert acks[2].offsets() == {PLACE: 1}


def test_a_large_call_goes_out_in_parts_and_is_acknowledged_as_one(client: RemoteLog) -> None:
    ack = client.producer("p").append([_record("x" * 3_000_000)] * 6)
    assert ack.wait(30)
    assert ack.offsets() == {PLACE: 5}


def test_an_append_sent_again_is_known() -> None:
    log = EmbeddedLog(None)
    try:
        log.create_topics({"t": COMMANDS}, 1)
        first = log._core.append([_record("a")], b"producer", 1)
        second = log._core.append([_record("b")], b"producer", 2)
        assert log._core.append([_record("a")], b"producer", 1) is first
        assert log._core.append([_record("b")], b"producer", 2) is second
        assert log._core.append([_record("c")], b"another", 1) is not first
        assert log.watermarks(PLACE) == (0, 3)
    finally:
        log.close()


def test_an_append_sent_again_after_a_restart_is_known(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "log")
    log.create_topics({"t": COMMANDS}, 1)
    assert log._core.append([_record("a")], b"producer", 1).wait(10)
    log.close()
    log = EmbeddedLog(tmp_path / "log")
    try:
        again = log._core.append([_record("a")], b"producer", 1)
        assert again.done() and again.error() is None
        assert again.last_offsets() is None
        with pytest.raises(LogError, match="before a restart"):
            again.offsets()
        assert log._core.append([_record("b")], b"producer", 2).wait(10)
        assert log.watermarks(PLACE) == (0, 2)
    finally:
        log.close()
