"""Which of the known export files is the newest."""

from datetime import UTC, datetime, timedelta

from sync_assets.ledger.repositories.opt_out_files import OptOutFile
from sync_assets.opt_out.export.folder import newest_of

NOW = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_file_whose_time_lies_in_the_future_is_as_old_as_the_first_poll_that_found_it() -> None:
    """Else the export would never be overdue again."""
    wrong_clock = OptOutFile("optout_1.csv", NOW + 400 * DAY, 10, seen_at=NOW - 2 * DAY, looked_at=NOW)
    right_clock = OptOutFile("optout_2.csv", NOW - 3 * DAY, 10, seen_at=NOW - DAY, looked_at=NOW)
    assert newest_of([wrong_clock, right_clock]) == NOW - 2 * DAY
    assert newest_of([]) is None
