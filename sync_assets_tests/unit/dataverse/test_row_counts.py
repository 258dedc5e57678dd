"""Counts of rows by queries, against the sandbox: exact beyond what one query counts, and honest where they are not."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import CREATED, Table
from sync_assets.dataverse.row_counts import Interval, RowCount, count_interval, count_rows
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.sandbox_process import SandboxProcess

N = 90
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def shared(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=N)


@pytest.fixture(autouse=True)
def _as_new(shared: SandboxProcess) -> Iterator[None]:
    yield
    shared.admin.settings("d365", count_limit=5000)


def counted(sandbox: SandboxProcess, count: Callable[[DataverseClient, Table], Awaitable[RowCount]]) -> RowCount:
    async def run() -> RowCount:
        async with Runtime(sandbox.env, use=RunOptions(any_ledger=True)).d365() as client:
            return await count(client, await client.table("contact", []))

    return asyncio.run(run())


def rows(sandbox: SandboxProcess, which: Callable[[dict[str, Any]], bool]) -> int:
    return sum(map(which, sandbox.admin.dump_d365()))


def test_rows_that_meet_all_conditions_are_counted(shared: SandboxProcess) -> None:
    assert counted(shared, count_rows) == RowCount(N)
    both = counted(shared, lambda client, table: count_rows(client, table, "statecode eq 0", "", "donotemail eq true"))
    assert both == RowCount(rows(shared, lambda row: row["statecode"] == 0 and row["donotemail"]))


@pytest.mark.parametrize(("limit", "expected"), [(N, RowCount(N)), (N - 1, RowCount(N - 1, at_least=True))])
def test_only_a_count_that_was_cut_is_a_lower_bound(shared: SandboxProcess, limit: int, expected: RowCount) -> None:
    shared.admin.settings("d365", count_limit=limit)
    assert counted(shared, count_rows) == expected


@pytest.mark.parametrize("limit", [1, 7, 5000])
def test_an_interval_is_halved_until_each_part_can_be_counted(shared: SandboxProcess, limit: int) -> None:
    shared.admin.settings("d365", count_limit=limit)
    active = rows(shared, lambda row: row["statecode"] == 0)
    whole = counted(
        shared,
        lambda client, table: count_interval(
            client, table, CREATED, Interval(), "statecode eq 0", now=NOW, queries=5000
        ),
    )
    assert whole == RowCount(active)
    begin = NOW - timedelta(days=400)
    year = counted(
        shared, lambda client, table: count_interval(client, table, CREATED, Interval(begin), now=NOW, queries=5000)
    )
    assert year == RowCount(rows(shared, lambda row: datetime.fromisoformat(row["createdon"]) >= begin))


def test_queries_that_run_out_leave_a_lower_bound(shared: SandboxProcess) -> None:
    shared.admin.settings("d365", count_limit=7)
    since = shared.admin.last()
    some = counted(shared, lambda client, table: count_interval(client, table, CREATED, Interval(), now=NOW, queries=9))
    assert some.at_least
    assert 7 <= some.number < N
    asked = [entry for entry in shared.admin.journal("d365", since) if "count" in entry["path"]]
    assert 1 < len(asked) <= 9


def test_the_halves_of_an_interval_are_the_interval() -> None:
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
    middle = datetime(2026, 1, 2, tzinfo=UTC)
    assert Interval(begin, end).halves(NOW) == (Interval(begin, middle), Interval(middle, end))
    assert Interval(begin).halves(end) == (Interval(begin, middle), Interval(middle))
    first, last = Interval().halves(NOW) or (None, None)
    assert first
    assert last
    assert (first.begin, first.end, last.end) == (None, last.begin, None)
    assert Interval(begin, begin + timedelta(seconds=1)).halves(NOW) is None
    assert Interval(None, datetime(1990, 1, 1, tzinfo=UTC)).halves(NOW) is None
    assert Interval(begin, end).condition("x") == "x ge 2026-01-01T00:00:00Z and x lt 2026-01-03T00:00:00Z"
    assert Interval().condition("x") == ""
