"""How a group shares partitions: evenly, completely, and with as few moves as possible."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from perdure_runtime.embedded.groups import share

MEMBERS = st.lists(st.sampled_from("abcdefg"), unique=True, max_size=6)


@given(st.integers(0, 40), MEMBERS, st.dictionaries(st.integers(0, 39), st.sampled_from("abcdefgh")))
def test_every_partition_has_one_member_and_shares_differ_by_one(
    partitions: int, members: list[str], owned: dict[int, str]
) -> None:
    given_to = share(partitions, members, owned)
    if not members:
        assert given_to == {}
        return
    assert sorted(given_to) == list(range(partitions))
    counts = Counter(dict.fromkeys(members, 0))
    counts.update(given_to.values())
    assert set(counts) == set(members)
    assert max(counts.values()) - min(counts.values()) <= 1


@given(st.integers(1, 40), MEMBERS)
def test_sharing_again_moves_nothing(partitions: int, members: list[str]) -> None:
    first = share(partitions, members, {})
    assert share(partitions, members, first) == first


@given(st.integers(1, 40), st.lists(st.sampled_from("abcdef"), unique=True, min_size=1, max_size=5))
def test_a_newcomer_only_takes(partitions: int, members: list[str]) -> None:
    before = share(partitions, members, {})
    after = share(partitions, [*members, "newcomer"], before)
    moved = {p for p in before if before[p] != after[p]}
    assert {after[p] for p in moved} <= {"newcomer"}
    assert len(moved) == partitions // (len(members) + 1)
