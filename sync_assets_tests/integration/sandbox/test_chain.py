"""The three linked tables: their configuration loads, its names are the sandbox's, and a client meets their rules."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from sync_assets.config.loader import load_config
from sync_assets.sandbox.campaign.resources import resources
from sync_assets.sandbox.dataverse.tables import TABLES
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support import signed_in
from sync_assets_tests.support.chain_configuration import CHAIN_LINKS, chain_configuration
from sync_assets_tests.support.sandbox_process import Admin, SandboxProcess

CONTACT = "c0000000-0000-4000-8000-000000000001"
ORDER = "0d000000-0000-4000-8000-000000000001"
LINE = "11000000-0000-4000-8000-000000000001"
NOBODY = "c0000000-0000-4000-8000-00000000dead"
EXT = "/profileAndServicesExt"


# Configuration


@pytest.mark.parametrize(
    ("style", "cardinality", "address"), product(("key", "join"), ("one", "zero_or_one"), ("url", "filter"))
)
def test_the_configuration_loads_and_its_names_are_those_of_the_sandbox(
    tmp_path: Path,
    style: Literal["key", "join"],
    cardinality: Literal["one", "zero_or_one"],
    address: Literal["url", "filter"],
) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text(chain_configuration(style, cardinality, address))
    config = load_config(file)
    assert [table.table for table in config.tables] == ["contact", "new_order", "new_orderline"]
    columns = {table.name: {column.name: column for column in table.columns} for table in TABLES}
    campaign = resources()
    for table in config.tables:
        resource = campaign[table.resource]
        assert table.key == resource.key
        assert set(table.fields) <= set(columns[table.table])
        assert {field.to for field in table.fields.values()} <= set(resource.fields)
        for link in table.links:
            assert [target.table for target in columns[table.table][link.field].targets] == [link.table]
            name, attribute = CHAIN_LINKS[table.resource]
            assert link.to == (name if style == "key" else attribute)
            assert name in resource.links
            assert attribute in resource.fields
        if table.filter is not None:
            published = resource.filters[table.filter.name]
            assert (published.parameter, published.attribute) == (table.filter.parameter, table.key)


# As a client and a tester meet them


@pytest.fixture(scope="module")
def process(sandbox_factory: SandboxFactory) -> SandboxProcess:
    return sandbox_factory(contacts=0)


@pytest.fixture
def admin(process: SandboxProcess) -> Iterator[Admin]:
    """Whatever a test leaves is gone afterwards."""
    yield process.admin
    admin = process.admin
    admin.clear_faults()
    admin.on_parent_delete(new_order="remove_link", new_orderline="cascade")
    for table in ("new_orderline", "new_order", "contact"):
        admin.delete(table, 1000)
    for resource in ("cusOrderLine", "cusOrder", "profile"):
        pkeys = [record["PKey"] for record in admin.dump_campaign(resource)]
        admin.post("/campaign/delete", {"resource": resource, "pkeys": pkeys})
    admin.settings("campaign", links={})
    admin.clear_journal()
    assert process.errors == ""


def lookups(admin: Admin, table: str, column: str) -> list[str | None]:
    return [row[f"_{column}_value"] for row in admin.dump_d365(table)]


def make_chain(admin: Admin) -> None:
    admin.create("contact", {"contactid": CONTACT, "lastname": "Byron"})
    admin.create("new_order", {"new_orderid": ORDER, "new_name": "o", "new_contactid": CONTACT})
    admin.create("new_orderline", {"new_orderlineid": LINE, "new_name": "l", "new_orderid": ORDER})


def test_an_administrator_names_a_parent_by_its_id(admin: Admin) -> None:
    make_chain(admin)
    assert lookups(admin, "new_order", "new_contactid") == [CONTACT]
    assert lookups(admin, "new_orderline", "new_orderid") == [ORDER]
    admin.change("new_order", [ORDER], new_contactid=None)
    assert lookups(admin, "new_order", "new_contactid") == [None]
    [other] = admin.create("contact", {"lastname": "Lovelace"})
    admin.change("new_order", [ORDER], new_contactid=other.upper())
    assert lookups(admin, "new_order", "new_contactid") == [other]


def test_a_customer_is_found_in_whichever_table_it_is(admin: Admin) -> None:
    [account] = admin.create("account", {"name": "Works", "emailaddress1": "a@example.com"})
    admin.create("contact", {"contactid": CONTACT, "parentcustomerid": account})
    admin.create("contact", {"parentcustomerid": CONTACT})
    assert set(lookups(admin, "contact", "parentcustomerid")) == {account, CONTACT}
    admin.delete("account", [account])
    assert set(lookups(admin, "contact", "parentcustomerid")) == {None, CONTACT}


def test_a_parent_that_does_not_exist_is_refused(admin: Admin) -> None:
    complaint = f"contact With Id = {NOBODY} Does Not Exist"
    with pytest.raises(AssertionError, match=complaint):
        admin.create("new_order", {"new_name": "o", "new_contactid": NOBODY})
    make_chain(admin)
    with pytest.raises(AssertionError, match=complaint):
        admin.change("new_order", [ORDER], new_contactid=NOBODY)
    assert lookups(admin, "new_order", "new_contactid") == [CONTACT]


def test_an_administrator_deletes_by_the_same_rules(admin: Admin) -> None:
    make_chain(admin)
    admin.on_parent_delete(new_order="restrict")
    with pytest.raises(AssertionError, match="associated with another object"):
        admin.delete("contact", [CONTACT])
    admin.on_parent_delete(new_order="cascade")
    assert admin.delete("contact", [CONTACT]) == [CONTACT]
    totals = admin.totals()["d365"]
    assert (totals["contact"], totals["new_order"], totals["new_orderline"]) == (0, 0, 0)
    with pytest.raises(AssertionError, match="on_parent_delete"):
        admin.on_parent_delete(nosuch="cascade")


# The journal as evidence of order


@pytest.fixture
def campaign(process: SandboxProcess, admin: Admin) -> Iterator[httpx.Client]:
    """A client that is signed in to Campaign."""
    with signed_in.campaign(process.env) as client:
        admin.clear_journal()
        yield client


def post(campaign: httpx.Client, resource: str, **body: Any) -> httpx.Response:
    return campaign.post(f"{EXT}/{resource}", json=body)


def test_the_journal_tells_the_order_of_requests(admin: Admin, campaign: httpx.Client) -> None:
    admin.latency("campaign", 5)
    try:
        assert post(campaign, "profile", externalId=CONTACT).status_code == 201
        assert post(campaign, "cusOrder", cusOrderId=ORDER, cusContactLink={"PKey": CONTACT}).status_code == 201
        assert post(campaign, "cusOrderLine", cusOrderLineId=LINE, cusOrderLink={"PKey": ORDER}).status_code == 201
    finally:
        admin.latency("campaign", 0)
    entries = admin.journal("campaign")
    assert [(entry["method"], entry["key"], entry["status"]) for entry in entries] == [
        ("POST", CONTACT, 201), ("POST", ORDER, 201), ("POST", LINE, 201),
    ]  # fmt: skip
    for parent, child in pairwise(entries):
        assert child["began"] >= parent["answered"]
    for entry in entries:
        assert entry["answered"] > entry["began"]


@pytest.mark.parametrize("kind", ["throttle", "unavailable", "unauthorized", "oops", "rst", "cut_before", "cut_after"])
def test_a_request_that_gets_nowhere_is_in_the_journal_with_its_key(
    admin: Admin, campaign: httpx.Client, kind: str
) -> None:
    admin.fault("campaign", kind, times=1)
    try:
        answer = post(campaign, "cusOrder", cusOrderId=ORDER)
    except httpx.TransportError:
        answer = None
    [entry] = admin.journal("campaign")
    assert (entry["key"], entry["fault"]) == (ORDER, kind)
    assert entry["status"] == (0 if answer is None else answer.status_code)
    assert (entry["answered"] is None) == (answer is None)


def test_the_key_is_found_however_a_record_is_addressed(admin: Admin, campaign: httpx.Client) -> None:
    post(campaign, "profile", externalId=CONTACT)
    pkey = post(campaign, "cusOrder", cusOrderId=ORDER, cusContactLink={"PKey": CONTACT}).json()["PKey"]
    campaign.get(f"{EXT}/cusOrder/byCusOrderId?cusOrderId_parameter={ORDER}")
    campaign.get(f"{EXT}/cusOrder/{ORDER}/cusContactLink")
    campaign.patch(f"{EXT}/cusOrder/{ORDER}", json={"cusName": "x"})
    campaign.patch(f"{EXT}/cusOrder/{pkey}", json={"cusName": "y"})
    campaign.patch(f"{EXT}/cusOrder/{NOBODY}", json={"cusName": "z"})
    campaign.delete(f"{EXT}/cusOrder/{pkey}", headers={"authorization": "Bearer x"})
    campaign.delete(f"{EXT}/cusOrder/{pkey}")
    campaign.delete(f"{EXT}/cusOrder/{pkey}")
    for path in ("cusOrder", "cusOrder/_count", "cusOrder/cusName", "resourceType/cusOrder"):
        campaign.get(f"{EXT}/{path}")
    keys = [entry["key"] for entry in admin.journal("campaign")]
    assert keys == [CONTACT, ORDER, ORDER, ORDER, ORDER, ORDER, NOBODY, ORDER, ORDER, None, None, None, None, None]


# Links as a test publishes them


def test_links_are_published_one_by_one(admin: Admin, campaign: httpx.Client) -> None:
    admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    admin.publish_link("cusOrderLine", "cusOrderLink", "one", join="cusOrderRef")
    assert post(campaign, "cusOrder", cusOrderId=ORDER).status_code == 201
    assert post(campaign, "cusOrderLine", cusOrderLineId=LINE, cusOrderRef=ORDER).status_code == 201
    assert (admin.hidden("cusOrder"), admin.hidden("cusOrderLine")) == ([], [])
    admin.publish_link("cusOrder", "cusContactLink")
    assert [record["cusOrderId"] for record in admin.hidden("cusOrder")] == [ORDER]
    assert admin.hidden("cusOrderLine") == [], "a line is hidden for want of its own parent only"
    assert [record["_visible"] for record in admin.dump_campaign("cusOrder")] == [False]
