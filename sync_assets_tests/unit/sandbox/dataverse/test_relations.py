"""Rows that point to others: what becomes of them when their parent is deleted, and what metadata tells of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sync_assets.sandbox.dataverse.errors import DataverseError
from sync_assets_tests.unit.sandbox.dataverse.web_api import WebApi

TRACK = "odata.track-changes"
ASSOCIATED = (405, "0x80040227")
LONG_AGO = -3600


class Chain:
    """A contact, its order and the order's line, all made an hour ago; the feeds of all three have been read since."""

    def __init__(self, api: WebApi) -> None:
        self.api = api
        api.org.switches.clock_offset_seconds = LONG_AGO
        self.contact = api.new(lastname="Byron")
        self.order = api.new("new_orders", **{"new_ContactId@odata.bind": f"/contacts({self.contact})"})
        self.line = api.new("new_orderlines", **{"new_OrderId@odata.bind": f"/new_orders({self.order})"})
        self.made = {name: self.row(name) for name in ("new_orders", "new_orderlines")}
        self._feeds = {name: self._first(name) for name in ("contacts", "new_orders", "new_orderlines")}
        api.org.switches.clock_offset_seconds = 0

    def _first(self, set_name: str) -> str:
        link = self.api.pages(set_name, TRACK)[1]
        assert link is not None
        return link

    def row(self, set_name: str) -> dict[str, Any]:
        return self.api.get(f"{set_name}({self.order if set_name == 'new_orders' else self.line})").json

    def told(self, set_name: str) -> list[tuple[str, Any]]:
        """What the feed tells since: (id, "deleted" or the lookup)."""
        key, lookup = {
            "contacts": ("contactid", "_parentcustomerid_value"),
            "new_orders": ("new_orderid", "_new_contactid_value"),
            "new_orderlines": ("new_orderlineid", "_new_orderid_value"),
        }[set_name]
        items = self.api.get(self._feeds[set_name]).rows
        return [(item["id"], "deleted") if "reason" in item else (item[key], item[lookup]) for item in items]


@pytest.fixture
def chain(api: WebApi) -> Chain:
    return Chain(api)


def configure(api: WebApi, **by_table: str) -> None:
    api.org.switches.change({"on_parent_delete": by_table})


def bulk_delete(api: WebApi, table: str, *ids: str) -> int:
    """As Microsoft's client does it; gives the status."""
    values = [{"Value": row_id, "Type": "System.Guid"} for row_id in ids]
    condition = {"AttributeName": f"{table}id", "Operator": "In", "Values": values}
    query = {"EntityName": table, "Criteria": {"Conditions": [condition]}}
    return api.post("BulkDelete", {"QuerySet": [query]}).status


# Remove link


def test_an_order_outlives_its_contact_and_counts_as_modified(api: WebApi, chain: Chain) -> None:
    before = chain.made["new_orders"]
    assert api.delete(f"contacts({chain.contact})").status == 204
    after = chain.row("new_orders")
    assert after["_new_contactid_value"] is None
    assert after["versionnumber"] > before["versionnumber"]
    assert after["modifiedon"] > before["modifiedon"]
    assert after["createdon"] == before["createdon"]
    assert chain.told("contacts") == [(chain.contact, "deleted")]
    assert chain.told("new_orders") == [(chain.order, None)]
    assert chain.told("new_orderlines") == [], "a grandchild is not touched"


def test_a_customer_loses_its_type_with_its_lookup(api: WebApi) -> None:
    account = api.new("accounts", name="Works")
    contact = api.new(**{"parentcustomerid_account@odata.bind": f"/accounts({account})"})
    api.delete(f"accounts({account})")
    store = api.org.stores["contact"]
    values = {name: store.rows[contact][store.position[name]] for name in ("parentcustomerid", "parentcustomeridtype")}
    assert set(values.values()) == {None}


# Cascade


def test_lines_go_with_their_order_each_told_in_its_own_feed(api: WebApi, chain: Chain) -> None:
    assert api.delete(f"new_orders({chain.order})").status == 204
    assert chain.told("new_orders") == [(chain.order, "deleted")]
    assert chain.told("new_orderlines") == [(chain.line, "deleted")]
    assert chain.told("contacts") == []


