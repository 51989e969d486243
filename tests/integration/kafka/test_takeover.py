"""Hot standbys on Kafka: after a stop and after SIGKILL the partitions are taken over without folding them again."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from perdure.client import Client, WorkflowExecutionStatus
from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.engine import Engine
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import TopicPartition
from perdure_schemas.topics import TopicNames
from tests.support.processes import PythonProcess
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

PARTITIONS = 2
WORKFLOWS = 40
DEADLINE_S = 90.0
SESSION_TIMEOUT_MS = "6000"


def states(engine: Engine) -> list[str]:
    return [status.state for status in engine.status()]


def everything_is_folded(engine: Engine, log: KafkaLog) -> bool:
    """Whether the standbys of HISTORY stand at the end of their partitions."""
    followed = engine._processors["history"]._standbys._followed
    return bool(followed) and all(
        found.folding.position >= log.watermarks(TopicPartition(engine._names.history, partition))[1]
        for partition, found in list(followed.items())
    )


@pytest.mark.parametrize("how", ["terminate", "kill"])
async def test_a_hot_standby_folds_nothing_but_marks_when_it_takes_over(
    kafka_bootstrap: str, tmp_path: Path, how: str
) -> None:
    names = TopicNames(namespace=f"h{uuid.uuid4().hex[:10]}", partitions=PARTITIONS)
    log = KafkaLog(kafka_bootstrap, {"session.timeout.ms": SESSION_TIMEOUT_MS})
    create_platform_topics(log, names)
    arguments = ["-m", "perdure_ops", "server", "--address", f"kafka://{kafka_bootstrap}", "--instance", "victim"]
    arguments += ["--namespace", names.namespace, "--state-dir", str(tmp_path / "victim")]
    arguments += ["--session-timeout-ms", SESSION_TIMEOUT_MS]
    victim = PythonProcess("victim", arguments, tmp_path, ready="ready")
    engine = Engine(log, names, tmp_path / "state", make_roles(ROLE_NAMES, names), instance="heir", standbys=True)
    client = Client.from_log(log, namespace=names.namespace)
    try:
        victim.start(DEADLINE_S)
        engine.start()
        await until(
            lambda: sorted(states(engine)) == ["live"] * 3 + ["standby"] * 3, "each owns half, the heir follows"
        )
        for number in range(WORKFLOWS):
            await client.start_workflow("Nobody", id=f"w{number}", task_queue="nobody")
        await until(lambda: everything_is_folded(engine, log), "the standby has folded everything")
        before = engine.stats()
        before_folded, before_taken = before["history"].folded, before["history"].takeovers
        assert before["history"].standby_folded >= 1

        getattr(victim, how)()
        await until(lambda: states(engine) == ["live"] * 6, "the heir owns all")

        after = engine.stats()["history"]
        assert after.takeovers - before_taken == 1
        assert after.folded - before_folded == 1, "the mark of the takeover, and no record of a workflow"
        assert after.standby_partitions == 0
        for number in range(WORKFLOWS):
            found = await client.get_workflow_handle(f"w{number}").describe()
            assert found.status is WorkflowExecutionStatus.RUNNING
    finally:
        await client.close()
        engine.stop()
        if victim.running:
            victim.kill()
        log.close()
