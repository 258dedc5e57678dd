"""Times in sentences."""

from datetime import UTC, datetime, timedelta

from sync_assets.ledger.times import clock

NOW = datetime(2026, 12, 3, 8, 43, 25, tzinfo=UTC)


def test_a_time_is_shown_to_the_minute_and_only_a_later_one_is_rounded_up() -> None:
    assert [clock(NOW + timedelta(seconds=seconds), NOW) for seconds in (-5, 0, 5, 35)] == [
        "08:43 UTC",
        "08:43 UTC",
        "08:44 UTC",
        "08:44 UTC",
    ]
    assert clock(NOW - timedelta(days=1), NOW) == "2026-12-02 08:43 UTC"
