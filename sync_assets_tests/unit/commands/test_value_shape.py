"""A value's shape shows its kind and the length of a text, and nothing of its content."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.commands.values import value_shape


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (None, "empty"),
        ("", "empty"),
        (True, "boolean"),
        (False, "boolean"),
        (0, "number"),
        (12.5, "number"),
        ("-12.50", "number"),
        ("1E-7", "number"),
        ("1815-12-10", "date"),
        ("2024-03-15T23:59:59Z", "time"),
        ("2024-03-15 23:59:59.000Z", "time"),
        ("ada@example.com", "e-mail, 15 characters"),
        ("Ada", "text, 3 characters"),
        ("A", "text, 1 character"),
        ("+49 151 1234567", "text, 15 characters"),
        ({"PKey": "@1"}, "other"),
    ],
)
def test_shape(value: Any, shape: str) -> None:
    assert value_shape(value) == shape


@given(st.text(min_size=1))
def test_two_texts_of_the_same_kind_and_length_have_the_same_shape(text: str) -> None:
    assert value_shape(f"x{text}") == value_shape("x" * (len(text) + 1)) or "@" in text
