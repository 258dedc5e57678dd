"""Campaign's way of writing moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.campaign.timestamps import moment
from sync_assets.sandbox.campaign.values import time_text


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_what_campaign_writes_is_read_to_the_millisecond_in_utc(at: datetime) -> None:
    if not datetime(2, 1, 1, tzinfo=UTC) <= at <= datetime(9998, 1, 1, tzinfo=UTC):
        return
    read = moment(time_text(at))
    assert read
    assert read.tzinfo is UTC
    assert timedelta(0) <= at - read < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text", ["2026-11-24T09:10:11.123Z", "2026-11-24 09:10:11.123", "2026-11-24 11:10:11.123+02:00"]
)
def test_other_ways_of_writing_are_read_too(text: str) -> None:
    assert moment(text) == datetime(2026, 11, 24, 9, 10, 11, 123_000, UTC)


@pytest.mark.parametrize("value", ["", None, "soon", "2026-13-01 00:00:00.000Z", 0, True, {"href": "x"}])
def test_what_is_no_moment_is_none(value: object) -> None:
    assert moment(value) is None


def test_a_moment_beyond_the_calendar_is_none() -> None:
    assert moment("0001-01-01 00:00:00.000+02:00") is None
