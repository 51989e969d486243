"""A standby of TIMERS: nothing fires while it folds, everything due fires when it has taken over."""

from __future__ import annotations

from tests.support.fakes import DictStore
from tests.support.timers import NAMES, START_MS, Timers


def test_what_a_standby_folded_and_stored_fires_after_the_takeover() -> None:
    owner = Timers()
    owner.write("run/t1", START_MS + 5_000)
    owner.write("run/t2", START_MS + 90_000)
    store = DictStore()
    standby = owner.driver.role.open(0, store, None)
    for record in owner.log.read(NAMES.timers, 0):
        standby.fold(record)
    standby.fold_committed(1)
    assert standby.fold_checkpoint(START_MS) is None, "it may be written at once"
    successor = Timers(owner.log, DictStore(store.snapshot()), START_MS + 6_000, owner="second")
    successor.advance(0)
    assert [timer_id for timer_id, _ in successor.fired] == ["run/t1"]
