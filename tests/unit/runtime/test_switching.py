"""The turns that threads of a process take where client, worker and engine share it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from perdure.runtime import switch_less_often


@pytest.fixture
def interval_s() -> Iterator[float]:
    """The interval as it was, and is again afterwards."""
    found = sys.getswitchinterval()
    yield found
    sys.setswitchinterval(found)


def test_threads_take_turns_less_often(interval_s: float) -> None:
    switch_less_often()
    assert sys.getswitchinterval() > interval_s
