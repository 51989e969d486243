"""What triggers decide, without a log: progress, order, batches, bursts, identities, verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.kafka.core import identity
from perdure.kafka.core.batching import Batcher, recut
from perdure.kafka.core.debouncing import Debouncer
from perdure.kafka.core.identity import Origin
from perdure.kafka.core.notices import Notices
from perdure.kafka.core.ordering import Ordering, lane_of, together
from perdure.kafka.core.outcomes import Verdict, retry_delay_s, verdict
from perdure.kafka.core.progress import Progress
from perdure.service import RPCStatusCode

# --- progress -----------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_only_a_finished_beginning_is_committed(offsets: set[int], random: object) -> None:
    taken = sorted(offsets)
    progress = Progress()
    for offset in taken:
        progress.take(offset)
    order = list(taken)
    random.shuffle(order)  # type: ignore[attr-defined]
    finished: set[int] = set()
    for offset in order:
        progress.finish(offset)
        finished.add(offset)
        done = [each for each in taken if all(other in finished for other in taken if other <= each)]
        assert progress.committable == (done[-1] + 1 if done else None)
    assert progress.committable == taken[-1] + 1
    assert progress.open_count == 0


def test_finishing_says_whether_there_is_more_to_commit() -> None:
    progress = Progress()
    for offset in (3, 4, 7):
        progress.take(offset)
    assert not progress.finish(4)
    assert progress.finish(3)
    assert progress.committable == 5


# --- order --------------------------------------------------------------------------------------------------------


def test_records_of_a_key_wait_for_each_other_and_those_of_other_keys_do_not() -> None:
    assert lane_of(Ordering.KEY, "t", 0, b"a", 1) == lane_of(Ordering.KEY, "t", 0, b"a", 2)
    assert lane_of(Ordering.KEY, "t", 0, b"a", 1) != lane_of(Ordering.KEY, "t", 0, b"b", 2)
    assert lane_of(Ordering.KEY, "t", 0, None, 1) != lane_of(Ordering.KEY, "t", 0, None, 2)
    assert lane_of(Ordering.PARTITION, "t", 0, b"a", 1) == lane_of(Ordering.PARTITION, "t", 0, b"b", 2)
    assert lane_of(Ordering.NONE, "t", 0, b"a", 1) != lane_of(Ordering.NONE, "t", 0, b"a", 2)


@given(st.lists(st.integers(0, 3), max_size=50), st.integers(1, 5))
def test_groups_keep_the_order_and_hold_one_place_each(places: list[int], count_max: int) -> None:
    targets = [(place, index) for index, place in enumerate(places)]
    groups = list(together(targets, count_max))
    assert [index for group in groups for index in group] == list(range(len(places)))
    assert all(len(group) <= count_max and len({places[index] for index in group}) == 1 for group in groups)


# --- batches ------------------------------------------------------------------------------------------------------


def test_a_batch_goes_when_it_is_full() -> None:
    batcher = Batcher[int](3, 1_000)
    assert [batcher.add(item, 0) for item in range(4)] == [[], [], [0, 1, 2], []]
    assert batcher.take_due(999) == []
    assert batcher.take_due(1_000) == [3]
    assert batcher.due_ms is None


def test_a_batch_waits_from_its_first_record_on() -> None:
    batcher = Batcher[int](3, 1_000)
    batcher.add(1, 500)
    batcher.add(2, 1_400)
    assert batcher.due_ms == 1_500


@given(st.lists(st.integers()), st.lists(st.lists(st.integers(), max_size=5)), st.integers(1, 5))
def test_what_is_left_over_begins_the_next_batch(left: list[int], batches: list[list[int]], count_max: int) -> None:
    cut = recut(left, batches, count_max)
    assert [item for batch in cut for item in batch] == left + [item for batch in batches for item in batch]
    assert all(0 < len(batch) <= count_max for batch in cut)


# --- bursts -------------------------------------------------------------------------------------------------------


def test_only_the_last_of_a_burst_gets_through_with_those_it_stands_for() -> None:
    bursts = Debouncer[str](1_000, 10_000)
    assert bursts.add("k", "a", 0, 0) == []
    assert bursts.add("k", "b", 500, 500) == []
    assert bursts.take_due(1_499) == []
    (burst,) = bursts.take_due(1_500)
    assert (burst.last, burst.superseded) == ("b", ["a"])
    assert bursts.due_ms is None


def test_a_gap_in_the_log_ends_a_burst_whenever_it_is_read() -> None:
    bursts = Debouncer[str](1_000, 10_000)
    bursts.add("k", "a", 0, 0)
    (burst,) = bursts.add("k", "b", 1_000, 1)
    assert (burst.last, burst.superseded) == ("a", [])


def test_keys_have_bursts_of_their_own() -> None:
    bursts = Debouncer[str](1_000, 10_000)
    bursts.add("k", "a", 0, 0)
    bursts.add("l", "b", 0, 100)
    assert [burst.last for burst in bursts.take_due(1_050)] == ["a"]


def test_a_burst_without_end_is_ended() -> None:
    bursts = Debouncer[int](1_000, 3_000)
    over = [burst for item in range(8) for burst in bursts.add("k", item, item * 500, item * 500)]
    assert [(burst.last, burst.superseded) for burst in over] == [(5, [0, 1, 2, 3, 4])]


# --- identities ---------------------------------------------------------------------------------------------------

ORIGIN = Origin("orders", 3, 17, 1_700_000_000_000)


def test_a_record_that_was_put_back_keeps_its_identity() -> None:
    headers = ((identity.ORIGIN_HEADER, str(ORIGIN).encode()),)
    assert identity.origin_of("orders", 3, 99, 1, headers) == ORIGIN
    assert identity.origin_of("orders", 3, 99, 1, ()) == Origin("orders", 3, 99, 1)


@pytest.mark.parametrize("text", [b"", b"orders", b"orders/a/1/2", b"a/b/1/2/3", b"\xff/1/2", "orders/²/1/1".encode()])
def test_a_malformed_origin_is_none(text: bytes) -> None:
    assert identity.parse_origin(text) is None


def test_identities_differ_by_group_trigger_place_and_time() -> None:
    places = [ORIGIN, ORIGIN._replace(partition=4), ORIGIN._replace(offset=18), ORIGIN._replace(timestamp_ms=1)]
    found = {identity.request_id(group, name, place) for group in "ab" for name in "cd" for place in places}
    assert len(found) == 2 * 2 * len(places)


def test_a_record_that_was_put_back_is_for_the_trigger_that_failed() -> None:
    headers = ((identity.ADDRESSEE_HEADER, identity.addressee("g", "t").encode()),)
    assert identity.is_for("g", "t", headers)
    assert not identity.is_for("g", "other", headers)
    assert identity.is_for("g", "other", ())


# --- verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "singleton", "missing", "expected"),
    [
        (RPCStatusCode.UNAVAILABLE, None, "dead_letter", Verdict.RETRY),
        (RPCStatusCode.DEADLINE_EXCEEDED, "skip", "skip", Verdict.RETRY),
        (RPCStatusCode.ALREADY_EXISTS, None, "dead_letter", Verdict.DEAD_LETTER),
        (RPCStatusCode.ALREADY_EXISTS, "skip", "dead_letter", Verdict.SKIP),
        (RPCStatusCode.ALREADY_EXISTS, "cancel", "dead_letter", Verdict.REPLACE),
        (RPCStatusCode.NOT_FOUND, None, "dead_letter", Verdict.DEAD_LETTER),
        (RPCStatusCode.NOT_FOUND, None, "skip", Verdict.SKIP),
        (RPCStatusCode.INVALID_ARGUMENT, "skip", "skip", Verdict.DEAD_LETTER),
        (None, "skip", "skip", Verdict.DEAD_LETTER),
    ],
)
def test_what_becomes_of_a_refused_request(
    status: RPCStatusCode | None, singleton: object, missing: object, expected: Verdict
) -> None:
    assert verdict(status, singleton, missing) is expected  # type: ignore[arg-type]


def test_retries_wait_longer_up_to_a_bound() -> None:
    delays = [retry_delay_s(attempt) for attempt in range(1, 100)]
    assert delays == sorted(delays)
    assert delays[0] == pytest.approx(0.1)
    assert delays[-1] == pytest.approx(10.0)


# --- notices ------------------------------------------------------------------------------------------------------


def test_a_message_is_said_once_in_a_window_and_the_others_are_counted() -> None:
    notices = Notices[str](1_000, kinds_max=9)
    assert notices.due_ms is None
    assert [notices.take(kind, now_ms) for kind, now_ms in [("a", 0), ("b", 10), ("a", 20), ("a", 999)]] == [
        True, True, False, False,
    ]  # fmt: skip
    assert notices.due_ms == 1_000
    assert notices.take_over(999) == []
    assert notices.take_over(1_000) == [("a", 2)]
    assert notices.due_ms == 1_010
    assert notices.take_over(1_010) == []  # b came once
    assert notices.due_ms is None
    assert notices.take("a", 1_020)


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(1, 5))
def test_however_many_kinds_there_are_each_message_is_said_or_counted(kinds: list[int], kinds_max: int) -> None:
    notices = Notices[int](100, kinds_max)
    said = sum(notices.take(kind, now_ms) for now_ms, kind in enumerate(kinds))
    assert said <= kinds_max + 1
    assert said + sum(count for _, count in notices.take_over(1_000)) == len(kinds)
