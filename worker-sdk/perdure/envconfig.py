"""Where a client connects to, from a file of profiles and from the environment.

Names are those of ``temporalio.envconfig``. A file holds profiles in TOML; variables change what a profile says; the
result is what :meth:`perdure.client.Client.connect` takes::

    [profile.prod]
    address = "kafka://broker1:9092,broker2:9092"
    namespace = "payments"

    [profile.prod.kafka]            # options of the Kafka client
    sasl.mechanism = "SCRAM-SHA-512"
    sasl.username = "payments"

    client = await Client.connect(**ClientConfig.load_client_connect_config("prod"))

The file is the one that is given, else ``PERDURE_CONFIG_FILE``, else ``perdure/perdure.toml`` in the user's
configuration folder; the profile is the one that is given, else ``PERDURE_PROFILE``, else ``default``. ``KAFKA_*``
variables win over a profile's options.

Invariants: what is wrong is a ``ValueError`` that names the file and the profile; no secret is in an error or a
``repr``. Called by users and by the ``perdure`` command; imports nothing heavy.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, cast
from urllib.parse import urlencode

from perdure._profile_tls import ClientConfigTLS, ClientConfigTLSDict, DataSource

__all__ = [
    "ClientConfig",
    "ClientConfigProfile",
    "ClientConfigProfileDict",
    "ClientConfigTLS",
    "ClientConfigTLSDict",
    "ClientConnectConfig",
    "DataSource",
]

DEFAULT_PROFILE = "default"
_KAFKA = "kafka://"
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")
#: Variable → where it goes.
_TEXTS = {"PERDURE_ADDRESS": "address", "PERDURE_NAMESPACE": "namespace", "PERDURE_API_KEY": "api_key",
          "PERDURE_CODEC_ENDPOINT": "codec_endpoint", "PERDURE_CODEC_AUTH": "codec_auth"}  # fmt: skip
_TLS_SOURCES = {
    "PERDURE_TLS_SERVER_CA_CERT": "server_root_ca_cert",
    "PERDURE_TLS_CLIENT_CERT": "client_cert",
    "PERDURE_TLS_CLIENT_KEY": "client_private_key",
}


class ClientConfigProfileDict(TypedDict, total=False):
    """A profile as it stands in a file."""

    address: str
    namespace: str
    api_key: str
    tls: ClientConfigTLSDict
    grpc_meta: Mapping[str, str]
    kafka: Mapping[str, Any]
    codec: Mapping[str, str]


class ClientConnectConfig(TypedDict, total=False):
    """Arguments for :meth:`perdure.client.Client.connect`. ``target_host`` may hold secrets: do not log it."""

    target_host: str
    namespace: str
    api_key: str
    tls: bool
    rpc_metadata: Mapping[str, str]


@dataclass(frozen=True)
class ClientConfigProfile:
    """What one profile says.

    Attributes:
        address: As for :meth:`perdure.client.Client.connect`.
        namespace: The namespace.
        api_key: Known from other platforms; the client refuses it, and says what to use.
        tls: TLS towards Kafka.
        grpc_meta: As ``api_key``.
        kafka: Options of the Kafka client.
        codec_endpoint: A codec server for the ``perdure`` command.
        codec_auth: The ``Authorization`` header for it.
    """

    address: str | None = None
    namespace: str | None = None
    api_key: str | None = field(default=None, repr=False)
    tls: ClientConfigTLS | None = None
    grpc_meta: Mapping[str, str] = field(default_factory=dict, repr=False)
    kafka: Mapping[str, str] = field(default_factory=dict, repr=False)
    codec_endpoint: str | None = None
    codec_auth: str | None = field(default=None, repr=False)

    @classmethod
    def from_dict(cls, d: ClientConfigProfileDict) -> ClientConfigProfile:
        """From what stands in a file.

        Raises:
            ValueError: a value has the wrong type.
        """
        values: Mapping[str, Any] = d
        codec = _table(values, "codec")
        return cls(
            address=_text(values, "address"),
            namespace=_text(values, "namespace"),
            api_key=_text(values, "api_key"),
            tls=ClientConfigTLS.from_dict(_table(values, "tls")),  # type: ignore[arg-type]
            grpc_meta={key: str(value) for key, value in _table(values, "grpc_meta").items()},
            kafka=_flat(_table(values, "kafka")),
            codec_endpoint=_text(codec, "endpoint"),
            codec_auth=_text(codec, "auth"),
        )

    def to_dict(self) -> ClientConfigProfileDict:
        """As it stands in a file; with its secrets."""
        codec = {"endpoint": self.codec_endpoint, "auth": self.codec_auth}
        found: dict[str, Any] = {
            "address": self.address,
            "namespace": self.namespace,
            "api_key": self.api_key,
            "tls": None if self.tls is None else self.tls.to_dict(),
            "grpc_meta": dict(self.grpc_meta),
            "kafka": dict(self.kafka),
            "codec": {key: value for key, value in codec.items() if value},
        }
        return cast(ClientConfigProfileDict, {key: value for key, value in found.items() if value})

    def to_client_connect_config(self) -> ClientConnectConfig:
        """Arguments for :meth:`perdure.client.Client.connect`; the Kafka options stand in the address.

        Raises:
            ValueError: there are Kafka or TLS options, and the address is not one of Kafka.
        """
        config = ClientConnectConfig()
        options = self._kafka_options()
        if options and not (self.address or "").startswith(_KAFKA):
            raise ValueError(
                "the profile has options for Kafka (its tables kafka or tls), but its address is not one of Kafka:"
                ' write address = "kafka://BROKER:PORT,…"'
            )
        if self.address:
            before, separator, given = self.address.partition("?")
            # Options in the address itself come last, so they win.
            texts = [text for text in (urlencode(options), given) if text]
            config["target_host"] = f"{before}?{'&'.join(texts)}" if options else f"{before}{separator}{given}"
        if self.namespace:
            config["namespace"] = self.namespace
        if self.api_key:
            config["api_key"] = self.api_key
        if self.grpc_meta:
            config["rpc_metadata"] = self.grpc_meta
        return config

    def _kafka_options(self) -> dict[str, str]:
        options = dict(self.kafka)
        if self.tls is not None and not self.tls.disabled:
            authenticates = any(name.startswith("sasl.") for name in options)
            protocol = {"security.protocol": "SASL_SSL" if authenticates else "SSL"}
            options = protocol | self.tls.to_kafka_options() | options
        return options

    @staticmethod
    def load(
        profile: str | None = None,
        *,
        config_source: DataSource | None = None,
        disable_file: bool = False,
        disable_env: bool = False,
        config_file_strict: bool = False,
        override_env_vars: Mapping[str, str] | None = None,
    ) -> ClientConfigProfile:
        """One profile, changed by the environment.

        Args:
            profile: Its name; ``PERDURE_PROFILE`` or ``default`` if not given.
            config_source: The file's path, or its text, instead of the usual file.
            disable_file: Read no file.
            disable_env: Do not look at the environment.
            config_file_strict: Refuse what is not known in the file.
            override_env_vars: Look at these variables instead of the process's.

        Raises:
            ValueError: the file cannot be read, or has no such profile; a variable has a wrong value.
        """
        variables = {} if disable_env else os.environ if override_env_vars is None else override_env_vars
        name = profile or variables.get("PERDURE_PROFILE")
        found = ClientConfigProfile()
        if disable_file:
            if name is not None and name != DEFAULT_PROFILE:
                raise ValueError(f"profile {name!r} is asked for, but no file may be read")
        else:
            profiles, where = _read(config_source, variables, config_file_strict)
            chosen = profiles.get(name or DEFAULT_PROFILE)
            if chosen is None and name is not None:
                known = ", ".join(sorted(profiles)) or "none"
                raise ValueError(f"{where} has no profile {name!r}; it has: {known}")
            found = chosen or found
        return found if disable_env else _changed(found, variables)


@dataclass
class ClientConfig:
    """All profiles of a file."""

    profiles: Mapping[str, ClientConfigProfile]

    def to_dict(self) -> Mapping[str, ClientConfigProfileDict]:
        """Name by name, as they stand in a file; with their secrets."""
        return {name: profile.to_dict() for name, profile in self.profiles.items()}

    @classmethod
    def from_dict(cls, d: Mapping[str, ClientConfigProfileDict]) -> ClientConfig:
        """From what stands in a file, name by name.

        Raises:
            ValueError: a value has the wrong type.
        """
        return cls({name: ClientConfigProfile.from_dict(profile) for name, profile in d.items()})

    @staticmethod
    def load(
        *,
        config_source: DataSource | None = None,
        config_file_strict: bool = False,
        override_env_vars: Mapping[str, str] | None = None,
    ) -> ClientConfig:
        """All profiles, as they stand in the file. Arguments and errors: see :meth:`ClientConfigProfile.load`."""
        variables = os.environ if override_env_vars is None else override_env_vars
        return ClientConfig(_read(config_source, variables, config_file_strict)[0])

    @staticmethod
    def load_client_connect_config(
        profile: str | None = None,
        *,
        config_file: str | None = None,
        disable_file: bool = False,
        disable_env: bool = False,
        config_file_strict: bool = False,
        override_env_vars: Mapping[str, str] | None = None,
    ) -> ClientConnectConfig:
        """One profile as arguments for :meth:`perdure.client.Client.connect`.

        Args:
            profile: Its name; ``PERDURE_PROFILE`` or ``default`` if not given.
            config_file: The path of the file; see the module.
            disable_file, disable_env, config_file_strict, override_env_vars: See :meth:`ClientConfigProfile.load`.

        Raises:
            ValueError: as :meth:`ClientConfigProfile.load`.
        """
        return ClientConfigProfile.load(
            profile,
            config_source=None if config_file is None else Path(config_file),
            disable_file=disable_file,
            disable_env=disable_env,
            config_file_strict=config_file_strict,
            override_env_vars=override_env_vars,
        ).to_client_connect_config()


def default_config_file(variables: Mapping[str, str]) -> Path:
    """The user's own file, whether it is there or not."""
    folder = variables.get("XDG_CONFIG_HOME") or Path(variables.get("HOME") or "~").expanduser() / ".config"
    return Path(folder) / "perdure" / "perdure.toml"


