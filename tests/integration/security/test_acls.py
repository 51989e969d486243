"""A workflow on a broker where nobody may do anything but what ``perdure topics acls`` prints.

And what is said when one of these is missing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from perdure import activity, workflow
from perdure.client import Client
from perdure.worker import Worker
from perdure_ops.acls import Principal, as_rows, needed_acls
from perdure_ops.cli import main
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.engine import Engine
from perdure_runtime.kafka import KafkaLog
from perdure_schemas.topics import TopicNames
from tests.integration.security.conftest import NAMES, lacking
from tests.support.kafka_secure import ADMIN, SecureBroker
from tests.support.processes import PythonProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

SAID_TIMEOUT_S = 60.0


@activity.defn
async def compose(name: str) -> str:
    return f"Hello, {name}!"


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(compose, name, start_to_close_timeout=timedelta(seconds=30))


@contextlib.asynccontextmanager
async def client_of(broker: SecureBroker, user: str) -> AsyncIterator[Client]:
    log = KafkaLog(broker.broker.bootstrap, broker.options(user))
    client = None
    try:
        client = await asyncio.to_thread(Client.from_log, log, namespace=NAMES.namespace)
        yield client
    finally:
        if client is not None:
            await client.close()
        await asyncio.to_thread(log.close)


@contextlib.asynccontextmanager
async def worker_of(broker: SecureBroker, user: str, task_queue: str) -> AsyncIterator[None]:
    async with (
        client_of(broker, user) as client,
        Worker(client, task_queue=task_queue, workflows=[Greeting], activities=[compose]),
    ):
        yield


def without(kind: Principal, user: str, index: int, names: TopicNames) -> list[dict[str, str]]:
    """All ACLs of a kind of process but one."""
    rows = as_rows(names, {kind: f"User:{user}"}, [kind])
    del rows[index]
    return rows


def phrases(kind: Principal, index: int, names: TopicNames) -> tuple[str, ...]:
    """One of these is in what is said when this ACL is missing: operation and resource, by name."""
    acl = needed_acls(names, kind)[index]
    needs = (f"allows {acl.operation} on the {acl.resource_type} {acl.name}",)
    if acl.operation in ("Read", "Write"):  # they include a look at the topic, which comes first
        needs += (f"allows Describe on the {acl.resource_type} {acl.name}",)
    return needs


def says(text: str, expected: tuple[str, ...]) -> bool:
    return any(phrase in text for phrase in expected)


async def wait_until_said(caplog: pytest.LogCaptureFixture, expected: tuple[str, ...]) -> None:
    deadline_s = asyncio.get_running_loop().time() + SAID_TIMEOUT_S
    while not says(caplog.text, expected):
        assert asyncio.get_running_loop().time() < deadline_s, f"none of {expected} in: {caplog.text[-3000:]}"
        await asyncio.sleep(0.05)


async def test_exactly_these_acls_are_enough(
    secure_broker: SecureBroker, secure_engine: PythonProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker_of(secure_broker, "worker", "greetings"), client_of(secure_broker, "client") as client:
        assert await client.execute_workflow(Greeting.run, "you", id="g", task_queue="greetings") == "Hello, you!"
        assert [found.id async for found in client.list_workflows()] == ["g"]
    assert "authorization failed" not in caplog.text.lower()
    assert "authorization failed" not in secure_engine.log_path.read_text().lower()


@pytest.mark.parametrize(("user", "index"), lacking(Principal.CLIENT))
async def test_a_client_without_one_of_them_is_told_which(
    secure_broker: SecureBroker,
    secure_engine: PythonProcess,
    caplog: pytest.LogCaptureFixture,
    user: str,
    index: int,
) -> None:
    secure_broker.allow(without(Principal.CLIENT, user, index, NAMES))
    expected = phrases(Principal.CLIENT, index, NAMES)
    if needed_acls(NAMES, Principal.CLIENT)[index].resource_type == "group":
        async with client_of(secure_broker, user) as client:
            await client.count_workflows()
            await wait_until_said(caplog, expected)
        return
    with pytest.raises(Exception, match="needs an ACL") as failed:
        async with client_of(secure_broker, user) as client:
            handle = await client.start_workflow(Greeting.run, "you", id=user, task_queue="nobody")
            await handle.terminate()
            await client.count_workflows()
    assert says(str(failed.value), expected)


@pytest.mark.parametrize(("user", "index"), lacking(Principal.WORKER))
async def test_a_worker_without_one_of_them_is_told_which(
    secure_broker: SecureBroker,
    secure_engine: PythonProcess,
    caplog: pytest.LogCaptureFixture,
    user: str,
    index: int,
) -> None:
    secure_broker.allow(without(Principal.WORKER, user, index, NAMES))
    expected = phrases(Principal.WORKER, index, NAMES)
    try:
        async with worker_of(secure_broker, user, f"queue-of-{user}"):
            await wait_until_said(caplog, expected)
    except Exception as error:
        assert says(str(error), expected), error


@pytest.mark.parametrize(("user", "index"), lacking(Principal.ENGINE))
async def test_an_engine_without_one_of_them_is_told_which(
    secure_broker: SecureBroker, caplog: pytest.LogCaptureFixture, tmp_path: Path, user: str, index: int
) -> None:
    names = TopicNames(namespace=f"lacking{index}", partitions=1)
    secure_broker.allow(without(Principal.ENGINE, user, index, names))
    acl = needed_acls(names, Principal.ENGINE)[index]
    if acl.resource_type == "transactional-id":
        pytest.skip("only the relay needs it, when a workflow emits")
    if acl.operation != "Create":
        admin = KafkaLog(secure_broker.broker.bootstrap, secure_broker.options(ADMIN))
        create_platform_topics(admin, names)
        admin.close()
    log = KafkaLog(secure_broker.broker.bootstrap, secure_broker.options(user))
    expected = phrases(Principal.ENGINE, index, names)
    if acl.operation == "Write":  # of no topic: the brokers do not even let it make a producer
        expected += ("allows Write on some topic",)
    engine = Engine(log, names, tmp_path, make_roles(ROLE_NAMES, names), instance="one")
    try:
        await asyncio.to_thread(create_platform_topics, log, names)
        await asyncio.to_thread(engine.start)
        await wait_until_said(caplog, expected)
    except Exception as error:
        assert says(str(error), expected), error
    finally:
        await asyncio.to_thread(engine.stop)
        await asyncio.to_thread(log.close)


# The first is for the group of readers, as for a client.
@pytest.mark.parametrize(("user", "index"), lacking(Principal.OPERATOR)[1:])
def test_an_operator_without_one_of_them_is_told_which(
    secure_broker: SecureBroker,
    secure_engine: PythonProcess,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    index: int,
) -> None:
    acl = needed_acls(NAMES, Principal.OPERATOR)[index]
    namespace = f"operated{index}"
    names = TopicNames(namespace=namespace, partitions=1)
    secure_broker.allow(without(Principal.OPERATOR, user, index, names))
    admin = KafkaLog(secure_broker.broker.bootstrap, secure_broker.options(ADMIN))
    if acl.operation != "Create":
        create_platform_topics(admin, names)
        admin.alter_topic(names.history, {"min.cleanable.dirty.ratio": "0.9", "cleanup.policy": "delete"})
    admin.close()
    for name, value in secure_broker.environment(user).items():
        monkeypatch.setenv(name, value)
    arguments = ["topics", "apply", "--yes", "--partitions", "1"] if acl.resource_type == "topic" else ["lag"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--address", secure_broker.address, "-n", namespace])
    said = capsys.readouterr().err
    assert ended.value.code == 1, said
    allowed = phrases(Principal.OPERATOR, index, names)
    if acl.operation == "AlterConfigs":  # it includes a look at the configuration, which comes first
        allowed += (f"allows DescribeConfigs on the topic perdure.{namespace}.",)
    assert says(said, allowed), said


def test_an_operator_makes_the_topics_and_reads_them(
    secure_broker: SecureBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = TopicNames(namespace="operated")
    secure_broker.allow(as_rows(names, {Principal.OPERATOR: "User:operator"}, [Principal.OPERATOR]))
    for name, value in secure_broker.environment("operator").items():
        monkeypatch.setenv(name, value)
    where = ["--address", secure_broker.address, "-n", "operated"]
    for command in (["apply", "--yes", "--partitions", "1"], ["describe", "-o", "json"]):
        with pytest.raises(SystemExit) as ended:
            main(["topics", command[0], *where, *command[1:]])
        assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert {row["topic"] for row in json.loads(printed[printed.index("[\n") :])} >= {names.commands, names.history}


def test_kafka_itself_refuses_a_stranger(secure_broker: SecureBroker, caplog: pytest.LogCaptureFixture) -> None:
    """The broker of these tests is really locked: without ACLs, and without a login, nothing is to be had."""
    caplog.set_level(logging.CRITICAL)
    unencrypted = KafkaLog(secure_broker.broker.bootstrap, {}, timeout_s=2)
    with pytest.raises(Exception, match="not available"):
        unencrypted.describe_topics([NAMES.commands])
    unencrypted.close()
    options = secure_broker.options("operator") | {"sasl.password": "wrong"}
    stranger = KafkaLog(secure_broker.broker.bootstrap, options, timeout_s=5)
    with pytest.raises(Exception, match="credentials"):
        stranger.describe_topics([NAMES.commands])
    stranger.close()
