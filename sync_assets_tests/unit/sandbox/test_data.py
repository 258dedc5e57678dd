"""The sandbox's sample rows: deterministic, awkward, and within what both systems accept."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from sync_assets.sandbox import data

UNTIL = datetime(2026, 11, 24, tzinfo=UTC)
SAMPLE = list(data.contacts(2000, until=UNTIL))


@given(short=st.integers(0, 60), more=st.integers(0, 60), seed=st.integers(0, 5))
def test_a_short_sample_is_the_beginning_of_a_long_one(short: int, more: int, seed: int) -> None:
    long = list(data.contacts(short + more, seed, until=UNTIL))
    assert list(data.contacts(short, seed, until=UNTIL)) == long[:short]
    assert list(data.contacts(more, seed, start=short, until=UNTIL)) == long[short:]
    ids = [row["contactid"] for row in long]
    some_orders = list(data.orders(ids[:short], seed, until=UNTIL))
    assert some_orders == list(islice(data.orders(ids, seed, until=UNTIL), len(some_orders)))


def test_names_come_in_many_scripts_and_awkward_forms() -> None:
    names = "".join((row["firstname"] or "") + (row["lastname"] or "") for row in SAMPLE)
    scripts = {unicodedata.name(letter).split()[0] for letter in names if letter.isalpha()}
    assert {"LATIN", "GREEK", "CYRILLIC", "CJK", "HIRAGANA", "HANGUL", "DEVANAGARI", "ARABIC", "HEBREW", "THAI"} <= (
        scripts
    )
    assert any(ord(letter) > 0xFFFF for letter in names), "a character beyond the basic plane"
    assert '"' in names
    assert "'" in names
    assert unicodedata.normalize("NFC", names) != names, "a decomposed accent"


def test_there_are_nulls_inactive_rows_opt_outs_and_shared_addresses() -> None:
    for column in ("firstname", "lastname", "emailaddress1", "birthdate", "gendercode", "jobtitle", "new_tier"):
        assert 0 < sum(row[column] is None for row in SAMPLE) < len(SAMPLE), column
    for column in ("donotemail", "donotphone", "followemail", "new_vip"):
        assert {row[column] for row in SAMPLE} == {True, False}, column
    assert {(row["statecode"], row["statuscode"]) for row in SAMPLE} == {(0, 1), (1, 2)}
    emails = [row["emailaddress1"] for row in SAMPLE if row["emailaddress1"]]
    assert len(set(emails)) < len(emails)


def test_values_fit_the_columns_of_both_systems() -> None:
    limits = {"firstname": 30, "middlename": 30, "lastname": 50, "salutation": 20, "emailaddress1": 100}
    limits |= {"telephone1": 32, "mobilephone": 32, "fax": 32, "jobtitle": 50, "address1_city": 80}
    for column, limit in limits.items():
        assert max(len(row[column] or "") for row in SAMPLE) <= limit, column
    choices = {"gendercode": data.GENDER, "familystatuscode": data.FAMILY_STATUS, "new_tier": data.TIER}
    choices |= {"preferredcontactmethodcode": data.PREFERRED_CONTACT}
    for column, options in choices.items():
        assert {row[column] for row in SAMPLE} - {None} <= set(options), column
    interests = {value for row in SAMPLE for value in (row["new_interests"] or "").split(",") if value}
    assert interests == {str(value) for value in data.INTERESTS}


def test_orders_belong_to_contacts_and_lines_to_orders() -> None:
    ids = [row["contactid"] for row in SAMPLE]
    orders = list(data.orders(ids, until=UNTIL))
    assert {row["new_contactid"] for row in orders} < set(ids), "some contacts have no order"
    assert len(orders) > len(ids)
    lines = list(data.order_lines([row["new_orderid"] for row in orders], until=UNTIL))
    assert {row["new_orderid"] for row in lines} == {row["new_orderid"] for row in orders}
    assert len({row["new_orderlineid"] for row in lines}) == len(lines)
    assert {row["new_status"] for row in orders} == set(data.ORDER_STATUS)
