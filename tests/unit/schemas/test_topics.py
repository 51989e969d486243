"""Topics are declared once: the declaration is consistent, and no other source spells a topic by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure_schemas import topics
from perdure_schemas.avro import TOP_LEVEL
from perdure_schemas.topics import TOPICS, WORK, Cleanup, TopicNames, TopicSpec

ROOT = Path(__file__).resolve().parents[3]
_all = (*TOPICS, WORK)
_by_topic = pytest.mark.parametrize("spec", _all, ids=lambda spec: spec.name)
_ROLES = {"client", "worker", "history", "matching", "timers", "read side", "operator", "anyone"}
#: Tasks travel as opaque bytes inside TaskRecord and RunTask, so they stand in no topic by themselves.
_INSIDE_OTHERS = {"WorkflowTask", "QueryTask", "ActivityTask"}


def _declared() -> list[TopicSpec]:
    return [value for value in vars(topics).values() if isinstance(value, TopicSpec)]


def test_every_declared_topic_is_created_or_is_a_family() -> None:
    assert sorted(spec.name for spec in _declared()) == sorted(spec.name for spec in _all)


def test_names_are_unique_and_legal() -> None:
    names = [spec.name for spec in _all]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z-]+", name) for name in names)


@_by_topic
def test_records_of_a_topic_are_top_level_types(spec: TopicSpec) -> None:
    assert spec.records
    assert set(spec.records) <= {record.__name__ for record in TOP_LEVEL}


def test_every_top_level_type_has_a_topic() -> None:
    in_topics = {name for spec in _all for name in spec.records}
    assert {record.__name__ for record in TOP_LEVEL} - in_topics == _INSIDE_OTHERS


@_by_topic
def test_producers_and_consumers_are_known_roles(spec: TopicSpec) -> None:
    assert spec.producers and spec.consumers
    assert set(spec.producers) | set(spec.consumers) <= _ROLES


@_by_topic
def test_keys_of_compacted_topics_are_fenced_and_others_expire_or_are_kept_on_purpose(spec: TopicSpec) -> None:
    config = spec.config()
    assert config["cleanup.policy"] == spec.cleanup.value
    if spec.cleanup is Cleanup.COMPACT:
        # Deployments are changed by operators; what matching adds there is the same whoever adds it.
        assert "<epoch>" in spec.key or spec is topics.DEPLOYMENTS
        assert "OwnerMark" in spec.records, "without marks a late record of a deposed owner could not be told"
        assert "retention.ms" not in config
        assert int(config["delete.retention.ms"]) >= 3_600_000
    else:
        assert config["retention.ms"] == str(spec.retention_ms)
        assert "delete.retention.ms" not in config


@_by_topic
def test_the_broker_accepts_the_largest_record(spec: TopicSpec) -> None:
    assert int(spec.config()["max.message.bytes"]) >= topics.RECORD_BYTES_MAX


def test_extra_configuration_wins() -> None:
    spec = TopicSpec("x", "y", "z", Cleanup.DELETE, ("Reply",), ("history",), ("client",), extra_config={"a": "1"})
    assert spec.config()["a"] == "1"


def test_each_name_property_is_the_name_of_its_topic() -> None:
    names = TopicNames(namespace="prod", prefix="acme", partitions=3)
    for spec in TOPICS:
        assert getattr(names, spec.name.replace("-", "_")) == f"acme.prod.{spec.name}" == names.of(spec)


def test_namespaces_do_not_share_topics() -> None:
    one, two = TopicNames(namespace="a"), TopicNames(namespace="b")
    assert not {one.of(spec) for spec in _all} & {two.of(spec) for spec in _all}


@given(st.text(min_size=1, max_size=400))
def test_any_task_queue_has_a_legal_inbox_topic(task_queue: str) -> None:
    name = TopicNames().work(task_queue)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name)
    assert name.startswith("perdure.default.work.")
    assert name == TopicNames().work(task_queue)


@given(st.text(alphabet="aä/_-.", min_size=1, max_size=6), st.text(alphabet="aä/_-.", min_size=1, max_size=6))
def test_two_task_queues_never_share_an_inbox_topic(one: str, two: str) -> None:
    assert (TopicNames().work(one) == TopicNames().work(two)) is (one == two)


def test_a_plain_task_queue_keeps_its_name() -> None:
    assert TopicNames().work("payments-eu.1") == "perdure.default.work.payments-eu.1"


def test_topics_are_declared_in_one_module_only() -> None:
    packages = ("broker-schemas", "runtime", "history", "matching", "timers", "worker-sdk", "ops")
    sources = [path for folder in packages for path in (ROOT / folder).rglob("*.py")]
    assert sources
    home = ROOT / "broker-schemas" / "perdure_schemas" / "topics.py"
    declaring = [
        path for path in sources if path != home and re.search(r"""\bTopicSpec\(\s*(name=)?["']""", path.read_text())
    ]
    assert not declaring
    spelled = re.compile(
        r"""["']perdure\.[a-z{}]+\.(commands|history|tasks|timers|workers|replies|executions|work)\b"""
    )
    spelling = [path for path in sources if path != home and spelled.search(path.read_text())]
    assert not spelling, "build topic names with TopicNames"
