"""When a list that was asked for in the order of its keys may end before its last page."""

import uuid
from random import Random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.audit.record_list import IN_ORDER, KeyOrder, pages_for

GUIDS = st.lists(st.uuids(version=4).map(str), min_size=IN_ORDER + 1, max_size=80, unique=True)


def pages_read(keys: list[str], size: int, order: Literal["ascending", "descending"]) -> int:
    """How many of the list's pages are read until it ends."""
    known = KeyOrder(ascending=order == "ascending")
    pages = [keys[start : start + size] for start in range(0, len(keys), size)]
    return next((number for number, page in enumerate(pages, 1) if known.ends(page)), len(pages))


@given(keys=GUIDS, empty=st.integers(0, 200), size=st.integers(1, 30), ascending=st.booleans())
def test_a_sorted_list_is_read_to_the_first_page_without_a_key(
    keys: list[str], empty: int, size: int, ascending: bool
) -> None:
    whole = [*sorted(keys, reverse=not ascending), *[""] * empty]
    read = pages_read(whole, size, "ascending" if ascending else "descending")
    with_keys = -(-len(keys) // size)
    assert read == min(with_keys + 1, -(-len(whole) // size))


@given(keys=GUIDS, empty=st.integers(0, 200), size=st.integers(1, 30), seed=st.integers(0, 9999))
def test_no_key_of_any_list_is_left_out(keys: list[str], empty: int, size: int, seed: int) -> None:
    """Unless keys happen to come in order, as long as it takes to believe in it."""
    whole = [*keys, *[""] * empty]
    Random(seed).shuffle(whole)
    read = pages_read(whole, size, "descending")
    assert not any(whole[read * size :])


@given(keys=GUIDS, size=st.integers(1, 30), empty=st.integers(1, 100))
def test_the_other_order_proves_nothing(keys: list[str], size: int, empty: int) -> None:
    """Ids of Dynamics 365 may grow with time, as records do."""
    whole = [*sorted(keys), *[""] * empty, str(uuid.UUID(int=0))]
    assert pages_read(whole, size, "descending") == -(-len(whole) // size)


def test_a_server_that_sorts_page_by_page_is_not_believed() -> None:
    keys = [str(uuid.UUID(int=number)) for number in range(2 * IN_ORDER, 0, -1)]
    first, second = [*keys[:IN_ORDER], "", ""], [*keys[IN_ORDER:], "", ""]
    order = KeyOrder(ascending=False)
    assert not order.ends(first)
    assert not order.ends(second)
    assert order.broken


def test_records_without_a_key_come_first_where_the_database_sorts_them_so() -> None:
    order = KeyOrder(ascending=False)
    assert [order.ends(page) for page in ([""] * 3, ["", "b", "a"], [""] * 3)] == [False] * 3


@pytest.mark.parametrize(("records", "pages"), [(0, 1), (1, 1), (500, 1), (501, 2), (16_809, 34)])
def test_a_page_has_500_records(records: int, pages: int) -> None:
    assert pages_for(records) == pages
