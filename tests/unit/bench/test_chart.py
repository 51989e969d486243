"""Charts: SVG that any viewer reads, and the same for the same figures."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.chart import NoChartError, bars, lines, require_charts


def test_bars_name_every_system_and_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    panels = {"workflows/s": {"embedded": 1000.0, "restate": 100.0}, "p50 in ms": {"embedded": 1.5, "restate": 10.0}}
    path = tmp_path / "charts" / "one.svg"
    bars(path, panels, "A title")
    first = path.read_text()
    assert ElementTree.fromstring(first).tag.endswith("svg")
    for word in ("A title", "workflows/s", "p50 in ms", "embedded", "restate", "1,000", "1.5"):
        assert word in first
    bars(path, panels, "A title")
    assert path.read_text() == first


def test_lines_name_their_curves_and_axes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "scale.svg"
    lines(path, {"1 worker": [(1, 10), (2, 20)]}, "Scale", "partitions", "workflows per second")
    text = path.read_text()
    for word in ("1 worker", "partitions", "workflows per second"):
        assert word in text


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NoChartError, match=r"pip install -e"):
        require_charts()
