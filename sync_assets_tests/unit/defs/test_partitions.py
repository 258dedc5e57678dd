"""Partitions are the days from the first one to today; what a run of past days is about."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from sync_assets.defs.partitions import daily, past_days, today

YESTERDAY, BEFORE = (datetime.now(UTC).date() - timedelta(days=n) for n in (1, 2))


def test_the_first_partition_is_the_start_date_and_the_last_one_is_today() -> None:
    days = daily(BEFORE)
    assert days.get_partition_keys() == [BEFORE.isoformat(), YESTERDAY.isoformat(), today()]
    assert daily(BEFORE) is days


@pytest.mark.parametrize(
    ("keys", "days"),
    [
        ([today()], None),
        ([YESTERDAY.isoformat()], (YESTERDAY, YESTERDAY)),
        ([BEFORE.isoformat(), YESTERDAY.isoformat(), today()], (BEFORE, YESTERDAY)),
    ],
    ids=["today follows the feed", "a past day", "a range with today"],
)
def test_days_that_are_over_are_read_again(keys: list[str], days: tuple[date, date] | None) -> None:
    assert past_days(keys) == days
