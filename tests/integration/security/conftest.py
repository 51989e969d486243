"""A locked-down broker with an engine on it, shared by the module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure_ops.acls import Principal, as_rows, needed_acls
from perdure_schemas.topics import TopicNames
from tests.support.kafka_native import BrokerUnavailableError
from tests.support.kafka_secure import SecureBroker
from tests.support.processes import PythonProcess
from tests.support.skipping import skip_without_broker

NAMES = TopicNames(namespace="prod", partitions=2)
#: In every password: it must be found nowhere.
MARKER = "marker-7f3a9c"


def lacking(kind: Principal) -> list[tuple[str, int]]:
    """For each ACL that a kind of process needs: a user who has all the others."""
    return [(f"{kind}-without-{index}", index) for index in range(len(needed_acls(NAMES, kind)))]


@pytest.fixture(scope="session")
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """The broker; the user of each kind has exactly its ACLs in the namespace ``prod``."""
    users = [kind.value for kind in Principal] + [user for kind in Principal for user, _ in lacking(kind)]
    try:
        broker = SecureBroker(tmp_path_factory.mktemp("secure"), {user: f"{MARKER}-{user}" for user in users})
        broker.broker.start()
    except BrokerUnavailableError as error:
        skip_without_broker(error)
    else:
        try:
            broker.allow(as_rows(NAMES, {kind: f"User:{kind}" for kind in Principal}, list(Principal)))
            yield broker
        finally:
            broker.broker.close()


@pytest.fixture(scope="session")
def secure_engine(secure_broker: SecureBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonProcess]:
    """``perdure server`` as the user ``engine``, logging all it can."""
    folder = tmp_path_factory.mktemp("engine")
    arguments = ["-m", "perdure_ops", "server", "--address", secure_broker.address, "--namespace", NAMES.namespace]
    arguments += ["--partitions", str(NAMES.partitions), "--state-dir", str(folder / "state"), "--log-level", "debug"]
    environment = secure_broker.environment("engine")
    engine = PythonProcess("engine", arguments, folder, ready="ready", env=environment)
    engine.start(60)
    try:
        yield engine
    finally:
        engine.terminate()
