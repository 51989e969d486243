"""Histories of earlier versions replay against the code of today."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.client import WorkflowHistory
from perdure.worker import Replayer
from tests.replay.golden_workflows import SCENARIOS, WORKFLOWS
from tests.replay.record import FOLDER, path_of


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
async def test_a_golden_history_replays(path: Path) -> None:
    history = WorkflowHistory.from_json(f"golden-{path.stem}", path.read_text())
    result = await Replayer(workflows=WORKFLOWS).replay_workflow(history)
    assert result.replay_failure is None
    assert len(history.events) > 3
    again = WorkflowHistory.from_json(history.workflow_id, history.to_json())
    assert again == history
    assert (await Replayer(workflows=WORKFLOWS).replay_workflow(again)).replay_failure is None


def test_every_scenario_is_recorded() -> None:
    assert [name for name in SCENARIOS if not path_of(name).exists()] == []
