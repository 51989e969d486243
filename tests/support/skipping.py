"""What a test does when a broker or Java is missing. Called by fixtures and by tests that start their own."""

from __future__ import annotations

from typing import NoReturn

import pytest

from tests.support.kafka_broker import BrokerUnavailableError, broker_is_required


def skip_without_broker(error: BrokerUnavailableError) -> NoReturn:
    """Skip, or fail where a broker is required."""
    if broker_is_required():
        pytest.fail(f"Kafka is required (CI or PERDURE_REQUIRE_KAFKA=1), but: {error}", pytrace=False)
    pytest.skip(f"no Kafka broker: {error}")


def skip_without_java(error: Exception) -> NoReturn:
    """Skip, or fail where a broker, and so Java, is required."""
    if broker_is_required():
        pytest.fail(f"Java is required (CI or PERDURE_REQUIRE_KAFKA=1), but: {error}", pytrace=False)
    pytest.skip(f"no Java worker: {error}")
