"""From an address to a log, and the platform's topics on it.

An address says which log it is: ``localhost:7233`` is a dev server's socket, ``kafka://b1:9092,b2:9092?option=value``
is a Kafka cluster, whose options go to its client as they are. Without one, ``PERDURE_ADDRESS`` counts, then the
default.
Called by the SDK's client and worker, and by ops. Adapters are imported when they are needed, to keep start-up short.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from perdure_runtime.log import LogError, TopicConfigurationError
from perdure_schemas.topics import DEFAULT_NAMESPACE, DEFAULT_PREFIX, TOPICS, TopicNames

if TYPE_CHECKING:
    from perdure_runtime.log import Log
    from perdure_schemas.framing import SchemaIds

ADDRESS_VARIABLE = "PERDURE_ADDRESS"
DEFAULT_PORT = 7233
DEFAULT_ADDRESS = f"localhost:{DEFAULT_PORT}"
_KAFKA_SCHEME = "kafka://"
_EXAMPLES = "`localhost:7233` for a dev server, or `kafka://broker1:9092,broker2:9092` for Kafka"


class ServerAddress(NamedTuple):
    """A dev server's socket."""

    host: str
    port: int


class KafkaAddress(NamedTuple):
    """A Kafka cluster."""

    bootstrap: str
    options: dict[str, str]


def without_secrets(address: str) -> str:
    """An address as it may be shown, logged and quoted in errors: without options and credentials, right or wrong."""
    shown = address.strip().partition("?")[0]
    scheme, separator, servers = shown.rpartition("://")
    return f"{scheme}{separator}{','.join(server.rpartition('@')[2] for server in servers.split(','))}"


def parse_address(address: str) -> ServerAddress | KafkaAddress:
    """What an address means.

    Raises:
        LogError: it is malformed; the message says how it should look, and holds no secret of it.
    """
    text = address.strip()
    shown = without_secrets(address)
    if "@" in text.partition("?")[0]:
        raise LogError(
            f"address {shown!r} has credentials in front of a server: give them as options, or in the environment"
            " (KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD)"
        )
    if text.startswith(_KAFKA_SCHEME):
        return _parse_kafka(shown, text[len(_KAFKA_SCHEME) :])
    if "://" in text:
        scheme = text.partition("://")[0]
        raise LogError(f"address {shown!r}: {scheme!r} is not a kind of log. Write {_EXAMPLES}")
    if "," in text.partition("?")[0]:
        raise LogError(f"address {shown!r}: several servers mean Kafka. Write {_EXAMPLES}")
    if "?" in text:
        raise LogError(f"address {shown!r} is a dev server's, which takes no options. Write {_EXAMPLES}")
    host, port = _split_port(shown, text, str(DEFAULT_PORT))
    return ServerAddress(host, port)


def _parse_kafka(address: str, text: str) -> KafkaAddress:
    brokers, _, query = text.partition("?")
    servers = [part.strip() for part in brokers.rstrip("/").split(",") if part.strip()]
    if not servers:
        raise LogError(f"address {address!r} names no broker. Write {_EXAMPLES}")
    for server in servers:
        _split_port(address, server, "9092")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise LogError(
            f"address {address!r}: its options cannot be read. Write them as `?option=value&option=value`"
        ) from None
    return KafkaAddress(",".join(servers), options)


def _split_port(address: str, text: str, default: str) -> tuple[str, int]:
    if text.startswith("["):  # an IPv6 address
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise LogError(f"address {address!r}: an IPv6 address is written `[::1]:7233`. Write {_EXAMPLES}")
        port = rest[1:] or default
    else:
        host, colon, port = text.partition(":")
        if not colon:
            port = default
    if not host or any(character.isspace() or character in "/@" for character in host):
        raise LogError(f"address {address!r} has no host. Write {_EXAMPLES}")
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise LogError(f"address {address!r}: {port!r} is not a port from 1 to 65535. Write {_EXAMPLES}")
    return host, int(port)


def open_log(
    address: str | None = None, *, options: Mapping[str, str] | None = None, schema_ids: SchemaIds | None = None
) -> Log:
    """Open the log at an address.

    Args:
        address: see the module; ``None``: ``PERDURE_ADDRESS``, or ``localhost:7233``.
        options: more options for Kafka's client; they win over those in the address, and those over the environment's
            (``KAFKA_SECURITY_PROTOCOL`` is ``security.protocol``, and so on).
        schema_ids: on Kafka, topics whose values are framed for a schema registry when they are written; see
            :mod:`perdure_schemas.framing`.

    Raises:
        LogUnavailableError: nobody answers there. LogError: the address is malformed, or takes no options.
    """
    chosen = address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    parsed = parse_address(chosen)
    if isinstance(parsed, KafkaAddress):
        from perdure_runtime.kafka import KafkaLog, options_from_environment

        chosen_options = options_from_environment(os.environ) | parsed.options | dict(options or {})
        return KafkaLog(parsed.bootstrap, chosen_options, schema_ids=schema_ids)
    given = sorted(options or (["schema_ids"] if schema_ids else []))
    if given:
        raise LogError(
            f"a dev server ({without_secrets(chosen)!r}) takes no options, but got {', '.join(given)}: "
            "leave them out, or use a `kafka://` address"
        )
    from perdure_runtime.remote import RemoteLog

    return RemoteLog(parsed.host, parsed.port)


def names_of(log: Log, namespace: str = DEFAULT_NAMESPACE, *, prefix: str = DEFAULT_PREFIX) -> TopicNames:
    """The topic names of a namespace as it exists on the log; its partition count is that of the commands topic.

    Raises:
        LogError: nobody has created the namespace's topics.
    """
    names = TopicNames(namespace, prefix)
    found = log.describe_topics([names.commands]).get(names.commands)
    if found is None:
        raise LogError(
            f"no Perdure engine has created topics for namespace {namespace!r} (no topic {names.commands!r}): "
            f"start an engine with `perdure dev` or `perdure server --namespace {namespace}`, or correct the namespace"
        )
    return TopicNames(namespace, prefix, found.partitions)


def create_platform_topics(log: Log, names: TopicNames, replication: int = -1) -> None:
    """Create those topics of the namespace that are missing.

    Args:
        log: where.
        names: which, and with how many partitions.
        replication: copies of each partition; -1: the cluster's default.

    Raises:
        TopicConfigurationError: some exist with another number of partitions; that would break the keying.
        LogUnavailableError: nobody answered. LogError: the log refused.
    """
    wanted = {names.of(spec): spec for spec in TOPICS}
    log.create_topics(wanted, names.partitions, replication)
    different = {
        name: found.partitions
        for name, found in log.describe_topics(list(wanted)).items()
        if found.partitions != names.partitions
    }
    if different:
        listed = ", ".join(f"{name} has {count}" for name, count in sorted(different.items()))
        raise TopicConfigurationError(
            f"namespace {names.namespace!r} is to have {names.partitions} partitions, but {listed}: the number is "
            "fixed when a namespace is created; start with that number, or use another namespace"
        )
