"""A server on topics that are not as they must be: it refuses to start, and says which, why, and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure_ops.server import ServerOptions, prepare_topics
from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import TopicConfigurationError
from perdure_schemas.topics import COMMANDS, HISTORY, Cleanup, TopicNames

pytestmark = pytest.mark.kafka


def options(bootstrap: str, namespace: str, partitions: int | None) -> ServerOptions:
    return ServerOptions(address=f"kafka://{bootstrap}", namespace=namespace, partitions=partitions)


def test_a_wrong_partition_count(kafka_bootstrap: str, kafka_namespace: str) -> None:
    assert prepare_topics(options(kafka_bootstrap, kafka_namespace, 2)).partitions == 2
    with pytest.raises(TopicConfigurationError, match=r"partitions is 2, not 3.*Use the number") as refusal:
        prepare_topics(options(kafka_bootstrap, kafka_namespace, 3))
    assert f"perdure.{kafka_namespace}.commands" in str(refusal.value)


def test_a_topic_whose_partitions_differ_from_the_others(kafka_bootstrap: str, kafka_namespace: str) -> None:
    names = TopicNames(kafka_namespace, partitions=2)
    log = KafkaLog(kafka_bootstrap)
    log.create_topics({names.commands: COMMANDS}, 2)
    log.create_topics({names.history: HISTORY}, 5)
    with pytest.raises(TopicConfigurationError, match=rf"{names.history}.*partitions is 5, not 2"):
        prepare_topics(options(kafka_bootstrap, kafka_namespace, None))
    assert set(log.describe_topics([names.tasks])) == set(), "nothing was made"
    log.close()


def test_a_wrong_cleanup_policy(kafka_bootstrap: str, kafka_namespace: str) -> None:
    names = TopicNames(kafka_namespace, partitions=2)
    log = KafkaLog(kafka_bootstrap)
    log.create_topics({names.history: replace(HISTORY, cleanup=Cleanup.DELETE)}, 2)
    with pytest.raises(TopicConfigurationError, match=rf"{names.history}.*cleanup\.policy is delete, not compact"):
        prepare_topics(options(kafka_bootstrap, kafka_namespace, 2))
    log.close()
