"""What is set for a task queue: how it is changed, refused, written and shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from perdure_ops.errors import CliError
from perdure_ops.queue_config import ConfigView, Wanted, read_config, write_config
from perdure_ops.queue_flow import key_rows
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import NewRecord
from perdure_schemas import keys, limits
from perdure_schemas.records import FairnessKeyConfig, TaskQueueConfig, TaskRecord
from perdure_schemas.topics import TOPICS, TopicNames

NAMES = TopicNames(partitions=3)
NOTHING = TaskQueueConfig(task_queue="q", task_type="activity", time_ms=0)


@pytest.fixture
def log() -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(None)
    log.create_topics({NAMES.of(spec): spec for spec in TOPICS}, NAMES.partitions)
    yield log
    log.close()


def test_a_change_leaves_what_it_does_not_name() -> None:
    config = Wanted(queue_rps="5", key_weights=("a=2", "b=0.5"), key_concurrency=("a=3",)).apply(NOTHING)
    config = Wanted(key_rps_default="1.5", key_rps=("x=y=7",), key_weights=("a=default",)).apply(config)
    assert config == replace(
        NOTHING,
        queue_rate=5.0,
        key_rate_default=1.5,
        keys=[
            FairnessKeyConfig(fairness_key="a", concurrency=3),
            FairnessKeyConfig(fairness_key="b", weight=0.5),
            FairnessKeyConfig(fairness_key="x=y", rate=7.0),
        ],
    )
    back = Wanted(
        queue_rps="default",
        key_rps_default="default",
        key_weights=("b=default",),
        key_rps=("x=y=default",),
        key_concurrency=("a=default",),
    )
    assert back.apply(config) == NOTHING


def test_the_empty_key_is_that_of_tasks_without_one() -> None:
    config = Wanted(key_concurrency=("=4",)).apply(NOTHING)
    assert config.keys == [FairnessKeyConfig(fairness_key="", concurrency=4)]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(), "nothing to set"),
        (Wanted(queue_rps="fast"), "--queue-rps-limit: 'fast': it has to be a number, 0 to 1,000,000, or 'default'"),
        (Wanted(queue_rps="-1"), "--queue-rps-limit: '-1': it has to be a number, 0 to 1,000,000"),
        (Wanted(queue_rps="nan"), "it has to be a number"),
        (Wanted(key_rps_default="inf"), "--fairness-key-rps-limit-default: 'inf'"),
        (Wanted(key_concurrency_default="1.5"), "it has to be a whole number"),
        (Wanted(key_concurrency=("a=-1",)), "--fairness-key-concurrency: '-1'"),
        (Wanted(key_weights=("a=0",)), "--fairness-key-weight: '0': it has to be a number, 0.001 to 1,000"),
        (Wanted(key_weights=("a",)), "--fairness-key-weight: 'a' is not KEY=NUMBER"),
        (Wanted(key_rps=("k" * 65 + "=1",)), "at most 64 bytes"),
    ],
)
def test_what_is_no_setting_is_refused(wanted: Wanted, message: str) -> None:
    with pytest.raises(CliError) as error:
        wanted.apply(NOTHING)
    assert message in str(error.value)


@pytest.mark.parametrize("under", [0, 1])
def test_rates_and_concurrency_end_at_their_bounds(under: int) -> None:
    rate, count = limits.FLOW_RATE_MAX - under, limits.FLOW_CONCURRENCY_MAX - under
    config = Wanted(queue_rps=str(rate), key_concurrency_default=str(count)).apply(NOTHING)
    assert (config.queue_rate, config.key_concurrency_default) == (rate, count)
    for wanted in (
        Wanted(queue_rps=str(limits.FLOW_RATE_MAX + 1)),
        Wanted(key_concurrency_default=str(limits.FLOW_CONCURRENCY_MAX + 1)),
    ):
        with pytest.raises(CliError, match="number, 0 to 1,000,000, or"):
            wanted.apply(NOTHING)


def test_workflow_tasks_have_no_concurrency() -> None:
    config = replace(NOTHING, task_type="workflow")
    assert Wanted(queue_rps="3").apply(config).queue_rate == 3.0
    with pytest.raises(CliError, match="for activities only"):
        Wanted(key_concurrency_default="3").apply(config)


def test_there_are_not_more_keys_than_the_bound() -> None:
    many = tuple(f"k{number}=2" for number in range(limits.FLOW_KEYS_MAX))
    config = Wanted(key_weights=many).apply(NOTHING)
    with pytest.raises(CliError, match="1001 fairness keys would have settings"):
        Wanted(key_weights=("one-more=1",)).apply(config)


def test_a_change_is_written_and_read(log: EmbeddedLog) -> None:
    before = read_config(log, NAMES, "q")
    config = replace(NOTHING, queue_rate=2.0, identity="me")
    write_config(log, NAMES, before, "activity", config)
    written = read_config(log, NAMES, "q")
    assert written.configs == {"activity": config}
    assert read_config(log, NAMES, "p").configs == {}
    write_config(log, NAMES, written, "activity", None)
    assert read_config(log, NAMES, "q").configs == {}


def test_of_two_changes_at_a_time_one_is_told(log: EmbeddedLog) -> None:
    before = read_config(log, NAMES, "q")
    write_config(log, NAMES, before, "workflow", replace(NOTHING, task_type="workflow", identity="a third"))
    write_config(log, NAMES, before, "activity", replace(NOTHING, queue_rate=2.0, identity="the other one"))
    with pytest.raises(CliError, match="was changed by the other one at the same time"):
        write_config(log, NAMES, before, "activity", replace(NOTHING, queue_rate=3.0, identity="me"))


def test_each_key_shows_what_waits_runs_and_is_blocked() -> None:
    view = ConfigView("q")
    view.configs["activity"] = Wanted(
        key_concurrency=("full=2",), key_rps=("slow=1",), key_weights=("heavy=4",), key_concurrency_default="5"
    ).apply(NOTHING)
    view.configs["activity"] = Wanted(key_rps=("off=0",)).apply(view.configs["activity"])
    tasks = {
        f"r/a{key}{number}.1": TaskRecord(
            task_id=f"r/a{key}{number}.1",
            task_queue="q",
            kind="activity",
            workflow_id="w",
            run_id="r",
            scheduled_event_id=5,
            created_time_ms=1,
            body=b"",
            fairness_key=key,
            held=key == "held",
        )
        for key, count in {"full": 6, "slow": 3, "off": 1, "heavy": 2, "held": 1}.items()
        for number in range(count)
    }
    running = ["r/afull0.1", "r/afull1.1", "r/aslow0.1", "r/aheavy0.1"]
    rows = {row["fairness_key"]: row for row in key_rows(tasks, running, {"activity": 9}, view)}
    shown = {key: (row["queued"], row["running"], row["blocked"], row["blocked_by"]) for key, row in rows.items()}
    assert shown == {
        "full": (4, 2, 4, "concurrency"),
        "slow": (2, 1, 2, "key rate"),
        "off": (1, 0, 1, "stopped"),
        "heavy": (1, 1, 0, ""),
        "held": (0, 0, 0, ""),
    }
    assert next(iter(rows)) == "full"
    assert (rows["heavy"]["weight"], rows["full"]["weight"]) == (4.0, 1.0)
    busy = {row["fairness_key"]: row["blocked_by"] for row in key_rows(tasks, running, {"activity": 0}, view)}
    assert busy["slow"] == ""  # it may wait for a slot


def test_settings_that_cannot_be_read_are_passed_over(log: EmbeddedLog) -> None:
    producer = log.producer("test")
    partition = keys.partition_of("q", 3)
    key = keys.queue_config_key("q", "activity")
    producer.append([NewRecord(NAMES.deployments, partition, key, b"nonsense")]).wait(30.0)
    producer.close()
    assert read_config(log, NAMES, "q").configs == {}
