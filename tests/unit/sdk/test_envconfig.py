"""Connection profiles: files, variables, and what a client is connected with."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from perdure.envconfig import ClientConfig, ClientConfigProfile, ClientConfigTLS

FILE = """
[profile.default]
address = "localhost:7777"

[profile.prod]
address = "kafka://b1:9092,b2:9092"
namespace = "payments"

[profile.prod.kafka]
sasl.username = "ada"
"sasl.password" = "geheim"
sasl.mechanism = "PLAIN"
enable.sasl.oauthbearer.unsecure.jwt = true

[profile.prod.tls]
server_ca_cert = { path = "/etc/ca.pem" }
client_key = { data = "a private key" }

[profile.prod.codec]
endpoint = "http://localhost:8081"
auth = "Bearer streng"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "perdure.toml"
    path.write_text(FILE)
    return path


def test_without_a_file_and_variables_nothing_is_said(tmp_path: Path) -> None:
    variables = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert ClientConfig.load_client_connect_config(override_env_vars=variables) == {}
    assert ClientConfig.load(override_env_vars=variables).profiles == {}


def test_the_default_profile_is_taken_from_the_users_file(tmp_path: Path) -> None:
    folder = tmp_path / "perdure"
    folder.mkdir()
    (folder / "perdure.toml").write_text(FILE)
    variables = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert ClientConfig.load_client_connect_config(override_env_vars=variables) == {"target_host": "localhost:7777"}


def test_a_named_profile_becomes_an_address_with_the_options_of_kafka(file: Path) -> None:
    config = ClientConfig.load_client_connect_config("prod", config_file=str(file), override_env_vars={})
    address, _, options = config["target_host"].partition("?")
    assert address == "kafka://b1:9092,b2:9092"
    assert dict(parse_qsl(options)) == {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/etc/ca.pem",
        "ssl.key.pem": "a private key",
        "sasl.username": "ada",
        "sasl.password": "geheim",
        "sasl.mechanism": "PLAIN",
        "enable.sasl.oauthbearer.unsecure.jwt": "true",
    }
    assert config["namespace"] == "payments"


def test_variables_choose_the_file_and_the_profile_and_change_what_it_says(file: Path) -> None:
    variables = {
        "PERDURE_CONFIG_FILE": str(file),
        "PERDURE_PROFILE": "prod",
        "PERDURE_NAMESPACE": "tests",
        "PERDURE_ADDRESS": "kafka://other:9092?client.id=x",
        "PERDURE_TLS": "false",
        "PERDURE_CODEC_AUTH": "Bearer other",
        "KAFKA_SASL_PASSWORD": "from the environment",
    }
    profile = ClientConfigProfile.load(override_env_vars=variables)
    config = profile.to_client_connect_config()
    assert config["namespace"] == "tests"
    # The Kafka client takes KAFKA_SASL_PASSWORD itself; in the address it would win over the variable.
    assert dict(parse_qsl(config["target_host"].partition("?")[2])) == {
        "sasl.username": "ada",
        "sasl.mechanism": "PLAIN",
        "enable.sasl.oauthbearer.unsecure.jwt": "true",
        "client.id": "x",
    }
    assert (profile.codec_endpoint, profile.codec_auth) == ("http://localhost:8081", "Bearer other")
    untouched = ClientConfigProfile.load("prod", config_source=file, disable_env=True)
    assert untouched.namespace == "payments"


def test_variables_alone_are_enough() -> None:
    variables = {"PERDURE_ADDRESS": "kafka://b:9092", "PERDURE_TLS_CLIENT_CERT_PATH": "/c.pem"}
    config = ClientConfig.load_client_connect_config(disable_file=True, override_env_vars=variables)
    assert config == {"target_host": "kafka://b:9092?security.protocol=SSL&ssl.certificate.location=%2Fc.pem"}


def test_no_secret_is_in_a_repr(file: Path) -> None:
    config = ClientConfig.load(config_source=file, override_env_vars={})
    assert "b1:9092" in repr(config)
    for secret in ("geheim", "a private key", "streng"):
        assert secret not in repr(config)


def test_profiles_go_to_dictionaries_and_back(file: Path) -> None:
    config = ClientConfig.load(config_source=file, override_env_vars={})
    assert ClientConfig.from_dict(config.to_dict()) == config
    with_data = ClientConfigTLS(server_root_ca_cert=b"pem", client_cert=Path("c.pem"), disabled=False)
    again = ClientConfigTLS.from_dict(with_data.to_dict())
    assert again is not None
    assert again.to_kafka_options() == {"ssl.ca.pem": "pem", "ssl.certificate.location": "c.pem"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[profile.prod", "the given configuration is no TOML"),
        ("[profile.prod]\naddress = 7", "profile 'prod': address is to be a text"),
        ("[profile.prod]\nkafka = 7", r"kafka is to be a table: write \[profile.NAME.kafka\]"),
        ("profile = 7", r"profiles are tables: write \[profile.NAME\]"),
        ("[profile.prod.kafka]\nsasl.username = 'u'", "its address is not one of Kafka"),
        ("[profile.prod.tls]\nserver_name = 'x'", "server_name is not supported"),
        ("[profile.other]", "has no profile 'prod'; it has: other"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClientConfigProfile.load("prod", config_source=text, override_env_vars={}).to_client_connect_config()


def test_wrong_variables_and_missing_files_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ValueError, match=r"missing\.toml does not exist"):
        ClientConfig.load(override_env_vars={"PERDURE_CONFIG_FILE": str(missing)})
    with pytest.raises(ValueError, match="PERDURE_TLS is 'maybe': write true or false"):
        ClientConfigProfile.load(disable_file=True, override_env_vars={"PERDURE_TLS": "maybe"})
    both = {"PERDURE_TLS_CLIENT_KEY_PATH": "k", "PERDURE_TLS_CLIENT_KEY_DATA": "k"}
    with pytest.raises(ValueError, match="are both set"):
        ClientConfigProfile.load(disable_file=True, override_env_vars=both)
    with pytest.raises(ValueError, match="no file may be read"):
        ClientConfigProfile.load("prod", disable_file=True, override_env_vars={})


def test_strict_files_have_no_unknown_keys() -> None:
    text = "other = 1\n[profile.a]\nadress = 'x'\n[profile.a.tls]\nkey = 'x'\n[profile.a.kafka]\nclient.id = 'free'"
    assert ClientConfig.load(config_source=text, override_env_vars={}).profiles["a"].address is None
    with pytest.raises(ValueError, match=r"unknown keys: other, profile\.a\.adress, profile\.a\.tls\.key$"):
        ClientConfig.load(config_source=text, config_file_strict=True, override_env_vars={})
