"""What the follower reports of an asset at a moment: a truth table of what Dagster shows and what is so."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from sync_assets.defs.dagster_internals import Last, Materialization
from sync_assets.defs.follower.reports import Reported, is_due, next_reported

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
TODAY, YESTERDAY = "2026-12-01", "2026-11-30"


last_of = partial(Last, Materialization(storage_id=1, run_id="", timestamp=0.0))


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("last", "version", "reported", "quiet", "due"),
    [
        pytest.param(None, "0", None, True, True, id="never materialised, and polled"),
        pytest.param(None, "7", None, False, True, id="never materialised, and changed"),
        pytest.param(last_of(YESTERDAY, "7", ago(30)), "7", None, True, True, id="the first poll of a day"),
        pytest.param(last_of(YESTERDAY, "7", ago(30)), "7", None, False, False, id="a new day without a poll"),
        pytest.param(last_of(YESTERDAY, "7", ago(30)), "8", ago(0.1), False, True, id="the first work of a day"),
        pytest.param(last_of(TODAY, "7", ago(5)), "7", None, True, False, id="quiet"),
        pytest.param(last_of(TODAY, "7", ago(60)), "7", None, True, True, id="quiet for an hour"),
        pytest.param(last_of(TODAY, "7", ago(60)), "7", None, False, False, id="for an hour not polled, or pending"),
        pytest.param(last_of(TODAY, "7", ago(0.1)), "8", None, True, True, id="changed just after another run"),
        pytest.param(last_of(TODAY, "7", ago(1.5)), "8", ago(1.5), True, False, id="changed within the spacing"),
        pytest.param(last_of(TODAY, "7", ago(2)), "8", ago(2), True, True, id="changed after the spacing"),
        pytest.param(last_of(TODAY, "7", ago(60)), "8", ago(1), True, True, id="an hour, whatever else"),
    ],
)
def test_an_asset_is_materialised_when_it_changed_and_hourly_but_not_all_the_time(
    last: Last | None, version: str, reported: datetime | None, quiet: bool, due: bool
) -> None:
    earlier = reported and Reported(reported, timedelta(minutes=2))
    assert is_due(last, version, NOW, earlier, quiet=quiet) is due


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        pytest.param([*range(60)], [0, 1, 3, 7, 15, 30, 45], id="each minute"),
        pytest.param([*range(0, 60, 4)], [0, 4, 8, 12, 20, 36, 52], id="each fourth minute"),
        pytest.param([0, 1, 2, 40, 41, 42], [0, 1, 40, 41], id="with a pause"),
    ],
)
def test_changes_are_reported_at_once_and_less_often_while_they_go_on(changes: list[int], reported: list[int]) -> None:
    last, times = None, list[int]()
    for minute in changes:
        now = NOW + timedelta(minutes=minute)
        shown = last_of(TODAY, "7", last.at) if last else None
        if is_due(shown, "8", now, last, quiet=False):
            times.append(minute)
            last = next_reported(last, now, timedelta(minutes=1))
    assert times == reported
