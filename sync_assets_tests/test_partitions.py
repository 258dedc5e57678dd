"""Which runs a backlog is split into."""

from __future__ import annotations

import itertools
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync_assets.ingress.transform import FIRST_DAY
from sync_assets.partitions import daily, days_within, partition_day, split_days, to_partitions


def day(n: int) -> date:
    return date(2026, 1, 1) + timedelta(days=n)


def test_nothing_pending_needs_no_run() -> None:
    assert split_days([], 4) == []


def test_one_part_is_one_range() -> None:
    assert split_days([(day(0), 5), (day(3), 1), (day(9), 7)], 1) == [(day(0), day(9))]


def test_a_wide_gap_is_left_out() -> None:
    assert split_days([(day(0), 5), (day(100), 1)], 1) == [(day(0), day(0)), (day(100), day(100))]


def test_equal_days_are_shared_out_evenly() -> None:
    assert split_days([(day(n), 10) for n in range(8)], 4) == [(day(n), day(n + 1)) for n in range(0, 8, 2)]


def test_days_of_middling_size_make_no_more_ranges_than_asked_for() -> None:
    assert split_days([(day(n), 6) for n in range(7)], 4) == [
        (day(0), day(1)),
        (day(2), day(3)),
        (day(4), day(5)),
        (day(6), day(6)),
    ]


def test_one_heavy_day_gets_several_runs() -> None:
    assert split_days([(day(0), 1_000_000)], 4) == [(day(0), day(0))] * 4


pending = st.dictionaries(st.integers(0, 400), st.integers(1, 100_000), max_size=60).map(
    lambda found: [(day(n), count) for n, count in sorted(found.items())]
)


@given(pending, st.integers(1, 8))
def test_every_pending_day_is_in_a_range_and_ranges_do_not_overlap(found: list[tuple[date, int]], parts: int) -> None:
    ranges = split_days(found, parts)
    assert all(any(first <= one <= last for first, last in ranges) for one, _ in found)
    distinct = list(dict.fromkeys(ranges))
    assert all(before[1] < after[0] for before, after in itertools.pairwise(distinct))
    gaps = sum(after[0] - before[0] > timedelta(days=31) for before, after in itertools.pairwise(found))
    assert len(ranges) <= parts + gaps


@given(st.dates())
def test_every_day_stands_in_a_partition_that_there_is_and_a_run_of_that_partition_takes_it(any_day: date) -> None:
    key = partition_day(any_day).isoformat()
    assert daily.has_partition_key(key)
    first, last = days_within(key, key)
    assert first <= any_day <= last


@given(st.dates(min_value=FIRST_DAY + timedelta(days=1), max_value=date(2026, 1, 1)))
def test_a_past_day_stands_in_its_own_partition_alone(past: date) -> None:
    assert partition_day(past) == past
    assert days_within(past.isoformat(), past.isoformat()) == (past, past)


@given(st.lists(st.tuples(st.dates(), st.integers(1, 9))))
def test_numbers_by_day_become_numbers_by_partition_in_order_and_none_is_lost(days: list[tuple[date, int]]) -> None:
    found = to_partitions(days)
    assert sum(count for _, count in found) == sum(count for _, count in days)
    assert [key for key, _ in found] == sorted({partition_day(one) for one, _ in days})
