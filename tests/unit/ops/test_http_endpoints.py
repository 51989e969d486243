"""Health, readiness and metrics."""

from __future__ import annotations

import dataclasses
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping

import pytest

from perdure_ops.errors import CliError
from perdure_ops.http_endpoints import NO_READ_SIDE, HttpEndpoints, bind
from perdure_runtime.metrics import ROLE_COUNTERS, ROLE_GAUGES, Sample
from perdure_runtime.stats import PartitionStatus, ProcessorStats


class FakeEngine:
    def __init__(self) -> None:
        self.ready = False

    def stats(self) -> Mapping[str, ProcessorStats]:
        return {"history": ProcessorStats(records=42, live_partitions=3), "timers": ProcessorStats()}

    def samples(self) -> list[Sample]:
        return []

    def status(self) -> list[PartitionStatus]:
        return [PartitionStatus("history", 0, "restoring", 17), PartitionStatus("history", 1, "standby", 0)]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def endpoints(engine: FakeEngine) -> Iterator[HttpEndpoints]:
    started = HttpEndpoints(bind("127.0.0.1", 0, "--ui-port"), engine, "Perdure <dev>", "Server & more.")
    started.start()
    yield started
    started.stop()


def _get(endpoints: HttpEndpoints, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoints.port}/{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_living_process_is_healthy_whether_it_is_ready_or_not(endpoints: HttpEndpoints) -> None:
    assert _get(endpoints, "healthz") == (200, "ok\n")


def test_readiness_follows_the_engine(endpoints: HttpEndpoints, engine: FakeEngine) -> None:
    assert _get(endpoints, "readyz") == (
        503,
        "not ready: partitions are being restored\nhistory/0: restoring, 17 to fold\n",
    )
    engine.ready = True
    assert _get(endpoints, "readyz") == (200, "ready\n")


def test_readiness_waits_for_the_read_side_or_says_that_there_is_none(engine: FakeEngine) -> None:
    engine.ready = True
    waits = ["the read side is starting", ""]
    listener = bind("127.0.0.1", 0, "--http-port")
    started = HttpEndpoints(listener, engine, "", "", waiting_for=lambda: waits[0], note=NO_READ_SIDE)
    started.start()
    try:
        assert _get(started, "readyz") == (503, "not ready: the read side is starting\n")
        del waits[0]
        assert _get(started, "readyz") == (200, f"ready\n{NO_READ_SIDE}\n")
    finally:
        started.stop()


def test_metrics_are_the_engines_counters_by_role(endpoints: HttpEndpoints, engine: FakeEngine) -> None:
    engine.ready = True
    status, text = _get(endpoints, "metrics")
    assert status == 200
    assert 'perdure_engine_records_total{role="history"} 42.0' in text
    assert 'perdure_engine_live_partitions{role="history"} 3.0' in text
    assert 'perdure_engine_records_total{role="timers"} 0.0' in text
    assert "perdure_engine_ready 1.0" in text
    assert "process_resident_memory_bytes" in text


def test_where_each_partition_stands_is_told_as_json(endpoints: HttpEndpoints) -> None:
    status, text = _get(endpoints, "partitions")
    assert status == 200
    assert json.loads(text) == [
        {"role": "history", "partition": 0, "state": "restoring", "remaining": 17},
        {"role": "history", "partition": 1, "state": "standby", "remaining": 0},
    ]


def test_every_statistic_has_a_metric() -> None:
    assert {field.name for field in dataclasses.fields(ProcessorStats)} == set(ROLE_COUNTERS) | set(ROLE_GAUGES)


def test_the_index_names_the_endpoints_and_escapes_its_texts(endpoints: HttpEndpoints) -> None:
    status, text = _get(endpoints, "")
    assert status == 200
    assert "Perdure &lt;dev&gt;" in text
    assert "Server &amp; more." in text
    assert all(path in text for path in ("healthz", "readyz", "metrics"))


def test_other_paths_are_not_found(endpoints: HttpEndpoints) -> None:
    assert _get(endpoints, "etc/passwd")[0] == 404


def test_a_port_in_use_names_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CliError, match=f"cannot listen on 127.0.0.1:{port}.*in use.*--ui-port"):
            bind("127.0.0.1", port, "--ui-port")


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(CliError, match=r"cannot listen on 192\.0\.2\.1:0"):
        bind("192.0.2.1", 0, "--host")


def test_a_stop_before_the_start_is_harmless(engine: FakeEngine) -> None:
    HttpEndpoints(bind("127.0.0.1", 0, "--ui-port"), engine, "", "").stop()
