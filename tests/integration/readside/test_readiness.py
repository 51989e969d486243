"""When the lists of a read side are complete."""

from __future__ import annotations

import threading
from pathlib import Path

from perdure_readside.service import ReadSide
from tests.support.platform import embedded_platform

TIMEOUT_S = 60.0


def test_a_read_side_says_what_it_waits_for(tmp_path: Path) -> None:
    with embedded_platform() as (log, names):
        side = ReadSide(log, names, tmp_path, instance="second")
        assert side.waiting_for() == "the read side is starting"
        side.start()
        waiting = threading.Event()
        for _ in range(int(TIMEOUT_S / 0.02)):
            if not side.waiting_for():
                break
            waiting.wait(0.02)
        assert side.waiting_for() == ""
        side.stop()
        assert side.waiting_for() == "the read side is starting"