def _read(
    source: DataSource | None, variables: Mapping[str, str], strict: bool
) -> tuple[dict[str, ClientConfigProfile], str]:
    """The profiles, and how messages name the place they come from."""
    if isinstance(source, str | bytes):
        where = "the given configuration"
        text = source if isinstance(source, str) else source.decode()
    else:
        named = source or variables.get("PERDURE_CONFIG_FILE")
        path = Path(named) if named else default_config_file(variables)
        where = f"the configuration file {path}"
        try:
            text = path.read_text()
        except FileNotFoundError:
            if named:
                raise ValueError(f"{where} does not exist") from None
            return {}, f"{where} does not exist, so it"
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{where} cannot be read: {error}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where} is no TOML: {error}") from None
    tables = document.get("profile", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError(f"{where}: profiles are tables: write [profile.NAME]")
    if strict:
        _check_known(document, tables, where)
    profiles = {}
    for name, table in tables.items():
        try:
            profiles[name] = ClientConfigProfile.from_dict(table)
        except ValueError as error:
            raise ValueError(f"{where}, profile {name!r}: {error}") from None
    return profiles, where


def _check_known(document: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], where: str) -> None:
    unknown = [key for key in document if key != "profile"]
    known = {None: ClientConfigProfileDict.__annotations__, "tls": ClientConfigTLSDict.__annotations__,
             "codec": ("endpoint", "auth")}  # fmt: skip
    for name, table in tables.items():
        for part, keys in known.items():
            inner = table if part is None else table.get(part)
            prefix = f"profile.{name}." if part is None else f"profile.{name}.{part}."
            unknown += [f"{prefix}{key}" for key in inner or () if key not in keys]
    if unknown:
        raise ValueError(f"{where} has unknown keys: {', '.join(sorted(unknown))}")


