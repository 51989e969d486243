"""``perdure dev`` that is asked to stop before it is ready."""

from __future__ import annotations

import pytest

from perdure_ops import dev
from perdure_ops.dev import DevOptions, run_dev
from perdure_ops.errors import CliError
from perdure_ops.stopping import StopRequest
from perdure_runtime.engine import Engine

OPTIONS = DevOptions(port=0, ui_port=None, data=None)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the engine was stopped; it never becomes ready."""
    found: list[bool] = []
    original = Engine.stop
    monkeypatch.setattr(Engine, "wait_ready", lambda self, timeout_s: False)
    monkeypatch.setattr(Engine, "stop", lambda self: (original(self), found.append(True))[0])
    return found


def test_a_signal_during_the_start_ends_it_in_good_order(monkeypatch: pytest.MonkeyPatch, stopped: list[bool]) -> None:
    monkeypatch.setattr(StopRequest, "install_signal_handlers", lambda self: self.ask())
    announced: list[str] = []
    run_dev(OPTIONS, announced.append)
    assert announced == []
    assert stopped == [True]


def test_an_engine_that_does_not_come_up_is_an_error(monkeypatch: pytest.MonkeyPatch, stopped: list[bool]) -> None:
    monkeypatch.setattr(StopRequest, "install_signal_handlers", lambda self: None)
    monkeypatch.setattr(dev, "READY_TIMEOUT_S", 0.0)
    with pytest.raises(CliError, match="was not ready after 0 s"):
        run_dev(OPTIONS, print)
    assert stopped == [True]


def test_a_web_ui_that_others_reach_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StopRequest, "install_signal_handlers", lambda self: None)
    with pytest.raises(CliError, match="PERDURE_API_TOKEN"):
        run_dev(DevOptions(host="0.0.0.0", port=0, ui_port=0, data=None), print)


def test_a_bug_at_the_start_is_told_at_once(monkeypatch: pytest.MonkeyPatch, stopped: list[bool]) -> None:
    monkeypatch.setattr(StopRequest, "install_signal_handlers", lambda self: None)
    monkeypatch.setattr(Engine, "failure", lambda self: RuntimeError("a bug"))
    with pytest.raises(CliError, match="failed before it was ready") as failed:
        run_dev(OPTIONS, print)
    assert str(failed.value.__cause__) == "a bug"
    assert stopped == [True]
