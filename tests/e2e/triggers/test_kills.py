"""The short form of the long run: each process is killed while records are on their way."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.triggers.kills import Scene


@pytest.mark.e2e
@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_each_record_makes_one_run_though_every_process_is_killed(kafka_bootstrap: str, tmp_path: Path) -> None:
    with Scene(tmp_path, kafka_bootstrap, services=1) as scene:
        scene.append(200)
        scene.wait_for_lag(190)
        for process in (scene.services[0], scene.engine):
            scene.kill(process)
        scene.wait_for_lag(0)
        counted = asyncio.run(scene.check())
        scene.audit()
    assert counted == {"records": 200, "runs": 200, "receipts": 200, "shipments": 200, "lag": 0, "devices": 50}
