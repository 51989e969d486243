"""Addresses: which log they mean, and what a wrong one is answered."""

from __future__ import annotations

import pytest

from perdure_runtime.connect import (
    KafkaAddress,
    ServerAddress,
    create_platform_topics,
    names_of,
    open_log,
    parse_address,
    without_secrets,
)
from perdure_runtime.embedded import EmbeddedLog
from perdure_runtime.log import LogError, TopicConfigurationError
from perdure_schemas.topics import TOPICS, TopicNames


@pytest.mark.parametrize(
    ("address", "meaning"),
    [
        ("localhost:7233", ServerAddress("localhost", 7233)),
        (" dev.example.com ", ServerAddress("dev.example.com", 7233)),
        ("[::1]:9", ServerAddress("::1", 9)),
        ("[::1]", ServerAddress("::1", 7233)),
        ("kafka://b1:9092,b2", KafkaAddress("b1:9092,b2", {})),
        (
            "kafka://b1:9092/?security.protocol=SASL_SSL&sasl.password=a%26b",
            KafkaAddress("b1:9092", {"security.protocol": "SASL_SSL", "sasl.password": "a&b"}),
        ),
    ],
)
def test_an_address_says_which_log(address: str, meaning: ServerAddress | KafkaAddress) -> None:
    assert parse_address(address) == meaning


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("", "no host"),
        (":7233", "no host"),
        ("localhost:port", "'port' is not a port"),
        ("localhost:0", "'0' is not a port"),
        ("localhost:65536", "'65536' is not a port"),
        ("http://localhost:7233", "'http' is not a kind of log"),
        ("b1:9092,b2:9092", "several servers mean Kafka"),
        ("a b:1", "no host"),
        ("[::1", "IPv6"),
        ("kafka://", "no broker"),
        ("kafka://b1:x", "'x' is not a port"),
        ("kafka://b1?nonsense", "options cannot be read"),
    ],
)
def test_a_malformed_address_is_explained(address: str, complaint: str) -> None:
    with pytest.raises(LogError, match=complaint) as refusal:
        parse_address(address)
    assert repr(address.partition("?")[0]) in str(refusal.value)


@pytest.mark.parametrize(
    "address",
    [
        "kafka://b1:x?sasl.password=secret",
        "kafka://?sasl.password=secret",
        "kafka://b1:9092?sasl.password=secret&nonsense",
        "kafak://b1:9092?sasl.password=secret",
        "b1:9092,b2:9092?sasl.password=secret",
        "localhost:7233?sasl.password=secret",
        "localhost:secret@host:1",
        "kafka://user:secret@b1:9092",
        "kafka://b0:1,user:secret@b1:9092?x=1",
        "user:secret@b1:9092",
    ],
)
def test_no_error_about_an_address_repeats_a_secret(address: str) -> None:
    with pytest.raises(LogError) as refusal:
        parse_address(address)
    assert "secret" not in str(refusal.value)
    assert "secret" not in without_secrets(address)


def test_what_is_shown_of_an_address_still_says_which_it_is() -> None:
    assert without_secrets("kafka://b1:9092,b2?sasl.password=x") == "kafka://b1:9092,b2"
    assert without_secrets(" localhost:7233 ") == "localhost:7233"
    assert without_secrets("kafka://u:p@b1:1,u:p@b2:2") == "kafka://b1:1,b2:2"


def test_the_environment_gives_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_ADDRESS", "nonsense://x")
    with pytest.raises(LogError, match="'nonsense' is not a kind of log"):
        open_log()


def test_a_dev_server_takes_no_options() -> None:
    with pytest.raises(LogError, match="linger"):
        open_log("localhost:1", options={"linger": "1"})


def test_topics_of_a_namespace_are_created_once_and_found_again() -> None:
    log = EmbeddedLog(None)
    try:
        with pytest.raises(LogError, match="no Perdure engine has created topics for namespace 'shop'"):
            names_of(log, "shop")
        names = TopicNames("shop", partitions=3)
        create_platform_topics(log, names)
        create_platform_topics(log, names)
        assert names_of(log, "shop") == names
        assert len(log.describe_topics([names.of(spec) for spec in TOPICS])) == len(TOPICS)
        with pytest.raises(TopicConfigurationError, match="has 3"):
            create_platform_topics(log, TopicNames("shop", partitions=4))
    finally:
        log.close()
