"""Which columns are suggested for which attributes, how sure, and at what cost."""

import pytest

from sync_assets.campaign.metadata import Attribute, AttributeType
from sync_assets.dataverse.metadata import Column, ColumnType
from sync_assets.scaffold.suggestions import Suggestion, suggest_fields
from sync_assets_tests.unit.scaffold.world import CONTACT, PROFILE, attribute, column, resource, table


def suggestions(columns: list[Column], attributes: list[Attribute], taken: tuple[str, ...] = ()) -> list[Suggestion]:
    return suggest_fields(table("new_thing", *columns), resource("cusThing", *attributes), taken)


def pairs(result: list[Suggestion], *, sure: bool = True) -> dict[str, str]:
    return {one.column.name: one.attribute.path for one in result if one.sure is sure}


def test_contact_and_profile_are_known() -> None:
    result = suggest_fields(CONTACT, PROFILE, ("externalId",))
    assert pairs(result) == {"firstname": "firstName", "emailaddress1": "email"}
    assert {one.percent for one in result} == {100}


def test_opt_outs_have_a_place_of_their_own_and_are_no_fields() -> None:
    assert suggest_fields(table("contact", column("new_blacklistemail", "boolean")), PROFILE, ()) == []


def test_the_best_pair_takes_the_attribute_and_each_stands_once() -> None:
    result = suggestions([column("new_amounts"), column("new_amount"), column("new_amount2")], [attribute("cusAmount")])
    assert pairs(result) == {"new_amount": "cusAmount"}
    assert len(result) == 1


@pytest.mark.parametrize(
    ("from_type", "to_type", "sure"),
    [
        ("string", "string", True),
        ("decimal", "float", True),
        ("integer", "float", True),
        ("date", "datetime", True),
        ("multiselect", "string", True),
        ("decimal", "integer", False),
        ("datetime", "date", False),
        ("integer", "string", False),
        ("string", "enumeration", False),
    ],
)
def test_a_mapping_that_loses_values_is_commented_out(
    from_type: ColumnType, to_type: AttributeType, sure: bool
) -> None:
    values = ("none", "a") if to_type == "enumeration" else ()
    (one,) = suggestions([column("new_value", from_type)], [attribute("cusValue", to_type, values=values)])
    assert one.sure is sure
    assert sure or one.note


@pytest.mark.parametrize(
    ("from_type", "to_type"),
    [("string", "integer"), ("boolean", "date"), ("datetime", "boolean"), ("lookup", "string"), ("string", "link")],
)
def test_a_column_that_cannot_be_sent_is_not_suggested(from_type: ColumnType, to_type: AttributeType) -> None:
    assert suggestions([column("new_value", from_type)], [attribute("cusValue", to_type)]) == []


def test_read_only_taken_and_unreadable_things_are_not_suggested() -> None:
    assert suggestions([column("new_a")], [attribute("cusA", read_only=True)]) == []
    assert suggestions([column("new_a")], [attribute("cusA")], taken=("cusA",)) == []
    assert suggestions([column("new_a", readable=False)], [attribute("cusA")]) == []


def test_a_column_that_is_longer_is_reported() -> None:
    (longer,) = suggestions([column("new_a", max_length=50)], [attribute("cusA", length=30)])
    (equal,) = suggestions([column("new_a", max_length=30)], [attribute("cusA", length=30)])
    assert (longer.note, equal.note) == ("longer ones are rejected", "")


class TestChoices:
    def test_options_without_a_value_are_named(self) -> None:
        tier = column("new_tier", "picklist", labels={1: "Gold", 2: "Silver", 3: "Lead"})
        (one,) = suggestions([tier], [attribute("cusTier", "enumeration", values=("none", "gold", "silver"))])
        assert (one.sure, one.note) == (True, "some options have no value")

    def test_a_choice_none_of_whose_options_is_known_is_not_sure(self) -> None:
        tier = column("new_tier", "picklist", labels={1: "Or", 2: "Argent"})
        (one,) = suggestions([tier], [attribute("cusTier", "enumeration", values=("none", "gold", "silver"))])
        assert not one.sure

    def test_an_enumeration_may_be_called_like_numbers(self) -> None:
        tier = column("new_tier", "picklist", labels={1: "Gold"})
        (one,) = suggestions([tier], [attribute("cusTier", "enumeration", values=("0", "1"))])
        assert (one.sure, one.note) == (True, "")
