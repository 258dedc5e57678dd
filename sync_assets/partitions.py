"""Daily partitions, UTC: a row belongs to the day on which D365 last modified it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from sync_assets.ingress.transform import FIRST_DAY

daily = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone="UTC", end_offset=1)
"""Up to and including today; rows last modified before the first day stand under the first day."""

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
TABLE_TAG = "sync/table"
"""On every run of ours: which tables it works on, for people."""
CHANGES_TAG = "sync/changes"
"""On runs that follow the change feeds: they do not send for long, so that the next change is soon captured."""


def today() -> str:
    """The key of today's partition."""
    return datetime.now(UTC).date().isoformat()


def partition_day(day: date) -> date:
    """The day in whose partition the rows of a day stand, which may be one that our clock has not reached yet.

    Dynamics 365 stamps its rows by its own clock, and so do the machines of ours that share a ledger.
    """
    return min(max(day, FIRST_DAY), datetime.now(UTC).date())


def to_partitions(days: Iterable[tuple[date, int]]) -> list[tuple[date, int]]:
    """Numbers by day -> numbers by the day of the partition, ascending."""
    counts: Counter[date] = Counter()
    for day, count in days:
        counts[partition_day(day)] += count
    return sorted(counts.items())


def days_within(first: str, last: str) -> tuple[date, date]:
    """The days whose rows stand in the partitions from `first` to `last`: the earlier ones, too, where the range begins
    with the first partition, and the later ones where it ends with today's."""
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    today = datetime.now(UTC).date()
    return date.min if begin <= FIRST_DAY else begin, date.max if end >= today else end


def table_tags(*tables: str) -> dict[str, str]:
    """Tags of a run that works on these tables: one for people, and one each by which sensors see what is under way."""
    return {TABLE_TAG: ", ".join(tables), **{under_way_tag(table): "yes" for table in tables}}


def under_way_tag(table: str) -> str:
    return f"sync_table/{table}"


def range_tags(first: date, last: date) -> dict[str, str]:
    """Tags that make one run of all partitions from `first` to `last`."""
    return {RANGE_START: first.isoformat(), RANGE_END: last.isoformat()}


def split_days(pending: Sequence[tuple[date, int]], parts: int, widest_gap: int = 31) -> list[tuple[date, date]]:
    """Days with pending records, ascending -> ranges for `parts` runs of like size, and a cut at each wide gap.

    A range names every day in it, pending or not, and Dagster notes each of them as materialised: that is why a gap
    of more than `widest_gap` days is left out. Without such gaps there are never more than `parts` ranges. A range
    with a day that outweighs its share stands there several times: the runs share its records through leases.
    """
    total = sum(count for _, count in pending)
    ranges: list[tuple[date, date]] = []
    first: date | None = None  # where the range that is still open begins
    records, so_far, shares = 0, 0, 0
    following = [*(day for day, _ in pending), date.max][1:]
    for (day, count), next_day in zip(pending, following, strict=True):
        first = first or day
        records, so_far = records + count, so_far + count
        reached = so_far * parts // total
        apart = next_day - day > timedelta(days=widest_gap)
        if reached > shares or apart:
            ranges += [(first, day)] * max(1, min(reached - shares, records))
            first, records, shares = None, 0, max(reached, shares)
    return ranges
