"""Daily partitions, UTC: a row belongs to the day on which its change was captured, the first load to the first day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache

import dagster as dg

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
TABLE_TAG = "sync/table"
"""On every run of ours: which tables it works on, for people."""


@lru_cache(maxsize=8)
def daily(start: date) -> dg.DailyPartitionsDefinition:
    """The days from `start` up to and including today. start: `runs.start_date` of the configuration."""
    return dg.DailyPartitionsDefinition(start_date=start.isoformat(), timezone="UTC", end_offset=1)


def today() -> str:
    """The key of today's partition."""
    return datetime.now(UTC).date().isoformat()


def version_tags() -> dict[str, str]:
    """Tags of a materialisation outside a run's results: its data version is the day. With a version for each
    materialisation, all that is made daily (audits, the report) would count as unsynced all day."""
    return {"dagster/data_version": today()}


def past_days(keys: Sequence[str]) -> tuple[date, date] | None:
    """The first and the last of the partitions that are over, None if there is none of them. Dagster gives a run
    partitions that follow each other."""
    over = sorted(key for key in keys if key < today())
    return (date.fromisoformat(over[0]), date.fromisoformat(over[-1])) if over else None


def table_tags(*tables: str) -> dict[str, str]:
    """Tags of a run that works on these tables: one for people, and one each by which sensors find runs under way."""
    return {TABLE_TAG: ", ".join(tables), **{under_way_tag(table): "yes" for table in tables}}


def under_way_tag(table: str) -> str:
    """Dagster's UI hides tags that begin so."""
    return f".dagster/sync_table/{table}"
