"""The garbage collector of a process that runs workers or an engine."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from bench import driving
from perdure.runtime import collect_less_often


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector is put back as it was."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_what_is_loaded_is_kept_out_of_collections_and_the_rest_is_collected_less_often() -> None:
    gc.set_threshold(700, 10, 10)
    frozen = gc.get_freeze_count()
    collect_less_often()
    assert gc.get_freeze_count() > frozen
    assert all(now > before for now, before in zip(gc.get_threshold(), (700, 10, 10), strict=True))
    assert gc.isenabled()


@pytest.mark.usefixtures("collector")
def test_programs_that_are_measured_beside_ours_collect_as_rarely() -> None:
    collect_less_often()
    ours = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    driving.collect_less_often()
    assert gc.get_threshold() == ours
