"""Which lookups are suggested for which links."""

import pytest

from sync_assets.campaign.metadata import Resource
from sync_assets.dataverse.metadata import Table
from sync_assets.scaffold.suggestions import LinkSuggestion, MappedTables, suggest_links
from sync_assets_tests.unit.scaffold.world import ORDER, ORDER_RESOURCE, TARGETS, attribute, column, resource, table


def told(suggestions: list[LinkSuggestion]) -> list[tuple[str, str, bool]]:
    return [(one.column.name, one.attribute.path, one.sure) for one in suggestions]


def links(of: Table, to: Resource, **parents: set[str]) -> list[tuple[str, str, bool]]:
    return told(suggest_links(of, to, MappedTables(TARGETS, parents)))


def test_the_only_lookup_to_a_table_becomes_the_only_link_to_its_resource() -> None:
    assert links(ORDER, ORDER_RESOURCE) == [("new_contactid", "cusContactLink", True)]


@pytest.mark.parametrize(("mandatory", "cardinality"), [(True, "one"), (None, "one"), (False, "zero_or_one")])
def test_a_link_is_written_as_one_unless_campaign_says_that_it_may_be_empty(
    mandatory: bool | None, cardinality: str
) -> None:
    to = resource("cusOrder", attribute("cusContactLink", "link", target="profile", mandatory=mandatory))
    assert [one.cardinality for one in suggest_links(ORDER, to, MappedTables(TARGETS, {}))] == [cardinality]


def test_a_lookup_to_a_table_that_is_not_mapped_is_no_link() -> None:
    assert suggest_links(ORDER, ORDER_RESOURCE, MappedTables({"new_order": "cusOrder"}, {})) == []


def test_of_several_the_names_decide() -> None:
    order = table(
        "new_order",
        column("new_billtoid", "lookup", targets=("contact",)),
        column("new_shiptoid", "lookup", targets=("contact",)),
    )
    to = resource(
        "cusOrder",
        attribute("cusShipToLink", "link", target="profile"),
        attribute("cusBillToLink", "link", target="profile"),
    )
    assert links(order, to) == [("new_billtoid", "cusBillToLink", True), ("new_shiptoid", "cusShipToLink", True)]


def test_a_link_to_another_resource_is_not_taken() -> None:
    assert links(ORDER, resource("cusOrder", attribute("cusContactLink", "link", target="service"))) == []


def test_a_lookup_to_several_tables_is_not_sure() -> None:
    order = table("new_order", column("new_customerid", "lookup", targets=("account", "contact")))
    assert links(order, ORDER_RESOURCE) == [("new_customerid", "cusContactLink", False)]


def test_no_link_closes_a_circle_or_leads_to_its_own_table() -> None:
    assert links(ORDER, ORDER_RESOURCE, contact={"new_order"}) == []
    assert links(ORDER, ORDER_RESOURCE, contact={"account"}, account={"new_order"}) == []
    contact = table("contact", column("masterid", "lookup", targets=("contact",)))
    assert links(contact, resource("profile", attribute("cusMasterLink", "link", target="profile"))) == []