def _changed(profile: ClientConfigProfile, variables: Mapping[str, str]) -> ClientConfigProfile:
    """A profile with what variables say."""
    changes: dict[str, Any] = {where: variables[name] for name, where in _TEXTS.items() if variables.get(name)}
    tls: dict[str, Any] = {}
    if variables.get("PERDURE_TLS"):
        tls["disabled"] = not _flag("PERDURE_TLS", variables["PERDURE_TLS"])
    if variables.get("PERDURE_TLS_SERVER_NAME"):
        tls["server_name"] = variables["PERDURE_TLS_SERVER_NAME"]
    for name, where in _TLS_SOURCES.items():
        path, data = variables.get(f"{name}_PATH"), variables.get(f"{name}_DATA")
        if path and data:
            raise ValueError(f"{name}_PATH and {name}_DATA are both set: unset one of them")
        if path or data:
            tls[where] = Path(path) if path else data
    if tls:
        changes["tls"] = replace(profile.tls or ClientConfigTLS(), **tls)
    # The Kafka client takes KAFKA_* variables itself, but below what stands in an address.
    kept = {key: value for key, value in profile.kafka.items() if _kafka_variable(key) not in variables}
    return replace(profile, kafka=kept, **changes)


def _kafka_variable(option: str) -> str:
    return f"KAFKA_{option.upper().replace('.', '_')}"


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError(f"{name} is {text!r}: write true or false")
    return text.lower() in _TRUE


def _text(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is to be a text, in quotes")
    return value or None


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is to be a table: write [profile.NAME.{key}]")
    return value


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Kafka options: ``sasl.username = …`` is a table in TOML, ``"sasl.username" = …`` is not; both are meant."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value).lower() if isinstance(value, bool) else str(value)
    return found