def test_a_cascade_goes_down_all_the_way(api: WebApi, chain: Chain) -> None:
    configure(api, new_order="cascade")
    assert api.delete(f"contacts({chain.contact})").status == 204
    for name, row_id in (("contacts", chain.contact), ("new_orders", chain.order), ("new_orderlines", chain.line)):
        assert chain.told(name) == [(row_id, "deleted")]


def test_a_cascade_ends_even_in_a_circle(api: WebApi) -> None:
    configure(api, contact="cascade")
    one = api.new()
    two = api.new(**{"parentcustomerid_contact@odata.bind": f"/contacts({one})"})
    api.patch(f"contacts({one})", {"parentcustomerid_contact@odata.bind": f"/contacts({two})"})
    assert api.delete(f"contacts({one})").status == 204
    assert api.get("contacts").rows == []


# Restrict


def test_a_contact_with_orders_is_not_deleted_until_they_are_gone(api: WebApi, chain: Chain) -> None:
    configure(api, new_order="restrict")
    version = api.org.version
    reply = api.delete(f"contacts({chain.contact})", if_match="*")
    assert (reply.status, reply.error) == ASSOCIATED
    assert reply.message.endswith("is associated with another object and cannot be deleted.")
    assert (api.org.version, chain.told("contacts"), chain.told("new_orders")) == (version, [], [])
    api.delete(f"new_orders({chain.order})")
    assert api.delete(f"contacts({chain.contact})").status == 204


def test_a_restriction_far_below_forbids_the_whole_cascade(api: WebApi, chain: Chain) -> None:
    configure(api, new_order="cascade", new_orderline="restrict")
    reply = api.delete(f"contacts({chain.contact})")
    assert (reply.status, reply.error) == ASSOCIATED
    assert chain.told("contacts") == chain.told("new_orders") == chain.told("new_orderlines") == []
    assert chain.row("new_orders") == chain.made["new_orders"]


def test_a_refused_delete_undoes_what_was_written_with_it(api: WebApi, chain: Chain) -> None:
    configure(api, new_order="restrict")
    lonely = api.new(lastname="lonely")

    def both() -> None:
        with api.org.transaction():
            for row_id in (lonely, chain.contact):
                api.org.delete(api.org.stores["contact"], row_id)

    with pytest.raises(DataverseError, match="associated"):
        both()
    assert api.get(f"contacts({lonely})").status == 200


# Many at once


@pytest.mark.parametrize(
    ("told", "orders", "lines"),
    [("remove_link", [None], []), ("cascade", ["deleted"], ["deleted"]), ("restrict", [], [])],
)
def test_a_bulk_delete_follows_the_same_rules_row_by_row(
    api: WebApi, chain: Chain, told: str, orders: list[Any], lines: list[Any]
) -> None:
    configure(api, new_order=told)
    lonely = api.new(lastname="lonely")
    assert bulk_delete(api, "contact", chain.contact, lonely) == 200, "it is a job: the answer tells nothing of rows"
    assert [what for _, what in chain.told("new_orders")] == orders
    assert [what for _, what in chain.told("new_orderlines")] == lines
    assert api.get(f"contacts({lonely})").status == 404
    assert api.get(f"contacts({chain.contact})").status == (200 if told == "restrict" else 404)


# The switch


def test_a_table_that_is_not_named_keeps_its_rule(api: WebApi) -> None:
    configure(api, new_order="restrict")
    configure(api, new_orderline="remove_link")
    assert api.org.switches.on_parent_delete == {
        "contact": "remove_link", "new_order": "restrict", "new_orderline": "remove_link",
    }  # fmt: skip


@pytest.mark.parametrize("wrong", [{"account": "cascade"}, {"new_order": "explode"}, "cascade"])
def test_mistakes_are_told_and_change_nothing(api: WebApi, wrong: Any) -> None:
    before = dict(api.org.switches.on_parent_delete)
    with pytest.raises(msgspec.ValidationError, match="on_parent_delete"):
        api.org.switches.change({"on_parent_delete": wrong})
    assert api.org.switches.on_parent_delete == before


