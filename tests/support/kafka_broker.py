"""Finds or starts the Kafka broker of a test session.

In this order: ``PERDURE_TEST_BOOTSTRAP``; a container, if an engine answers; a broker from Kafka's own jars
(:mod:`tests.support.kafka_native`). Called by the fixtures in ``tests/conftest.py``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from perdure.testing.kafka._containers import container_broker, container_engine_answers
from tests.support.kafka_native import BrokerUnavailableError, NativeBroker, NativeCluster

__all__ = ["BrokerUnavailableError", "NativeBroker", "NativeCluster", "broker_is_required", "session_bootstrap"]

_GIVEN_BROKER_ANSWER_S = 10


def broker_is_required() -> bool:
    """Whether a missing broker is a failure (CI) and not a reason to skip."""
    return os.environ.get("PERDURE_REQUIRE_KAFKA") == "1" or os.environ.get("CI", "").lower() in ("true", "1")


@contextlib.contextmanager
def session_bootstrap() -> Iterator[str]:
    """The bootstrap servers of a broker for the whole session.

    Raises:
        BrokerUnavailableError: there is none; the message says what was tried.
    """
    given = os.environ.get("PERDURE_TEST_BOOTSTRAP")
    if given:
        _check_given(given)
        yield given
    elif container_engine_answers():
        with container_broker() as bootstrap:
            yield bootstrap
    else:
        with NativeBroker() as broker:
            yield broker.bootstrap


def _check_given(bootstrap: str) -> None:
    try:
        AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=_GIVEN_BROKER_ANSWER_S)
    except KafkaException as error:
        raise BrokerUnavailableError(f"nobody answers at PERDURE_TEST_BOOTSTRAP={bootstrap}: {error}") from None
