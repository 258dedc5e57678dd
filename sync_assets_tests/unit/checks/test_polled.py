"""The freshness check tells "polled lately, nothing new" from "not polled"."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sync_assets.checks.health import POLL_OVERDUE, polled
from sync_assets.ledger import Feed

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def feed(since_poll: timedelta, saved: timedelta = timedelta(days=3), complete: bool = True) -> Feed:
    return Feed("contact", "link", "delta", "f", complete, 1, 7, False, NOW - saved, NOW - since_poll)


@pytest.mark.parametrize(
    ("found", "passed", "says"),
    [
        (None, False, "never been captured"),
        (feed(timedelta(seconds=3)), True, "Polled at 2026-11-24 11:59:57 UTC, nothing new is waiting; complete"),
        (feed(POLL_OVERDUE), True, "Polled at"),
        (feed(POLL_OVERDUE + timedelta(seconds=1)), False, "Not polled since 2026-11-24 11:44:59 UTC"),
        (feed(timedelta(0), complete=False), True, "first read is not finished"),
    ],
)
def test_what_the_check_says(found: Feed | None, passed: bool, says: str) -> None:
    result = polled("contact", found, NOW)
    assert result.passed is passed
    assert says in result.message


def test_a_failing_check_says_what_to_do() -> None:
    result = polled("contact", feed(timedelta(hours=2)), NOW)
    assert "Start the sensor d365_changes" in result.message
