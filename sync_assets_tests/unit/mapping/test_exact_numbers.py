"""Numbers with a fraction: one spelling for each value, all digits kept."""

from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.mapping.exact_numbers import canonical, canonical_text


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("20000.0000", "20000"),
        ("100", "100"),
        ("1.50", "1.5"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("0E-10", "0"),
        ("1E+3", "1000"),
        ("-1.25e2", "-125"),
        ("12345.678e-3", "12.345678"),
        ("1e-7", "0.0000001"),
        ("NaN", None),
        ("Infinity", None),
        ("007", None),
        ("1_0", None),
        ("", None),
        (None, None),
    ],
)
def test_spelling(sent: str | None, expected: str | None) -> None:
    assert canonical(pl.DataFrame({"n": [sent]}, {"n": pl.String}))["n"].to_list() == [expected]
    assert sent is None or canonical_text(sent) == expected


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)


@given(st.lists(st.none() | NUMBERS.filter(lambda number: number.adjusted() > -900)))
def test_a_column_is_spelt_as_single_values_are_and_keeps_its_values(numbers: list[Decimal | None]) -> None:
    sent = [None if number is None else str(number) for number in numbers]
    spelt = canonical(pl.DataFrame({"n": sent}, {"n": pl.String}))["n"].to_list()
    assert spelt == [None if number is None else canonical_text(number) for number in numbers]
    assert [None if text is None else Decimal(text) for text in spelt] == numbers


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_configured_numbers_keep_their_digits(number: float) -> None:
    text = canonical_text(number)
    assert text is not None
    assert "e" not in text
    assert float(text) == number if isinstance(number, float) else int(text) == number
