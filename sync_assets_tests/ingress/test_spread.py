"""Over how many runs a backlog is spread."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.run_coordinator.queued_run_coordinator import RunQueueConfig

from sync_assets.ingress.spread import BACKLOG_TAG, MOST_RUNS, RECORDS_PER_RUN, most_runs, permitted, spread

FIRST = date(2026, 1, 1)
FAR_APART = [(FIRST + timedelta(days=100 * n), 10) for n in range(6)]


def limit_of(limit: int, value: Any = None) -> dict[str, Any]:
    return {"key": BACKLOG_TAG, "limit": limit} | ({} if value is None else {"value": value})


@pytest.mark.parametrize(
    ("limits", "most", "expected"),
    [
        ([limit_of(8, {"applyLimitPerUniqueValue": True})], 30, 8),
        ([limit_of(8)], 30, 8),
        ([limit_of(8, "contact")], 30, 8),
        ([limit_of(8), limit_of(3, "contact")], 30, 3),
        ([limit_of(8, "new_order")], 30, MOST_RUNS),
        ([{"key": "other", "limit": 1}], 30, MOST_RUNS),
        ([], 30, MOST_RUNS),
        ([], 2, 2),
        ([limit_of(8)], 6, 6),
        ([limit_of(8)], -1, 8),
        ([limit_of(0)], 30, 1),
    ],
)
def test_dagster_yaml_says_how_many_runs_a_table_may_have_at_once(
    limits: list[dict[str, Any]], most: int, expected: int
) -> None:
    assert permitted(RunQueueConfig(most, limits), "contact") == expected


def test_without_a_queue_there_is_a_limit_as_well() -> None:
    with dg.DagsterInstance.ephemeral() as opened:
        assert most_runs(opened, "contact", one_writer=False) == MOST_RUNS


def test_on_a_ledger_with_one_writer_there_is_one_run() -> None:
    with dg.DagsterInstance.ephemeral() as opened:
        assert most_runs(opened, "contact", one_writer=True) == 1


@pytest.mark.parametrize(
    ("records", "runs"),
    [(1, 1), (RECORDS_PER_RUN, 1), (RECORDS_PER_RUN + 1, 2), (3 * RECORDS_PER_RUN, 3), (30_000_000, 8)],
)
def test_there_is_one_run_for_each_so_many_records_up_to_the_limit(records: int, runs: int) -> None:
    assert len(spread([(FIRST, records)], 8)) == runs
    day = records // 5
    many_days = [(FIRST + timedelta(days=n), day) for n in range(4)] + [(FIRST + timedelta(days=4), records - 4 * day)]
    assert len(spread([(day, count) for day, count in many_days if count], 8)) == runs


def test_days_that_lie_far_apart_are_never_more_runs_than_the_limit_and_all_get_their_turn() -> None:
    seen: list[date] = []
    after = None
    for _ in range(2):  # nothing moves meanwhile
        ranges = spread(FAR_APART, 4, after)
        assert len(ranges) == 4
        after = ranges[-1][0]
        seen += [first for first, _ in ranges]
    assert set(seen) == {day for day, _ in FAR_APART}
    assert seen[4] == FAR_APART[4][0]
