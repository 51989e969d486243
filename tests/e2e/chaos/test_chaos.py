"""A short storm on both logs: whatever is killed, cut, damaged or set wrong, nothing is lost and nothing is wrong.

The long one is ``python -m tests.chaos``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Options, run
from tests.support.kafka_broker import BrokerUnavailableError
from tests.support.skipping import skip_without_broker

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

WORKFLOWS = 40
EMBEDDED = ("engine-kill", "link-cut", "state-damage", "clock-jump")
KAFKA = ("engine-stop", "broker-kill", "link-stall", "state-delete", "bad-record")


@pytest.mark.parametrize(
    ("brokers", "engines", "kinds"), [(0, 1, EMBEDDED), pytest.param(1, 2, KAFKA, marks=pytest.mark.kafka)]
)
async def test_nothing_is_lost_in_a_short_storm(
    brokers: int, engines: int, kinds: tuple[str, ...], tmp_path: Path
) -> None:
    options = Options(
        seconds=len(kinds) + 1.0,
        workflows=WORKFLOWS,
        fault_every_s=1.0,
        brokers=brokers,
        engines=engines,
        workers=2,
        kinds=kinds,
    )
    try:
        report = await run(options, tmp_path)
    except BrokerUnavailableError as error:
        skip_without_broker(error)
    print(report.numbers)
    assert not report.broken
    assert set(report.survived) == set(kinds), "each kind of fault was done once"
    fresh = report.numbers["workflows"]
    assert isinstance(fresh, int)
    assert fresh > WORKFLOWS, "and fresh workflows completed afterwards"
