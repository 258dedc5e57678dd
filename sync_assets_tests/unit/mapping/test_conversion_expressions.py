"""Conversions of whole columns, where there are two ways to one result. What they are for: test_conversions.py."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.mapping.conversion_expressions import _PLAIN_TIME, _time, _time_text

AS_CAMPAIGN_WRITES = "%Y-%m-%d %H:%M:%S%.3fZ"


def both_ways(times: list[str | None]) -> tuple[list[str | None], list[str | None]]:
    frame = pl.DataFrame({"at": times}, schema={"at": pl.String})
    all_plain = frame["at"].str.contains(_PLAIN_TIME).all()
    result = frame.select(
        _time_text(pl.col("at"), plain=all_plain).alias("cut"),
        _time(pl.col("at")).dt.strftime(AS_CAMPAIGN_WRITES).alias("written"),
    )
    return result["cut"].to_list(), result["written"].to_list()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("2024-02-29T23:59:59Z", "2024-02-29 23:59:59.000Z"),
        ("1753-01-01T00:00:00Z", "1753-01-01 00:00:00.000Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31 23:59:59.000Z"),
        ("2023-02-29T00:00:00Z", None),
        ("2024-13-01T00:00:00Z", None),
        ("2024-01-01T29:00:00Z", None),
        ("2024-01-01T00:00:00.120Z", "2024-01-01 00:00:00.120Z"),
        ("yesterday", None),
        (None, None),
    ],
)
def test_a_time_is_written_as_campaign_writes_it_or_is_none(sent: str | None, expected: str | None) -> None:
    assert both_ways([sent]) == ([expected], [expected])


plain = st.datetimes().map(lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"))
odd = st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z", fullmatch=True)


@given(st.lists(st.none() | plain, max_size=5), st.lists(odd, max_size=1))
def test_a_time_does_not_depend_on_the_other_values_of_its_column(times: list[str | None], others: list[str]) -> None:
    cut, written = both_ways([*times, *others])
    assert cut == written
