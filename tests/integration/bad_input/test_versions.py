"""What another version wrote or says: earlier things are read, newer ones refused with what to do."""

from __future__ import annotations

import asyncio
import json
import socket
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest

from perdure.client import Client
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.embedded.layout import FORMAT_VERSION
from perdure_runtime.engine import Engine
from perdure_runtime.log import LogError
from perdure_runtime.newer import NewerVersionError
from perdure_runtime.remote import RemoteLog, protocol
from perdure_runtime.store import StateStore, StateStoreError
from perdure_schemas import codec, keys
from perdure_schemas.records import Command, DescribeWorkflow
from perdure_schemas.topics import COMMANDS, TopicNames
from tests.integration.bad_input.records import Stranger, check_that_workflows_complete
from tests.support.platform import running_engine

#: The framing of a schema that nobody has written yet, around something.
NEWER = codec.SINGLE_OBJECT_MARKER + b"\x01\x02\x03\x04\x05\x06\x07\x08" + b"whatever"
WAIT_S = 60.0


def _failure_of_an_engine(log: EmbeddedLog, names: TopicNames) -> BaseException | None:
    """What keeps an engine from becoming ready."""
    failed = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(log, names, Path(folder), make_roles(ROLE_NAMES, names), instance="old")
        engine.start()
        try:
            for _ in range(int(WAIT_S * 20)):
                if engine.failure() is not None:
                    return engine.failure()
                failed.wait(0.05)
            return None
        finally:
            engine.stop()


@pytest.mark.parametrize("topic", ["history", "tasks", "timers"])
async def test_records_of_a_newer_engine_are_refused_and_not_lost(task_queue: str, topic: str) -> None:
    log = EmbeddedLog(None)
    names = TopicNames(partitions=1)
    try:
        with running_engine(log, names):
            await check_that_workflows_complete(Client.from_log(log), f"{task_queue}-before", 1)
        stranger = Stranger(log, names)
        stranger.write(getattr(names, topic), 0, keys.fenced_key("run/0000000001", 0, 10**9), NEWER)
        failure = await asyncio.to_thread(_failure_of_an_engine, log, names)
        assert isinstance(failure, NewerVersionError)
        assert f"of {getattr(names, topic)} 0 was written by a newer version of perdure" in str(failure)
        assert "0102030405060708" in str(failure)
        assert not stranger.letters()
    finally:
        log.close()


async def test_a_command_of_a_newer_client_fails_alone(task_queue: str) -> None:
    log = EmbeddedLog(None)
    names = TopicNames(partitions=1)
    try:
        with running_engine(log, names):
            stranger = Stranger(log, names)
            # A workflow id may look like an engine's key.
            offset = stranger.write(names.commands, 0, b"order@0.5", NEWER)
            letter = await asyncio.to_thread(stranger.letter, names.commands, 0, offset)
            assert "a newer version of perdure wrote it; upgrade this one" in letter.reason
            assert letter.value == NEWER
            await check_that_workflows_complete(Client.from_log(log), task_queue, 1)
    finally:
        log.close()


def test_every_schema_that_was_ever_released_is_known() -> None:
    for path in codec.VERSIONS_FOLDER.glob("*/*.avsc"):
        header = codec.SINGLE_OBJECT_MARKER + codec.fingerprint(json.loads(path.read_text()))
        # Whatever the body: the schema is not the reason.
        with pytest.raises(codec.DecodeError) as refused:
            codec.decode(header + b"\xff" * 12)
        assert not isinstance(refused.value, codec.UnknownSchemaError)
    assert isinstance(codec.decode_as(codec.encode(_command()), Command), Command)


def _command() -> Command:
    return Command(command_id="c", workflow_id="w", body=DescribeWorkflow())


@pytest.mark.parametrize(("stored", "fits"), [(1, True), (2, False), (3, False)])
def test_a_state_folder_of_another_version_is_refused_or_deleted_by_hand(
    tmp_path: Path, stored: int, fits: bool
) -> None:
    StateStore(tmp_path / "s", version=stored).close()
    if fits:
        StateStore(tmp_path / "s", version=1).close()
    else:
        with pytest.raises(StateStoreError, match=f"layout version {stored}, this program has version 1; delete"):
            StateStore(tmp_path / "s", version=1)


def test_an_embedded_log_of_a_newer_version_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure_runtime.embedded.layout.FORMAT_VERSION", FORMAT_VERSION + 1)
    log = EmbeddedLog(tmp_path / "log")
    log.create_topics({"t": COMMANDS}, 1)
    log.close()
    monkeypatch.undo()
    with pytest.raises(LogError, match=f"format version {FORMAT_VERSION + 1}, this program reads version"):
        EmbeddedLog(tmp_path / "log")
    monkeypatch.setattr("perdure_runtime.embedded.layout.FORMAT_VERSION", FORMAT_VERSION + 1)
    log = EmbeddedLog(tmp_path / "log")
    assert list(log.describe_topics(["t"])) == ["t"]
    log.close()


class _LaterHello(msgspec.Struct, array_like=True, tag="hello"):
    """What a client of a later version may say first: more than today's."""

    version: int
    client: str
    producer_id: bytes
    compression: str = "zstd"
    features: list[str] = []


def test_a_client_of_another_version_is_told_both_versions() -> None:
    log = EmbeddedLog(None)
    try:
        server = log.serve("127.0.0.1", 0)
        for version in (protocol.PROTOCOL_VERSION - 1, protocol.PROTOCOL_VERSION + 1):
            with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as connection:
                hello = _LaterHello(version, "later", b"p", features=["x"])
                connection.sendall(protocol.PREFACE + protocol.frame(hello))
                frames = protocol.FrameReader(connection, 4096)
                refused = protocol.decode_greeting(frames.next() or b"")
            assert isinstance(refused, protocol.Refused)
            assert f"version {protocol.PROTOCOL_VERSION}, the client version {version}" in refused.reason
    finally:
        log.close()


def test_a_server_of_another_version_is_named_by_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    log = EmbeddedLog(None)
    try:
        server = log.serve("127.0.0.1", 0)
        monkeypatch.setattr("perdure_runtime.remote.protocol.PROTOCOL_VERSION", 99)
        # Both sides read the same module here, so the server is asked with yesterday's number.
        monkeypatch.setattr("perdure_runtime.remote.protocol.Hello", _yesterdays_hello)
        with pytest.raises(LogError, match="install the same version of perdure on both sides"):
            RemoteLog("127.0.0.1", server.port, connect_timeout_s=WAIT_S)
    finally:
        log.close()


def _yesterdays_hello(version: int, client: str, producer_id: bytes) -> msgspec.Struct:
    return _LaterHello(version - 1, client, producer_id)
