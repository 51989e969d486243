"""A password that is used everywhere is found nowhere: not in logs, not in what commands print, not in errors."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from perdure_runtime.kafka import KafkaLog
from perdure_runtime.log import LogError
from tests.integration.security.conftest import MARKER, NAMES
from tests.support.kafka_secure import SecureBroker
from tests.support.processes import REPOSITORY, PythonProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


def perdure(broker: SecureBroker, user: str, *arguments: str, address: str | None = None) -> tuple[int, str]:
    """Run a command as a user; its exit code and all it printed."""
    result = subprocess.run(
        [sys.executable, "-m", "perdure_ops", *arguments, "--address", address or broker.address, "-n", "prod"],
        cwd=REPOSITORY,
        env=os.environ | broker.environment(user),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("user", "arguments", "code"),
    [
        ("operator", ("topics", "describe", "-o", "json"), 0),
        ("operator", ("topics", "plan"), 0),
        ("client", ("workflow", "list"), 0),
        ("client", ("workflow", "describe", "-w", "nobody"), 1),
        ("client", ("topics", "apply", "--yes"), 1),
    ],
)
def test_commands_print_no_secret(
    secure_broker: SecureBroker, secure_engine: PythonProcess, user: str, arguments: tuple[str, ...], code: int
) -> None:
    ended, printed = perdure(secure_broker, user, *arguments)
    assert ended == code, printed
    assert MARKER not in printed


@pytest.mark.parametrize(
    "option", [f"sasl.password={MARKER}-wrong", f"sasl.passwort={MARKER}", f"ssl.key.pem={MARKER}"]
)
def test_a_wrong_option_is_refused_without_its_secret(
    secure_broker: SecureBroker, secure_engine: PythonProcess, option: str
) -> None:
    ended, printed = perdure(
        secure_broker, "operator", "topics", "describe", address=f"{secure_broker.address}?{option}"
    )
    assert ended == 1
    assert "Traceback" not in printed
    assert MARKER not in printed


def test_the_engine_logs_no_secret(secure_engine: PythonProcess) -> None:
    logged = secure_engine.log_path.read_text()
    assert "event=live" in logged
    assert MARKER not in logged


def test_errors_and_descriptions_in_the_process_hold_no_secret(
    secure_broker: SecureBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    options = secure_broker.options("client") | {"sasl.password": f"{MARKER}-wrong"}
    log = KafkaLog(secure_broker.broker.bootstrap, options, timeout_s=3)
    assert MARKER not in repr(log)
    with pytest.raises(LogError) as failed:
        log.describe_topics([NAMES.commands])
    assert MARKER not in str(failed.value)
    assert MARKER not in repr(failed.value.__cause__)
    log.close()
    with pytest.raises(LogError) as failed:
        KafkaLog(secure_broker.broker.bootstrap, options | {"sasl.password": MARKER, "no.such.option": "1"})
    assert MARKER not in str(failed.value)
    assert MARKER not in caplog.text
