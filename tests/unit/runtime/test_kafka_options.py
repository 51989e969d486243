"""Kafka options: what is refused, what comes from the environment, what each client gets, and that secrets stay
secret."""

from __future__ import annotations

import pytest

from perdure_runtime.connect import parse_address
from perdure_runtime.kafka import KafkaLog, options_from_environment
from perdure_runtime.kafka.options import admin_config, check_options, member_config, producer_config, reader_config
from perdure_runtime.kafka.options import without_secrets as hide
from perdure_runtime.log import LogError
from perdure_schemas.topics import RECORD_BYTES_MAX


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable.idempotence", "false"),
        ("enable.gapless.guarantee", "false"),
        ("acks", "1"),
        ("request.required.acks", "0"),
        ("message.timeout.ms", "30000"),
        ("enable.auto.commit", "true"),
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
        ("partition.assignment.strategy", "range"),
        ("group.protocol", "consumer"),
        ("allow.auto.create.topics", "true"),
        ("bootstrap.servers", "other:9092"),
        ("group.id", "mine"),
        ("transactional.id", "mine"),
        ("message.max.bytes", "1000000"),
        ("message.max.bytes", "many"),
    ],
)
def test_options_that_break_a_promise_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(LogError) as error:
        KafkaLog("127.0.0.1:1", {name: value})
    assert name in str(error.value)


def test_all_refusals_come_in_one_message() -> None:
    with pytest.raises(LogError) as error:
        check_options({"acks": "1", "group.id": "x", "linger.ms": "2"})
    assert "acks" in str(error.value)
    assert "group.id" in str(error.value)
    assert "linger.ms" not in str(error.value)


def test_options_that_repeat_what_is_set_anyway_are_fine() -> None:
    check_options({"acks": "all", "enable.idempotence": "True", "message.max.bytes": str(2 * RECORD_BYTES_MAX)})


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(LogError, match=r"no\.such\.option"):
        KafkaLog("127.0.0.1:1", {"no.such.option": "1"})


def test_security_options_come_from_the_environment() -> None:
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": "shop",
        "KAFKA_SSL_CA_LOCATION": "/ca.pem",
        "KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION": "false",
        "KAFKA_OPTS": "-Dx=y",
        "KAFKA_HOME": "/opt/kafka",
        "KAFKA_BROKER_ID": "1",
        "SASL_PASSWORD": "unrelated",
    }
    assert options_from_environment(environment) == {
        "security.protocol": "SASL_SSL",
        "sasl.username": "shop",
        "ssl.ca.location": "/ca.pem",
        "enable.ssl.certificate.verification": "false",
    }


def test_every_client_gets_connection_options_but_only_its_own_tuning() -> None:
    options = {"security.protocol": "SSL", "linger.ms": "3", "fetch.wait.max.ms": "9", "session.timeout.ms": "7000"}
    producer = producer_config("b:1", options)
    reader = reader_config("b:1", options)
    member = member_config("b:1", options, "group", "instance")
    admin = admin_config("b:1", options)
    assert {config["security.protocol"] for config in (producer, reader, member, admin)} == {"SSL"}
    assert {config["bootstrap.servers"] for config in (producer, reader, member, admin)} == {"b:1"}
    assert producer["linger.ms"] == "3"
    assert reader["fetch.wait.max.ms"] == "9"
    assert member["session.timeout.ms"] == "7000"
    assert "fetch.wait.max.ms" not in producer
    assert "linger.ms" not in reader
    assert "linger.ms" not in admin


def test_a_member_is_static_only_under_a_name() -> None:
    assert member_config("b:1", {}, "group", "engine-1")["group.instance.id"] == "engine-1"
    assert "group.instance.id" not in member_config("b:1", {}, "group", "")


def test_a_long_session_raises_the_poll_interval_that_may_not_be_shorter() -> None:
    assert member_config("b:1", {"session.timeout.ms": "90000"}, "g", "")["max.poll.interval.ms"] == 90_000
    given = {"session.timeout.ms": "6000", "max.poll.interval.ms": "7000"}
    assert member_config("b:1", given, "g", "")["max.poll.interval.ms"] == "7000"


def test_secrets_are_neither_shown_nor_logged() -> None:
    options = {"sasl.password": "hunter2", "ssl.key.password": "swordfish", "sasl.username": "shop"}
    assert hide("hunter2 and swordfish of shop", options) == "*** and *** of shop"
    log = KafkaLog("127.0.0.1:1", options, timeout_s=0.2)
    assert "hunter2" not in repr(log)
    assert "hunter2" not in str(vars(log).get("bootstrap"))
    with pytest.raises(LogError) as error:
        KafkaLog("127.0.0.1:1", {"sasl.password": "hunter2", "security.protocol": "hunter2"})
    assert "hunter2" not in str(error.value)


def test_errors_about_an_address_do_not_repeat_its_options() -> None:
    for address in ("kafka://?sasl.password=hunter2", "kafka://b:x?sasl.password=hunter2", "kafka://b:1?hunter2"):
        with pytest.raises(LogError) as error:
            parse_address(address)
        assert "hunter2" not in str(error.value)
