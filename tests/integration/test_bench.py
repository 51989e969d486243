"""The measuring command itself: every workload runs on a small scale and gives its figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.report import from_json_line
from bench.workloads import WORKLOADS

_SMALL = {
    "count": 20,
    "latency-count": 5,
    "in-flight": 10,
    "open-seconds": 0.2,
    "rate": 20,
    "fan-width": 5,
    "fan-rounds": 1,
    "signals": 10,
    "entities": 2,
    "timers": 10,
    "timers-per-workflow": 5,
    "timers-window-s": 0.5,
    "timers-lead-s": 1,
    "idle": 5,
    "idle-settle-s": 0,
    "idle-window-s": 0.1,
    "items": 6,
    "window": 2,
    "events": 12,
    "replay-rounds": 1,
    "mixed-rate": 20,
    "mixed-seconds": 0.5,
}


@pytest.mark.timeout(240)
def test_every_workload_gives_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out" / "results.json"
    chosen = [option for name in WORKLOADS for option in ("--workload", name)]
    small = [f"--{name}={value}" for name, value in _SMALL.items()]
    assert main(["run", "--target", "embedded", *chosen, *small, "--output", str(output), "--markdown"]) == 0

    found = {result.workload: result for result in map(from_json_line, output.read_text().splitlines())}
    assert list(found) == list(WORKLOADS)
    assert {result.target for result in found.values()} == {"embedded"}
    one = found["one"].figures
    assert one["latency_ms_samples"] == 5
    assert one["open_latency_ms_samples"] == 4
    assert one["workflows_per_s"] > 0
    assert one["records_per_workflow"] > 5
    assert one["disk_bytes_per_workflow"] >= 0
    assert one["rss_mib/all"] > 10
    assert one["cpu_s_per_1000"] == one["cpu_s_per_1000/all"]
    assert found["timers"].figures["timer_lateness_ms_samples"] == 10
    assert found["timers"].figures["timers_early"] == 0
    assert found["idle"].figures["idle_workflows"] == 5
    assert found["signal"].figures["signals"] == 10
    assert found["batch"].figures["items"] == 6
    assert found["replay"].figures["history_events"] >= 12
    assert found["mixed"].figures["mixed_latency_ms_samples"] == 10

    printed = capsys.readouterr().out
    assert "`one`" in printed
    assert "| figure | embedded |" in printed
