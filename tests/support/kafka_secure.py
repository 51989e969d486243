"""A locked-down Kafka broker for tests: TLS with a certificate authority of the test's own, SASL/SCRAM, and an
authorizer that allows nobody anything unless an ACL says so.

Called by ``tests/integration/security``.
"""

from __future__ import annotations

import datetime
import ipaddress
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.kafka_native import NativeBroker, free_port

ADMIN = "admin"
_ANSWER_TIMEOUT_S = 30.0
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}
_RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
_PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefixed": ResourcePatternType.PREFIXED}


def make_certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate authority and a broker's key with its certificate for loopback, as PEM files, in this order."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' own authority")])
    authority = _certificate(authority_name, authority_name, authority_key.public_key(), is_authority=True).sign(
        authority_key, hashes.SHA256()
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    addresses = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    )
    broker = (
        _certificate(name, authority_name, key.public_key(), is_authority=False)
        .add_extension(addresses, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    authority_file, broker_file = folder / "authority.pem", folder / "broker.pem"
    pem = serialization.Encoding.PEM
    authority_file.write_bytes(authority.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    broker_file.write_bytes(private + broker.public_bytes(pem) + authority.public_bytes(pem))
    return authority_file, broker_file


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )


class SecureBroker:
    """See the module.

    Parameters:
        folder: for certificates, data and logs.
        passwords: user name → password; an ``admin`` is added, who may do everything.
    """

    def __init__(self, folder: Path, passwords: Mapping[str, str]) -> None:
        self.passwords = {ADMIN: "admin-has-a-password", **passwords}
        self._authority, keystore = make_certificates(folder)
        login = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required "
            f'username="{ADMIN}" password="{self.passwords[ADMIN]}";'
        )
        ports = (free_port(), free_port())
        config = {
            "listeners": f"SASL_SSL://127.0.0.1:{ports[0]},CONTROLLER://127.0.0.1:{ports[1]}",
            "advertised.listeners": f"SASL_SSL://127.0.0.1:{ports[0]}",
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": login,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._authority),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The controller's listener, which no client reaches, has no users.
            "super.users": f"User:{ADMIN};User:ANONYMOUS",
        }
        users = []
        for user, password in self.passwords.items():
            users += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        self.broker = NativeBroker(
            folder / "broker", config=config, ports=ports, client_options=self.options(ADMIN), format_arguments=users
        )
        self.address = f"kafka://{self.broker.bootstrap}"

    def options(self, user: str) -> dict[str, str]:
        """What a user's client has to be configured with."""
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": self.passwords[user],
            "ssl.ca.location": str(self._authority),
        }

    def environment(self, user: str) -> dict[str, str]:
        """The same as variables of a process."""
        return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in self.options(user).items()}

    def allow(self, rows: Iterable[Mapping[str, str]]) -> None:
        """Make ACLs of rows as ``perdure topics acls -o json`` prints them; returns when they are in force."""
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, **self.options(ADMIN)})
        given = list(rows)
        for future in admin.create_acls([self._binding(row, AclBinding) for row in given]).values():
            future.result(_ANSWER_TIMEOUT_S)
        deadline_s = time.monotonic() + _ANSWER_TIMEOUT_S
        while any(
            not admin.describe_acls(self._binding(row, AclBindingFilter)).result(_ANSWER_TIMEOUT_S) for row in given
        ):
            assert time.monotonic() < deadline_s, "the broker does not know of the ACLs"
            time.sleep(0.02)

    def _binding(self, row: Mapping[str, str], kind: type[Any]) -> Any:
        return kind(
            _RESOURCES[row["resource_type"]],
            row["name"],
            _PATTERNS[row["pattern_type"]],
            row["principal"],
            row["host"],
            _OPERATIONS[row["operation"]],
            AclPermissionType.ALLOW,
        )

    def __enter__(self) -> Self:
        self.broker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.broker.close()
