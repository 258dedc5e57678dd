"""The sandbox's sample rows: deterministic, awkward, and within what both systems accept."""

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
