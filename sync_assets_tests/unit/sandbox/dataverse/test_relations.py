"""Rows that point to others: what becomes of them when their parent is deleted, and what metadata tells of it."""

from __future__ import annotations

from typing import Any

import pytest

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
