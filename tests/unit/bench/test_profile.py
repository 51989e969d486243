"""What is told of a profile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import profiled
from bench.profiled import FunctionTime, NoProfilerError, Profile, from_json, to_json
from bench.profiling import function_lines

ROOT = Path(__file__).parents[3]
PROFILE = Profile(
    {"MainThread": 0.75, "engine": 2.25},
    [
        FunctionTime("decide", "perdure_history/core/decide.py:10", 400, 2.0, 3.0),
        FunctionTime("encode", "perdure_schemas/codec.py:5", 50, 1.0, 1.0),
    ],
)


def test_a_profile_comes_back_as_it_was() -> None:
    assert from_json(to_json(PROFILE)) == PROFILE
    assert PROFILE.cpu_s == 3.0


def test_functions_are_told_by_share_time_and_calls_for_each_workflow() -> None:
    lines = function_lines(PROFILE, 100, 10)
    assert [line.split() for line in lines] == [
        ["share", "CPU", "s", "calls", "function"],
        ["66.7", "%", "20.0000", "4", "decide", "(perdure_history/core/decide.py:10)"],
        ["33.3", "%", "10.0000", "0.500", "encode", "(perdure_schemas/codec.py:5)"],
    ]
    assert len(function_lines(PROFILE, 100, 1)) == 2
    assert "encode" in function_lines(PROFILE, 100, 10, "perdure_schemas")[1]


def test_without_a_profiler_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yappi", None)
    with pytest.raises(NoProfilerError, match="pip install -e"):
        profiled.start()


def test_all_threads_and_functions_of_a_process_are_seen() -> None:
    """In a process of its own: the profiler hooks into all threads, and those of other tests may be anywhere."""
    pytest.importorskip("yappi")
    program = (
        "from bench import profiled\n"
        "from bench.profiling import function_lines\n"
        "profiled.start()\n"
        "function_lines(profiled.Profile({}, []), 100, 10)\n"
        "print(profiled.to_json(profiled.stop()))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    found = from_json(ended.stdout)
    assert "MainThread" in found.threads
    assert any(function.name == "function_lines" and function.calls == 1 for function in found.functions)
