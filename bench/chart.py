"""Charts as SVG files, drawn by matplotlib, which only this module needs (``pip install -e ".[bench]"``).

Called by the commands that are given ``--chart``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class NoChartError(RuntimeError):
    """Charts cannot be drawn here; the message says what to install."""


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise NoChartError('charts need matplotlib: install it with `pip install -e ".[bench]"`') from None
    matplotlib.use("svg")
    # The same figures give the same file, and text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def require_charts() -> None:
    """Fail now rather than after the measurement.

    Raises:
        NoChartError: matplotlib is missing.
    """
    _pyplot()


def bars(path: Path, panels: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Horizontal bars, a panel for each figure, on logarithmic axes, because systems differ by factors.

    Args:
        path: the SVG file to write.
        panels: by the panel's heading, the value of each bar by its name, in order from the top.
        title: above all.
    """
    pyplot = _pyplot()
    height = 0.9 + 0.32 * max(map(len, panels.values()))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.2 * len(panels), height), squeeze=False)
    for axis, (heading, values) in zip(axes[0], panels.items(), strict=True):
        shown = axis.barh(list(values), list(values.values()), color="#3b6ea5")
        axis.bar_label(shown, fmt="{:,.4g}", padding=3)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.set_title(heading)
        axis.margins(x=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    _save(pyplot, figure, path, title)


def lines(
    path: Path, series: Mapping[str, Sequence[tuple[float, float]]], title: str, x_label: str, y_label: str
) -> None:
    """Curves through points.

    Args:
        path: the SVG file to write.
        series: points by the curve's name.
        title: above all.
        x_label, y_label: what the axes are.
    """
    pyplot = _pyplot()
    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    for name, points in series.items():
        axis.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend()
    _save(pyplot, figure, path, title)


def _save(pyplot: Any, figure: Any, path: Path, title: str) -> None:
    figure.suptitle(title)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
