"""How many records are taken in one step."""

from __future__ import annotations

from perdure_runtime.batching import BATCH_RECORDS_MAX, BATCH_RECORDS_MIN, STEP_S, TELLING_RECORDS, BatchSize


def after_steps(batch: BatchSize, record_s: float, steps: int = 20) -> int:
    """The size after steps that had as many records as they could take."""
    for _ in range(steps):
        batch.took(batch.records, batch.records * record_s)
    return batch.records


def test_a_step_takes_about_as_long_as_it_shall_whatever_a_record_takes() -> None:
    batch = BatchSize()
    for record_s in (0.0002, 0.00005, 0.0001):
        assert abs(after_steps(batch, record_s) - STEP_S / record_s) <= 2


def test_quick_records_are_taken_up_to_the_maximum() -> None:
    assert after_steps(BatchSize(), 0.000001) == BATCH_RECORDS_MAX
    assert after_steps(BatchSize(), 0.0) == BATCH_RECORDS_MAX


def test_slow_records_are_still_taken_in_batches() -> None:
    assert after_steps(BatchSize(), 1.0) == BATCH_RECORDS_MIN


def test_a_single_slow_step_takes_half_of_the_way_and_quick_ones_bring_it_back() -> None:
    batch = BatchSize()
    batch.took(batch.records, 10.0)
    assert BATCH_RECORDS_MAX // 2 <= batch.records <= BATCH_RECORDS_MAX // 2 + BATCH_RECORDS_MIN
    assert after_steps(batch, 0.000001) == BATCH_RECORDS_MAX


def test_a_few_records_tell_nothing() -> None:
    batch = BatchSize()
    for records in (0, 1, TELLING_RECORDS - 1):
        batch.took(records, 10.0)
    assert batch.records == BATCH_RECORDS_MAX
    batch.took(TELLING_RECORDS, 10.0)
    assert batch.records < BATCH_RECORDS_MAX
