"""Which librdkafka options the clients are made with, and which ones users may set.

Pure. Users may pass any librdkafka option through, but those that would break what the platform promises are refused
with the reason, before any connection is made. Secrets never reach a message: see :func:`without_secrets`.
Called by :mod:`perdure_runtime.kafka.log` and :mod:`perdure_runtime.connect`.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure_runtime.log import LogError
from perdure_schemas.topics import RECORD_BYTES_MAX

_ENVIRONMENT_PREFIX = "KAFKA_"
#: Only these families are taken from the environment: KAFKA_OPTS, KAFKA_HOME and the like belong to others.
_ENVIRONMENT_FAMILIES = (
    "security.",
    "sasl.",
    "ssl.",
    "https.",
    "enable.ssl.",
    "enable.sasl.",
    "client.",
    "broker.address.",
    "socket.",
    "reconnect.",
)

_TRUE = ("true", "1", "t")
_FALSE = ("false", "0", "f")
#: Option → the values that keep the platform's promises, and why others do not.
_FIXED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "enable.idempotence": (_TRUE, "a retry could double or reorder records"),
    "enable.gapless.guarantee": (_TRUE, "a failed batch could be skipped without anybody noticing"),
    "acks": (("all", "-1"), "an acknowledged record could be lost"),
    "request.required.acks": (("all", "-1"), "an acknowledged record could be lost"),
    "message.timeout.ms": (("0",), "a record given up after a time-out leaves a gap in the log"),
    "delivery.timeout.ms": (("0",), "a record given up after a time-out leaves a gap in the log"),
    "enable.auto.commit": (_FALSE, "offsets are committed by what was really processed"),
    "enable.auto.offset.store": (_FALSE, "offsets are committed by what was really processed"),
    "auto.offset.reset": (("error",), "a reset would skip records silently"),
    "isolation.level": (("read_uncommitted",), "the platform writes to its own topics without transactions"),
    "enable.partition.eof": (_FALSE, "it makes readers wake up for nothing"),
    "allow.auto.create.topics": (_FALSE, "topics are created with the configuration they need"),
    "partition.assignment.strategy": (("cooperative-sticky",), "all members must use the same strategy"),
    "group.protocol": (("classic",), "static members could not hand over at a stop"),
    "delivery.report.only.error": (_FALSE, "acknowledgements are counted"),
}
#: Options that the adapter alone decides, and what to use instead.
_RESERVED: Mapping[str, str] = {
    "bootstrap.servers": "give the brokers in the address: kafka://host:port,host:port",
    "metadata.broker.list": "give the brokers in the address: kafka://host:port,host:port",
    "group.id": "groups are named by the platform",
    "group.instance.id": "it is the engine's instance name",
    "transactional.id": "the platform names the transactions of its relay itself",
}
_PRODUCER_FAMILIES = (
    "linger.",
    "batch.",
    "compression.",
    "queue.buffering.",
    "sticky.",
    "request.timeout.",
    "partitioner",
    "retries",
)
_CONSUMER_FAMILIES = ("fetch.", "max.partition.fetch.", "queued.", "check.crcs", "session.", "heartbeat.", "max.poll.")
_SECRET_PARTS = (
    "password",
    "secret",
    "token",
    "jaas",
    "ssl.key.pem",
    "sasl.oauthbearer.config",
    "private.key",
    "keystore",
)

#: How long a batch is gathered, in ms.
_LINGER_MS = 0

_SHARED: Mapping[str, object] = {
    "client.id": "perdure",
    "socket.nagle.disable": True,
    "socket.keepalive.enable": True,
    # A broker that hangs (not one that closes) is given up after this time.
    "socket.timeout.ms": 10_000,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 1_000,
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 500,
    "topic.metadata.refresh.interval.ms": 30_000,
    "topic.metadata.refresh.fast.interval.ms": 50,
    "topic.metadata.propagation.max.ms": 5_000,
    "allow.auto.create.topics": False,
}
_PRODUCER: Mapping[str, object] = {
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "acks": "all",
    "message.timeout.ms": 0,
    "request.timeout.ms": 8_000,
    "linger.ms": _LINGER_MS,
    "message.max.bytes": RECORD_BYTES_MAX,
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 262_144,
}
#: How long the brokers let a transaction be open that nobody ends.
TRANSACTION_MS_MAX = 30_000
_TRANSACTIONS: Mapping[str, object] = {
    # A record that is given up aborts the transaction, so it leaves no gap.
    "enable.gapless.guarantee": False,
    "message.timeout.ms": 10_000,
    "transaction.timeout.ms": TRANSACTION_MS_MAX,
    # As the clients in Java do: what users write themselves goes to the same partitions.
    "partitioner": "murmur2_random",
    # The client backs off for so long before it sends offsets to a group that it sees for the first time.
    "retry.backoff.ms": 5,
}
#: What users set for the producer of the platform's own records does not hold in transactions.
_OF_TRANSACTIONS = frozenset({"enable.gapless.guarantee", "message.timeout.ms", "delivery.timeout.ms"})
_CONSUMER: Mapping[str, object] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_uncommitted",
}
#: Needed by the client library for a reader; nothing joins or commits to this group.
READER_GROUP = "perdure-reader"
_READER: Mapping[str, object] = {
    "group.id": READER_GROUP,
    "fetch.min.bytes": 1,
    # A partition added while a fetch waits at the broker is only asked for by the next fetch: this bounds that time.
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 1,
    "fetch.error.backoff.ms": 20,
    "fetch.message.max.bytes": RECORD_BYTES_MAX,
    "queued.max.messages.kbytes": 65_536,
}
_MEMBER: Mapping[str, object] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 500,
}
#: A member that is not polled for so long is taken for dead, though its threads in the client library are alive.
_POLL_INTERVAL_MS = 60_000


def options_from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Connection and security options from variables such as ``KAFKA_SECURITY_PROTOCOL`` (→ ``security.protocol``)."""
    options = {}
    for variable, value in environment.items():
        if variable.startswith(_ENVIRONMENT_PREFIX):
            name = variable[len(_ENVIRONMENT_PREFIX) :].lower().replace("_", ".")
            if name.startswith(_ENVIRONMENT_FAMILIES):
                options[name] = value
    return options


