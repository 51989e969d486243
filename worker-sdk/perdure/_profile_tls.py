"""The TLS part of a connection profile, and what it means to the Kafka client.

Invariant: no text made here holds a key or a certificate. Public through :mod:`perdure.envconfig`, which calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, cast

#: A file, or the data itself.
DataSource: TypeAlias = Path | str | bytes


class ClientConfigTLSDict(TypedDict, total=False):
    """:class:`ClientConfigTLS` as it stands in a file; each source is ``{"path": …}`` or ``{"data": …}``."""

    disabled: bool | None
    server_name: str
    server_ca_cert: Mapping[str, str]
    client_cert: Mapping[str, str]
    client_key: Mapping[str, str]


@dataclass(frozen=True)
class ClientConfigTLS:
    """TLS of a profile. On Kafka these become ``ssl.*`` options.

    Attributes:
        disabled: True: connect in plain text, whatever else stands here. ``None``: TLS, because something stands here.
        server_name: Not supported: the Kafka client checks each broker's own name.
        server_root_ca_cert: Whom to trust, as PEM; those the system trusts if not given.
        client_cert: The client's certificate, as PEM.
        client_private_key: Its key, as PEM.
    """

    disabled: bool | None = None
    server_name: str | None = None
    server_root_ca_cert: DataSource | None = field(default=None, repr=False)
    client_cert: DataSource | None = field(default=None, repr=False)
    client_private_key: DataSource | None = field(default=None, repr=False)

    def to_dict(self) -> ClientConfigTLSDict:
        """As it stands in a file; with the private key, if that was given as data."""
        found: dict[str, Any] = {"disabled": self.disabled, "server_name": self.server_name}
        for name, source in self._sources().items():
            found[name] = None if source is None else _source_to_dict(source)
        return cast(ClientConfigTLSDict, {key: value for key, value in found.items() if value is not None})

    @classmethod
    def from_dict(cls, d: ClientConfigTLSDict | None) -> ClientConfigTLS | None:
        """From what stands in a file; ``None`` for nothing."""
        if not d:
            return None
        return cls(
            disabled=d.get("disabled"),
            server_name=d.get("server_name"),
            server_root_ca_cert=_source_from_dict(d.get("server_ca_cert")),
            client_cert=_source_from_dict(d.get("client_cert")),
            client_private_key=_source_from_dict(d.get("client_key")),
        )

    def to_kafka_options(self) -> dict[str, str]:
        """The Kafka client's options, without ``security.protocol``.

        Raises:
            ValueError: ``server_name`` is given.
        """
        if self.server_name:
            raise ValueError(
                "tls.server_name is not supported: the Kafka client checks each broker's own name; leave it out"
            )
        names = {"server_ca_cert": "ssl.ca", "client_cert": "ssl.certificate", "client_key": "ssl.key"}
        options = {}
        for name, source in self._sources().items():
            if isinstance(source, Path):
                options[f"{names[name]}.location"] = str(source)
            elif source is not None:
                options[f"{names[name]}.pem"] = source if isinstance(source, str) else source.decode()
        return options

    def _sources(self) -> dict[str, DataSource | None]:
        return {
            "server_ca_cert": self.server_root_ca_cert,
            "client_cert": self.client_cert,
            "client_key": self.client_private_key,
        }


def _source_from_dict(found: Mapping[str, str] | None) -> DataSource | None:
    if not found:
        return None
    if "data" in found:
        return found["data"]
    return Path(found["path"]) if "path" in found else None


def _source_to_dict(source: DataSource) -> Mapping[str, str]:
    if isinstance(source, Path):
        return {"path": str(source)}
    return {"data": source if isinstance(source, str) else source.decode()}
