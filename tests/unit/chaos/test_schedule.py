"""The schedule of faults: drawn from its seed alone, and every kind as often as any other."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.faults import Injector
from tests.chaos.schedule import EMBEDDED_KINDS, KINDS, schedule

TARGETS = {"worker": 3, "engine": 2, "clock": 5, "broker": 1, "link": 3, "topic": 8}


def test_the_same_seed_gives_the_same_faults() -> None:
    assert schedule(7, 600, 5, KINDS, TARGETS) == schedule(7, 600, 5, list(reversed(KINDS)), TARGETS)
    assert schedule(7, 600, 5, KINDS, TARGETS) != schedule(8, 600, 5, KINDS, TARGETS)


def test_ten_minutes_hold_every_kind_about_equally_often() -> None:
    faults = schedule(1, 600, 5, KINDS, TARGETS)
    assert len(faults) == 119
    assert [fault.at_s for fault in faults[:3]] == [5, 10, 15]
    often = Counter(fault.kind for fault in faults)
    assert set(often) == set(KINDS)
    assert max(often.values()) - min(often.values()) <= 1
    for fault in faults:
        kind = KINDS[fault.kind]
        assert 0 <= fault.target < TARGETS[kind.targets]
        assert kind.duration_s[0] <= fault.duration_s <= kind.duration_s[1]
        assert kind.amount[0] <= fault.amount <= kind.amount[1]


def test_the_embedded_log_has_no_broker_to_break() -> None:
    assert set(KINDS) - set(EMBEDDED_KINDS) == {"broker-kill", "broker-stop"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_done(kind: str) -> None:
    assert callable(getattr(Injector, "_" + kind.replace("-", "_")))
