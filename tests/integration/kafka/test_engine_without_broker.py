"""An engine whose broker goes away for good: it can still be stopped."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from perdure_ops.roles import ROLE_NAMES, make_roles
from perdure_runtime.connect import create_platform_topics
from perdure_runtime.engine import STOP_TIMEOUT_S, Engine
from perdure_runtime.kafka import KafkaLog
from perdure_schemas.topics import TopicNames
from tests.support.kafka_broker import NativeBroker

pytestmark = pytest.mark.kafka

#: Looser than the engine's own bound, because the machine of a test run may be busy; the figure is printed.
STOP_S_MAX = 2 * STOP_TIMEOUT_S


def test_an_engine_stops_in_bounded_time_while_the_broker_is_down(kafka_broker: NativeBroker, tmp_path: Path) -> None:
    log = KafkaLog(kafka_broker.bootstrap)
    names = TopicNames(partitions=2)
    create_platform_topics(log, names)
    engine = Engine(log, names, tmp_path, make_roles(ROLE_NAMES, names), instance="one")
    engine.start()
    assert engine.wait_ready(60)
    kafka_broker.kill()
    begun_s = time.monotonic()
    engine.stop()
    stopped_s = time.monotonic()
    log.close()
    closed_s = time.monotonic()
    print(f"stopped after {stopped_s - begun_s:.1f} s, log closed after {closed_s - stopped_s:.1f} s more")
    assert stopped_s - begun_s < STOP_S_MAX
    assert closed_s - stopped_s < STOP_S_MAX
