"""Every layout of dates that Campaign can write is read."""

from datetime import UTC, datetime, timedelta
from itertools import product

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.config.opt_out import DateLayout
from sync_assets.opt_out.export.cells import DATE_LAYOUTS, TIME_TYPE, parse


def read(text: str | None, layout: DateLayout) -> datetime | None:
    moments = parse(pl.Series("times", [text], pl.String), layout)
    assert (moments.name, moments.dtype) == ("times", TIME_TYPE)
    return moments.item()


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # pyright: ignore[reportArgumentType]


def written(moment: datetime, layout: DateLayout, separator: str, short_year: bool, clock: str) -> str:
    """As Campaign's Extract file writes it."""
    year = "%y" if short_year else "%Y"
    parts = {"yyyy": year, "mm": "%m", "dd": "%d"}
    if layout == "xml":
        order = ["yyyy", "mm", "dd"]
    else:
        at = layout.index("yyyy")
        rest = layout[:at] + layout[at + 4 :]
        order = sorted(("yyyy", rest[:2], rest[2:]), key=layout.index)
    return moment.strftime(separator.join(parts[part] for part in order) + clock)


MOMENTS = st.datetimes(utc(2000, 1, 1).replace(tzinfo=None), utc(2099, 12, 31).replace(tzinfo=None)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)


@given(MOMENTS, st.sampled_from(DATE_LAYOUTS[1:]), st.sampled_from(["/", "-", ".", ""]), st.booleans())
def test_each_layout_is_read_with_any_separator_either_year_and_a_clock_or_none(
    moment: datetime, layout: DateLayout, separator: str, short_year: bool
) -> None:
    for blank, fraction in product((" ", "T"), ("", ".000")):
        text = written(moment, layout, separator, short_year, f"{blank}%H:%M:%S{fraction}")
        assert read(text, layout) == moment
    midnight = moment.replace(hour=0, minute=0, second=0)
    assert read(written(moment, layout, separator, short_year, ""), layout) == midnight


@given(MOMENTS)
def test_xml_is_read_with_t_or_blank_and_with_z_or_nothing_both_of_which_are_utc(moment: datetime) -> None:
    for blank, fraction, zone in product(("T", " "), ("", ".250", ".25", ".250000"), ("Z", "")):
        expected = moment + timedelta(milliseconds=250 if fraction else 0)
        assert read(written(moment, "xml", "-", False, f"{blank}%H:%M:%S{fraction}{zone}"), "xml") == expected


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24T10:00:00+02:00", utc(2026, 11, 24, 8)),
        ("2026-11-24T10:00:00.500-0530", utc(2026, 11, 24, 15, 30, 0, 500_000)),
        ("2026-11-24 23:30:00-01:00", utc(2026, 11, 25, 0, 30)),
        ("2026-11-24T10:00:00.007+00:00", utc(2026, 11, 24, 10, 0, 0, 7_000)),
    ],
)
def test_an_xml_time_with_an_offset_keeps_its_moment(text: str, moment: datetime) -> None:
    assert read(text, "xml") == moment


@pytest.mark.parametrize("digits", range(0, 1000, 37))
def test_milliseconds_are_exact(digits: int) -> None:
    assert read(f"11/24/2026 10:00:00.{digits:03}", "mmddyyyy") == utc(2026, 11, 24, 10, 0, 0, digits * 1000)


@pytest.mark.parametrize("text", ["2026-11-24", "2024-02-29"])
def test_a_whole_day_is_the_start_of_that_day(text: str) -> None:
    assert read(text, "xml") == datetime.fromisoformat(text).replace(tzinfo=UTC)


NO_TIMES: list[tuple[str | None, DateLayout]] = [
    (None, "xml"),
    ("", "xml"),
    ("2026-02-29T10:00:00Z", "xml"),
    ("2026-13-01", "xml"),
    ("2026-11-24T24:00:00Z", "xml"),
    ("2026-11-24T10:60:00Z", "xml"),
    ("2026-11-24T10:00:60Z", "xml"),
    ("2026-11-24T10:00Z", "xml"),
    ("2026-11-24T10:00:00+15:00", "xml"),
    ("2026-11-24Z", "xml"),
    ("2026-1-4", "xml"),
    ("2026/11/24", "xml"),
    ("20261124", "xml"),
    ("2026-11-24T10:00:00Z\n", "xml"),
    ("2026-11-24T10:00:00Z", "yyyymmdd"),
    ("٢٠٢٦-11-24", "xml"),
    ("11/24-2026", "mmddyyyy"),
    ("24/11/2026", "mmddyyyy"),
    ("02/30/2026", "mmddyyyy"),
    ("1/4/2026", "mmddyyyy"),
    ("11/24/0026", "mmddyyyy"),
    ("11/24/2026 1:00:00", "mmddyyyy"),
    ("11/24/2026 10:00:00 PM", "mmddyyyy"),
    ("11/24/2026  10:00:00", "mmddyyyy"),
    (" 11/24/2026", "mmddyyyy"),
    ("+1/24/2026", "mmddyyyy"),
    ("1124202", "mmddyyyy"),
    ("\0", "mmddyyyy"),
]


@pytest.mark.parametrize(("text", "layout"), NO_TIMES)
def test_a_text_that_is_no_time_in_the_layout_is_null(text: str | None, layout: DateLayout) -> None:
    assert read(text, layout) is None


def test_ways_to_write_one_layout_may_stand_side_by_side() -> None:
    texts = ["24.11.2026", "x", "24112026 00:00:00", None, "24/11/26", "241126T00:00:00.000", "31/11/2026"]
    day = utc(2026, 11, 24)
    assert parse(pl.Series(texts), "ddmmyyyy").to_list() == [day, None, day, None, day, day, None]


@given(st.lists(st.text(alphabet="0123456789/-. T:Z+x", max_size=24)), st.sampled_from(DATE_LAYOUTS))
def test_any_text_is_a_moment_or_null(texts: list[str], layout: DateLayout) -> None:
    assert len(parse(pl.Series(texts, dtype=pl.String), layout)) == len(texts)
