"""A standby of MATCHING: what it folded is there at the takeover, and after a restart."""

from __future__ import annotations

from tests.support.fakes import DictStore
from tests.support.matching import NAMES, START_MS, Matching


def test_what_a_standby_folded_and_stored_is_taken_over() -> None:
    owner = Matching()
    for number in range(3):
        owner.write_task(f"run/a{number}.1")
    store = DictStore()
    role = owner.driver.role
    standby = role.open(0, store, None)
    assert standby.restore_offset() is None
    for record in owner.log.read(NAMES.tasks, 0):
        standby.fold(record)
    standby.fold_committed(2)
    assert standby.fold_checkpoint(START_MS) is None, "it may be written at once"
    owner.now_ms = START_MS + 60_000
    standby.fold_checkpoint(START_MS)
    again = Matching(owner.log, DictStore(store.snapshot()), START_MS + 60_000, owner="second")
    assert sorted(again.state.tasks) == [f"run/a{number}.1" for number in range(3)]
