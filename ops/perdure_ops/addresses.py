"""Addresses on the command line: which commands take one of Kafka. Pure."""

from __future__ import annotations

from perdure_ops.errors import CliError
from perdure_runtime.connect import without_secrets


def check_kafka_address(address: str) -> None:
    """Refuse an address that is not one of Kafka.

    Raises:
        CliError: it is not.
    """
    if not address.startswith("kafka://"):
        raise CliError(
            f"address {without_secrets(address)!r} is not one of Kafka: write kafka://BROKER:PORT,…"
            " (perdure dev is a server without Kafka, and needs no perdure server)"
        )
