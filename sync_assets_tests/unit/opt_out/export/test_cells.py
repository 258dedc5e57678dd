"""The layout of the dates of an export file is found out, and never guessed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sync_assets_tests.support.export_files import EMAIL, HEADER, TIME, Told, refused, row, text

AUTO = ["11/24/2026 06:00:00", "05/04/2026"]


def test_the_layout_of_dates_is_found_out_from_all_times_of_the_first_batch_that_has_any() -> None:
    rows = [row(1, time=""), row(2, time="")] + [row(3 + at, time=time) for at, time in enumerate(AUTO)]
    told = Told(text(*rows), batch_rows=3)
    assert told.reader.date_layout == "mmddyyyy"
    assert told.good["blackListEmailLastModified"].to_list() == [
        None,
        None,
        datetime(2026, 11, 24, 6, tzinfo=UTC),
        datetime(2026, 5, 4, tzinfo=UTC),
    ]


def test_times_of_foreign_profiles_and_of_all_columns_help_to_find_it() -> None:
    layout = replace(EMAIL, attributes=("blackListEmail", "blackListFax"))
    header = f"{HEADER},blackListFax,blackListFaxLastModified"
    assert Told(text(f"{row(1, time='05/04/2026')},,11/24/2026", header=header), layout).ids == [1]
    assert Told(text(row(1, time="05/04/2026"), ",,11/24/2026")).reader.date_layout == "mmddyyyy"


def test_a_time_that_can_be_read_in_two_ways_is_never_guessed() -> None:
    told = refused(text(row(1, time="05/04/2026")))
    assert told.startswith("The times of the file can be read as mmddyyyy or as ddmmyyyy, and mean different moments.")
    assert "`export.date_format: mmddyyyy`" in told


@pytest.mark.parametrize(("date_format", "month", "day"), [("mmddyyyy", 5, 4), ("ddmmyyyy", 4, 5)])
def test_the_configuration_decides_it(date_format: str, month: int, day: int) -> None:
    told = Told(text(row(1, time="05/04/2026"), row(2, time=TIME)), replace(EMAIL, date_format=date_format))
    assert told.values == [(True, datetime(2026, month, day, tzinfo=UTC))]
    assert told.bad == {3: f"`blackListEmailLastModified` is no time in the layout {date_format}"}
    assert told.reader.date_layout == date_format


def test_while_two_layouts_mean_the_same_the_next_batches_decide() -> None:
    rows = [row(1, time="05/05/2026"), row(2, time="06/06/2026"), row(3, time="07/08/2026"), row(4, time="08/24/2026")]
    assert Told(text(*rows[:2]), batch_rows=1).ids == [1, 2]
    assert Told(text(*rows), batch_rows=3).good["blackListEmailLastModified"].dt.month().to_list() == [5, 6, 7, 8]
    assert "can be read as mmddyyyy or as ddmmyyyy" in refused(text(*rows[:3]), batch_rows=1)


def test_once_it_is_known_a_time_of_another_layout_is_a_bad_row() -> None:
    told = Told(text(row(1, time="11/24/2026"), row(2, time="24/11/2026")), batch_rows=2)
    assert (told.ids, told.bad) == ([1], {3: "`blackListEmailLastModified` is no time in the layout mmddyyyy"})


def test_times_of_two_layouts_are_told_with_how_many_are_which() -> None:
    told = refused(text(row(1, time="11/24/2026"), row(2, time="11/23/2026"), row(3, time="24/11/2026")))
    assert "of 3 different ones mmddyyyy fits 2, ddmmyyyy fits 1." in told


def test_times_of_no_layout_are_told() -> None:
    told = refused(text(row(1, time="24 Nov 2026")))
    assert told.startswith("The times of the file are in none of the layouts that are known: xml, yyyymmdd, mmddyyyy,")
