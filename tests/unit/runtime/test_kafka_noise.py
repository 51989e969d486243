"""What the Kafka client library logs while no broker is there, and what is left of it."""

from __future__ import annotations

import logging

from perdure_runtime.kafka.errors import NOISE_INTERVAL_S, ClientNoiseFilter

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
