"""``perdure rebuild-state``: what it deletes, what it leaves, and when it refuses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure_ops import cli
from perdure_readside.index import ExecutionIndex
from perdure_readside.service import INDEX_FILE
from perdure_runtime.store import StateStore

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(("rebuild-state", *arguments))
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder as two engines leave it, and something that is none of theirs."""
    for instance in ("one", "two"):
        for role in ("history", "timers"):
            StateStore(tmp_path / "default" / instance / role, 1).close()
    ExecutionIndex(tmp_path / "default" / "one" / "readside" / INDEX_FILE, "topic").close()
    (tmp_path / "default" / "history").mkdir()
    (tmp_path / "default" / "history" / "notes.txt").write_text("mine")
    return tmp_path


def left(state: Path) -> set[str]:
    return {str(path.parent.relative_to(state)) for path in state.glob("**/CURRENT")} | {
        str(path.parent.relative_to(state)) for path in state.glob(f"**/{INDEX_FILE}")
    }


ALL = {"default/one/history", "default/one/timers", "default/two/history", "default/two/timers", "default/one/readside"}


def test_all_stores_are_deleted_and_nothing_else(run: Run, state: Path) -> None:
    code, out, _ = run(str(state), "--dry-run", "-o", "json")
    assert code == 0
    rows = json.loads(out)
    assert {str(Path(row["folder"]).relative_to(state)) for row in rows} == ALL == left(state)
    assert all(row["bytes"] > 0 for row in rows)
    code, out, _ = run(str(state), "--yes")
    assert code == 0
    assert "5 stores deleted" in out
    assert left(state) == set()
    assert (state / "default" / "history" / "notes.txt").read_text() == "mine"
    code, out, _ = run(str(state), "--yes")
    assert (code, "nothing to delete" in out) == (0, True)


def test_one_role_of_one_instance(run: Run, state: Path) -> None:
    assert run(str(state / "default" / "one"), "--role", "history", "--yes")[0] == 0
    assert left(state) == ALL - {"default/one/history"}


def test_a_store_in_use_keeps_all_of_them(run: Run, state: Path) -> None:
    store = StateStore(state / "default" / "two" / "timers", 1)
    code, _, err = run(str(state), "--yes")
    store.close()
    assert code == 1
    assert "is in use" in err
    assert len(err.splitlines()) == 1
    reader = sqlite3.connect(state / "default" / "one" / "readside" / INDEX_FILE)
    reader.execute("SELECT count(*) FROM executions").fetchone()
    code, _, err = run(str(state), "--yes")
    reader.close()
    assert code == 1
    assert "is in use: stop the engine first" in err
    assert left(state) == ALL


def test_it_asks(run: Run, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure_ops import state_folders

    monkeypatch.setattr(state_folders.typer, "confirm", lambda *_, **__: False)
    assert run(str(state))[::2] == (1, "Error: nothing was deleted\n")
    assert left(state) == ALL


def test_wrong_use(run: Run, state: Path) -> None:
    assert "there is no folder" in run(str(state / "none"))[2]
    assert "--role: cats is none of" in run(str(state), "--role", "cats")[2]
    assert run()[0] == 2