# The feeds of tables are apart


def test_a_child_may_be_told_before_its_parent(api: WebApi, chain: Chain) -> None:
    """Whoever reads the children's feed first hears of a child whose parent no feed has told yet."""
    contact = api.new(lastname="later")
    order = api.new("new_orders", **{"new_ContactId@odata.bind": f"/contacts({contact})"})
    assert chain.told("new_orders") == [(order, contact)]
    assert chain.told("contacts") == [(contact, None)]


def test_a_child_may_be_older_than_the_parent_that_it_points_to(api: WebApi, chain: Chain) -> None:
    contact = api.new(lastname="later")
    api.patch(f"new_orders({chain.order})", {"new_ContactId@odata.bind": f"/contacts({contact})"})
    assert chain.row("new_orders")["createdon"] < api.get(f"contacts({contact})").json["createdon"]
    assert chain.told("new_orders") == [(chain.order, contact)]


# Metadata


def relation(api: WebApi, address: str) -> dict[str, dict[str, Any]]:
    return {document["SchemaName"]: document for document in api.get(address).rows}


def test_metadata_tells_where_a_table_points_and_who_points_to_it(api: WebApi) -> None:
    down = relation(api, "EntityDefinitions(LogicalName='contact')/OneToManyRelationships")
    up = relation(api, "EntityDefinitions(LogicalName='new_order')/ManyToOneRelationships")
    told = up["new_contact_new_order"]
    assert told == down["new_contact_new_order"]
    wanted = {
        "ReferencedEntity": "contact", "ReferencedAttribute": "contactid", "ReferencingEntity": "new_order",
        "ReferencingAttribute": "new_contactid", "ReferencingEntityNavigationPropertyName": "new_ContactId",
        "RelationshipType": "OneToManyRelationship", "IsCustomRelationship": True,
    }  # fmt: skip
    assert told.items() >= wanted.items()
    assert {document["ReferencingAttribute"] for document in up.values()} >= {"ownerid", "createdby"}
    contact = relation(api, "EntityDefinitions(LogicalName='contact')/ManyToOneRelationships")
    customer = {d["ReferencedEntity"]: n for n, d in contact.items() if d["ReferencingAttribute"] == "parentcustomerid"}
    assert customer == {"account": "contact_customer_accounts", "contact": "contact_customer_contacts"}
    assert api.get("EntityDefinitions(LogicalName='contact')/ManyToManyRelationships").rows == []


@pytest.mark.parametrize(
    ("told", "wanted"), [("remove_link", "RemoveLink"), ("cascade", "Cascade"), ("restrict", "Restrict")]
)
def test_metadata_tells_what_a_delete_does(api: WebApi, told: str, wanted: str) -> None:
    configure(api, new_order=told)
    name = "new_contact_new_order"
    [listed] = api.get(f"RelationshipDefinitions?$filter=SchemaName eq '{name}'").rows
    assert listed["CascadeConfiguration"]["Delete"] == wanted
    for key in (f"SchemaName='{name}'", listed["MetadataId"]):
        one = api.get(f"RelationshipDefinitions({key})").json
        assert one.pop("@odata.context").endswith("$metadata#RelationshipDefinitions/$entity")
        assert one == listed
    assert api.get("RelationshipDefinitions(SchemaName='nosuch')").status == 404


def test_relationships_are_selected_filtered_and_expanded(api: WebApi) -> None:
    query = "$select=SchemaName&$filter=ReferencedEntity eq 'new_order'"
    [found] = api.get(f"EntityDefinitions(LogicalName='new_orderline')/ManyToOneRelationships?{query}").rows
    assert (found["SchemaName"], set(found)) == (
        "new_order_new_orderline", {"@odata.type", "MetadataId", "SchemaName"},
    )  # fmt: skip
    expand = "$select=LogicalName&$expand=ManyToOneRelationships($select=ReferencingAttribute)"
    document = api.get(f"EntityDefinitions(LogicalName='new_orderline')?{expand}").json
    assert "new_orderid" in {each["ReferencingAttribute"] for each in document["ManyToOneRelationships"]}
