"""What a record that Campaign holds is worth as an acknowledgement, and when their list may end."""

import uuid
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.audit.record_comparison import found_to_hold
from sync_assets.audit.record_list import IN_ORDER, KeyOrder, pages_for
from sync_assets.campaign.metadata import Resource
from sync_assets.ledger.model import OTHER, Claimed, LinkTo
from sync_assets.runtime.pkeys import ListedKeys
from sync_assets_tests.support.sample_tables import attributes

ORDER = Resource(
    "cusOrder", "profileAndServicesExt", attributes(cusName="string", cusOwner="string", cusContactLink="link")
)
HASH = b"h" * 16
ANNA = "anna's id"
PKEYS = {"@anna": ANNA, "@bert": "bert's id"}


def order(payload: str | None = '{"cusName":"N"}', *links: LinkTo, update: str | None = None) -> Claimed:
    return Claimed(1, "id", "insert", payload, update, HASH, 0, True, links)


def by_key(id_: str | None) -> LinkTo:
    return LinkTo("cusContactLink", id_, True)


@pytest.mark.parametrize(
    ("record", "held", "hash_", "links"),
    [
        (order(), {"cusName": "N"}, HASH, ()),
        (order(), {"cusName": "Other"}, OTHER, ()),
        (order(), {}, OTHER, ()),
        (order(None), {"cusName": "N"}, OTHER, ()),  # what should be there is not known
        # What is sent once is not compared.
        (order('{"cusName":"N","cusOnce":"x"}', update='{"cusName":"N"}'), {"cusName": "N"}, HASH, ()),
        # Links by the parent's key: the ledger is told what Campaign holds, and sends what it should.
        (order('{"cusName":"N"}', by_key(ANNA)), {"cusName": "N", "cusContactLink": {"PKey": "@anna"}}, HASH, (ANNA,)),
        (order('{"cusName":"N"}', by_key(ANNA)), {"cusName": "N", "cusContactLink": None}, HASH, (None,)),
        (
            order('{"cusName":"N"}', by_key(ANNA)),
            {"cusName": "N", "cusContactLink": {"PKey": "@bert"}},
            HASH,
            ("bert's id",),
        ),
        # One that leads to somebody who is not ours is to go: an update of everything takes it back.
        (order('{"cusName":"N"}', by_key(None)), {"cusName": "N", "cusContactLink": {"PKey": "@eve"}}, OTHER, (None,)),
        # Joined by an attribute: it is part of what is sent.
        (
            order('{"cusName":"N","cusOwner":"a"}', LinkTo("cusOwner", "a", False)),
            {"cusName": "N", "cusOwner": "A"},
            HASH,
            ("a",),
        ),
        (
            order('{"cusName":"N","cusOwner":"a"}', LinkTo("cusOwner", "a", False)),
            {"cusName": "N", "cusOwner": ""},
            OTHER,
            (None,),
        ),
    ],
)
def test_a_record_is_acknowledged_if_it_holds_the_payload(
    record: Claimed, held: dict[str, Any], hash_: bytes, links: tuple[str | None, ...]
) -> None:
    outcome = found_to_hold(record, held, ORDER, lambda link, pkey: PKEYS.get(pkey))
    assert (outcome.result, outcome.hash) == ("done", hash_)
    assert tuple(link.id for link in outcome.links) == links


def test_pkeys_are_known_as_long_as_they_are_needed() -> None:
    keys = ListedKeys()
    keys.add("profile", [("1", {"PKey": "@a"}), ("2", {"PKey": "@b"})])
    keys.add("profile", [("3", {"PKey": "@b"})])
    keys.add("cusOrder", [("1", {"PKey": "@a"}), ("1", {"PKey": "@b"}), ("1", {"PKey": "@b"})])
    assert [keys.id_of("profile", pkey) for pkey in ("@a", "@b", "@c")] == ["1", "3", None]
    assert (keys.repeated("profile"), keys.repeated("cusOrder")) == (0, 1)
    keys.complete.add("profile")
    keys.forget("profile")
    assert (keys.id_of("profile", "@a"), keys.id_of("cusOrder", "@a"), keys.complete) == (None, "1", set())
    keys.close()


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
