"""The resource and the key of a table, and what is suggested for the whole of it."""

import pytest

from sync_assets.errors import SyncAssetsError
from sync_assets.scaffold.suggestions import key_for, resource_for
from sync_assets_tests.unit.scaffold.world import (
    CONTACT,
    ORDER,
    ORDER_RESOURCE,
    PROFILE,
    attribute,
    column,
    resource,
    suggested,
    table,
)


@pytest.mark.parametrize(
    ("name", "label", "expected"),
    [
        ("contact", "Contact", "profile"),
        ("new_order", "Order", "cusOrder"),
        ("new_orderline", "Order Line", "cusOrderLine"),
        ("cr1_x17", "Store", "cusStore"),
        ("account", "Account", None),
    ],
)
def test_the_resource_is_found_by_name_or_label(name: str, label: str, expected: str | None) -> None:
    result = resource_for(name, label, ["profile", "service", "cusOrder", "cusOrderLine", "cusStore"])
    assert (result and result.name) == expected


def test_a_resource_that_is_taken_is_not_offered() -> None:
    assert resource_for("contact", "Contact", ["service"]) is None


def test_the_key_is_the_attribute_with_the_ids_name() -> None:
    assert key_for(CONTACT, PROFILE).name == "externalId"
    assert key_for(ORDER, ORDER_RESOURCE).name == "cusOrderId"
    assert key_for(ORDER, resource("cusOrder", attribute("cusDynamicsId"), key="cusX")).name == "cusDynamicsId"


def test_a_key_too_short_for_an_id_is_none() -> None:
    short = resource("cusOrder", attribute("cusRecordId", length=100), key="cusThing")
    short.attributes["cusOrderId"] = attribute("cusOrderId", length=20)
    assert key_for(ORDER, short).name == "cusRecordId"
    assert not key_for(ORDER, short).sure


def test_without_a_key_the_texts_are_named_that_could_be_it() -> None:
    with pytest.raises(
        SyncAssetsError, match=r"Texts that could be it: cusName, cusThing\..*`new_order=cusOrder:"
    ) as e:
        key_for(ORDER, resource("cusOrder", attribute("cusName", length=255), key="cusThing"))
    assert "new_order" in str(e.value)


def test_a_named_key_is_checked_in_the_same_way() -> None:
    assert key_for(ORDER, ORDER_RESOURCE, "cusName").name == "cusName"
    with pytest.raises(SyncAssetsError, match="no attribute `cusNam`; did you mean `cusName`"):
        key_for(ORDER, ORDER_RESOURCE, "cusNam")


def test_key_and_links_are_not_suggested_as_fields() -> None:
    mapped = {one.attribute.path for one in suggested().fields}
    assert mapped == {"cusName", "cusStatus"}


def test_more_columns_than_the_guardrail_allows_are_commented_out() -> None:
    columns = [column(f"new_value{n}x") for n in range(6)]
    to = resource("cusOrder", *(attribute(f"cusValue{n}X") for n in range(6)))
    result = suggested(table("new_order", *columns), to, most_columns=4)
    assert [one.sure for one in result.fields].count(True) == 4
    assert {one.note for one in result.fields if not one.sure} == {"guardrails.max_columns allows no more"}
    assert all(one.sure for one in suggested(table("contact", *columns), to, most_columns=4).fields)


def test_names_without_a_likeness_are_reported() -> None:
    with pytest.raises(SyncAssetsError, match=r"No column of new_order is named like an attribute of cusOrder\."):
        suggested(table("new_order", column("new_alpha")), resource("cusOrder", attribute("cusOmega")))


def test_a_required_attribute_without_a_source_is_named() -> None:
    to = resource("cusOrder", attribute("cusName"), attribute("cusCurrency", mandatory=True))
    assert suggested(ORDER, to).mandatory == ("cusCurrency",)
