"""What counts as the same in Campaign, and what does not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.audit.value_comparison import differing, folded
from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.sandbox.campaign.values import smart_case
from sync_assets_tests.support.sample_tables import attributes

PROFILE = Resource(
    "profile",
    "profileAndServicesExt",
    {
        **attributes(
            firstName="string",
            phone="string",
            cusCode="string",
            cusScore="integer",
            cusBalance="float",
            cusVip="boolean",
            birthDate="date",
            cusLastVisit="datetime",
            orgUnit="link",
        ),
        "gender": Attribute("gender", "enumeration", values=("unknown", "male", "female")),
        "location.city": Attribute("location.city", "string", 255),
    },
)

SAME: list[tuple[str, Any, Any]] = [
    ("firstName", "Berger (YM)", "Berger (Ym)"),  # smartCase
    ("firstName", "McDonald", "Mcdonald"),
    ("firstName", "GROẞ", "Groß"),
    ("firstName", "  Ada  Maria ", "Ada Maria"),  # trimmed
    ("firstName", "Zo\u00eb", "Zoe\u0308"),  # composed or not
    ("firstName", "", ""),
    ("firstName", "", None),
    ("phone", "+44 20 7946 0000", "+442079460000"),  # formatted
    ("phone", "0044 20 7946-0000", "+44 (0)20 7946 0000"),
    ("cusScore", 7, 7),
    ("cusScore", 0, None),
    ("cusScore", 7, "7"),
    ("cusScore", 7, 7.0),
    ("cusBalance", 20000.0, "20000.0000"),
    ("cusBalance", 0.1, 0.1),
    ("cusBalance", 0.1 + 0.2, 0.3),  # the last digit of a double
    ("cusBalance", 0, ""),
    ("cusVip", True, "true"),
    ("cusVip", False, None),
    ("cusVip", False, 0),
    ("birthDate", "2024-03-15", "2024-03-15"),
    ("birthDate", "2024-03-15", "2024-03-15 00:00:00.000Z"),
    ("birthDate", "", ""),
    ("cusLastVisit", "2024-03-15 10:20:30.000Z", "2024-03-15 10:20:30.456Z"),
    ("cusLastVisit", "2024-03-15T10:20:30Z", "2024-03-15 12:20:30.000+02:00"),
    ("cusLastVisit", "2024-03-15", "2024-03-15 00:00:00.000Z"),
    ("gender", "male", "Male"),
    ("gender", "", "unknown"),
    ("gender", "unknown", None),
    ("orgUnit", {"PKey": "1"}, {"PKey": "@x"}),  # links are not looked at
]
DIFFERENT: list[tuple[str, Any, Any]] = [
    ("firstName", "Ada", "Eva"),
    ("firstName", "Ada", ""),
    ("firstName", "Ada", None),
    ("firstName", "", "Ada"),
    ("firstName", "AdaMaria", "Ada Maria"),
    ("phone", "+44 20 7946 0000", "+44 20 7946 0001"),
    ("cusScore", 2147483647, 2147483646),
    ("cusScore", 9223372036854775807, 9223372036854775806),
    ("cusScore", 7, True),
    ("cusBalance", 500000000.1, 500000000.4),
    ("phone", "+44 20 7946 0000", "none"),
    ("cusCode", "1-2", "12"),  # no telephone number
    ("cusScore", 7, 8),
    ("cusScore", 7, None),
    ("cusScore", 7, "many"),
    ("cusBalance", 20000.01, 20000.0),
    ("cusVip", True, False),
    ("cusVip", True, None),
    ("cusVip", True, "maybe"),
    ("birthDate", "2024-03-15", "2024-03-14"),
    ("birthDate", "2024-03-15", ""),
    ("cusLastVisit", "2024-03-15 10:20:30.000Z", "2024-03-15 10:20:31.000Z"),
    ("cusLastVisit", "2024-03-15 10:20:30.000Z", "2024-03-15 10:20:30.000+02:00"),
    ("cusLastVisit", "2024-03-15 10:20:30.000Z", "yesterday"),
    ("cusLastVisit", "", "2024-03-15 10:20:30.000Z"),
    ("gender", "male", "female"),
    ("gender", "male", "unknown"),
]


@pytest.mark.parametrize(("name", "sent", "held"), SAME)
def test_the_same(name: str, sent: Any, held: Any) -> None:
    assert differing({name: sent}, {name: held}, PROFILE) == []


@pytest.mark.parametrize(("name", "sent", "held"), DIFFERENT)
def test_different(name: str, sent: Any, held: Any) -> None:
    assert differing({name: sent}, {name: held}, PROFILE) == [name]


def test_attributes_are_named_by_their_path_and_others_of_the_record_do_not_matter() -> None:
    sent = {"location": {"city": "Leeds"}, "firstName": "Ada", "cusScore": 1}
    held = {"location": {"city": "York", "zipCode": "1"}, "firstName": "ADA", "cusScore": 2, "age": 40}
    assert differing(sent, held, PROFILE) == ["cusScore", "location.city"]
    assert differing(sent, {}, PROFILE) == ["cusScore", "firstName", "location.city"]


def test_an_attribute_that_the_metadata_lost_is_compared_as_text() -> None:
    assert differing({"cusGone": "a"}, {"cusGone": "A"}, PROFILE) == []
    assert differing({"cusGone": "a"}, {}, PROFILE) == ["cusGone"]


@given(st.text())
def test_a_text_in_smart_case_is_the_same(text: str) -> None:
    assert differing({"firstName": text}, {"firstName": smart_case(text).strip()}, PROFILE) == []


@given(st.text(), st.text())
def test_another_text_is_different_unless_only_case_and_blanks_differ(one: str, other: str) -> None:
    same = differing({"cusCode": one}, {"cusCode": other}, PROFILE) == []
    assert same == (folded(one) == folded(other))
    assert differing({"cusCode": other}, {"cusCode": one}, PROFILE) == ([] if same else ["cusCode"])


_VALUES = st.dictionaries(
    st.sampled_from(
        ["firstName", "cusCode", "cusScore", "cusBalance", "cusVip", "birthDate", "cusLastVisit", "gender"]
    ),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
)


@given(_VALUES, _VALUES)
def test_whatever_is_sent_is_the_same_as_itself_and_comparing_never_fails(
    sent: dict[str, Any], held: dict[str, Any]
) -> None:
    assert differing(sent, sent, PROFILE) == []
    assert set(differing(sent, held, PROFILE)) <= sent.keys()
