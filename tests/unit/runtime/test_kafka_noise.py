"""What the Kafka client library logs while no broker is there, and what is left of it."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import KafkaError

from perdure_runtime.kafka.errors import NOISE_INTERVAL_S, ClientNoiseFilter, ErrorTranslator

FAILED = "FAIL [perdure#%s-%d] [thrd:127.0.0.1:9]: 127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed"


def record(text: str, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("perdure.kafka.client", level, __file__, 1, text, (), None)


def test_a_broker_that_is_away_is_one_warning_for_each_client_and_minute() -> None:
    now_s = [1_000.0]
    noise = ClientNoiseFilter(lambda: now_s[0])
    first = record(FAILED % ("consumer", 3))
    assert noise.filter(first)
    assert (first.levelno, first.levelname) == (logging.WARNING, "WARNING")
    assert not noise.filter(record(FAILED % ("consumer", 3)))
    assert noise.filter(record(FAILED % ("producer", 3))), "another client"
    now_s[0] += NOISE_INTERVAL_S - 1
    assert not noise.filter(record("FAIL [perdure#consumer-3] [thrd:b2:9]: another broker"))
    now_s[0] += 1
    assert noise.filter(record(FAILED % ("consumer", 3)))


def test_a_quieter_level_stays_as_it_is() -> None:
    info = record("GETSUBSCRIPTIONS [perdure#consumer-1]: x", logging.INFO)
    assert ClientNoiseFilter().filter(info)
    assert info.levelno == logging.INFO


def test_a_setting_chosen_on_purpose_is_not_warned_of() -> None:
    text = "CONFWARN [perdure#producer-1] [thrd:app]: Configuration property enable.gapless.guarantee is experimental"
    assert not ClientNoiseFilter().filter(record(text))


def test_clients_that_come_and_go_take_no_memory() -> None:
    noise = ClientNoiseFilter(lambda: 0.0)
    for number in range(2_500):
        assert noise.filter(record(FAILED % ("producer", number)))
    assert len(noise._silent_until_s) <= 1_000


def test_errors_that_come_in_turns_are_one_warning_for_each_client_and_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = [1_000.0]
    errors = ErrorTranslator("b:9", {}, lambda: now_s[0])
    reader, producer = errors.observe("reader r"), errors.observe("producer p")
    for number in range(10):
        reader(KafkaError(KafkaError._TRANSPORT, f"refused after {number} ms"))
        reader(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
        producer(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert len(caplog.records) == 2
    assert "1/1 brokers are down" in str(errors.unavailable("ask", "no answer"))
    now_s[0] += NOISE_INTERVAL_S
    reader(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert len(caplog.records) == 3
