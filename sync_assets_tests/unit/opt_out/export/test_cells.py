"""Times are read in the configured layout; in another one they are no times, and never guessed."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import pytest

from sync_assets_tests.support.export_files import EMAIL, TIME, ReadFile, refused, row, text


@pytest.mark.parametrize(("date_format", "month", "day"), [("mmddyyyy", 5, 4), ("ddmmyyyy", 4, 5)])
def test_times_are_read_in_the_configured_layout_and_others_make_bad_rows(
    date_format: Literal["mmddyyyy", "ddmmyyyy"], month: int, day: int
) -> None:
    result = ReadFile(text(row(1, time="05/04/2026"), row(2, time=TIME)), replace(EMAIL, date_format=date_format))
    assert result.values == [(True, datetime(2026, month, day, tzinfo=UTC))]
    assert result.bad == {3: f"`blackListEmailLastModified` is no time in the layout {date_format}"}
    assert result.reader.date_layout == date_format


@pytest.mark.parametrize("times", [["05/04/2026"], ["", "24 Nov 2026", "05/04/2026"]])
def test_a_file_of_which_no_time_is_in_the_layout_is_refused_as_a_whole(times: list[str]) -> None:
    message = refused(text(*(row(number, time=time) for number, time in enumerate(times))))
    assert message.startswith(
        "No time of the file is in the date layout `xml`. `sync-assets doctor --file FILE` prints"
    )


def test_a_file_without_times_has_no_layout() -> None:
    assert ReadFile(text(row(1, time=""))).reader.date_layout is None