def check_options(options: Mapping[str, str]) -> None:
    """Refuse options that would break what the platform promises.

    Raises:
        LogError: naming every such option, the reason, and what to do.
    """
    problems = []
    for name, value in options.items():
        if name in _RESERVED:
            problems.append(f"{name} cannot be set: {_RESERVED[name]}")
        elif name in _FIXED and str(value).lower() not in _FIXED[name][0]:
            allowed, reason = _FIXED[name]
            problems.append(f"{name} must be {allowed[0]}: {reason}")
        elif name == "message.max.bytes" and (not str(value).isdigit() or int(value) < RECORD_BYTES_MAX):
            problems.append(
                f"message.max.bytes must be at least {RECORD_BYTES_MAX}, the largest record of the platform"
            )
    if problems:
        raise LogError("Kafka options that cannot be used: " + "; ".join(problems))


def producer_config(bootstrap: str, options: Mapping[str, str]) -> dict[str, object]:
    """The configuration of a producer."""
    return _merged(bootstrap, options, _CONSUMER_FAMILIES, _SHARED, _PRODUCER)


def transactions_config(bootstrap: str, options: Mapping[str, str], transactional_id: str) -> dict[str, object]:
    """The configuration of a producer that writes in transactions."""
    kept = {name: value for name, value in options.items() if name not in _OF_TRANSACTIONS}
    config = _merged(bootstrap, kept, _CONSUMER_FAMILIES, _SHARED, _PRODUCER, _TRANSACTIONS)
    config["transactional.id"] = transactional_id
    return config


def reader_config(bootstrap: str, options: Mapping[str, str], *, committed_only: bool = False) -> dict[str, object]:
    """The configuration of a consumer that reads assigned partitions; of topics of others, what was committed only."""
    config = _merged(bootstrap, options, _PRODUCER_FAMILIES, _SHARED, _CONSUMER, _READER)
    if committed_only:
        config["isolation.level"] = "read_committed"
    return config


def offsets_config(bootstrap: str, options: Mapping[str, str], group: str) -> dict[str, object]:
    """The configuration of a consumer that only asks for a group's offsets, once no transaction can change them."""
    config = reader_config(bootstrap, options, committed_only=True)
    config["group.id"] = group
    return config


def member_config(bootstrap: str, options: Mapping[str, str], group: str, instance: str) -> dict[str, object]:
    """The configuration of a consumer that only takes part in a group; a static member if ``instance`` is not empty."""
    config = _merged(bootstrap, options, _PRODUCER_FAMILIES, _SHARED, _CONSUMER, _MEMBER)
    config["group.id"] = group
    if "max.poll.interval.ms" not in options:  # the client library refuses one that is shorter than the session
        session_ms = str(config["session.timeout.ms"])
        config["max.poll.interval.ms"] = max(_POLL_INTERVAL_MS, int(session_ms) if session_ms.isdigit() else 0)
    if instance:
        config["group.instance.id"] = instance
    return config


def admin_config(bootstrap: str, options: Mapping[str, str]) -> dict[str, object]:
    """The configuration of the client for topics and offsets."""
    return _merged(bootstrap, options, (*_PRODUCER_FAMILIES, *_CONSUMER_FAMILIES), _SHARED)


def _merged(
    bootstrap: str, options: Mapping[str, str], foreign: tuple[str, ...], *defaults: Mapping[str, object]
) -> dict[str, object]:
    config: dict[str, object] = {}
    for part in defaults:
        config |= part
    config |= {name: value for name, value in options.items() if not name.startswith(foreign)}
    config["bootstrap.servers"] = bootstrap
    return config


def is_secret(name: str) -> bool:
    """Whether the value of this option must not be shown."""
    return any(part in name for part in _SECRET_PARTS)


def without_secrets(text: str, options: Mapping[str, str]) -> str:
    """``text`` with the values of secret options replaced."""
    for name, value in options.items():
        if is_secret(name) and value:
            text = text.replace(value, "***")
    return text
