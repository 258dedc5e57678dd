"""The three linked tables: their configuration loads, its names are the sandbox's, and a client meets their rules."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
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


# Links as a test publishes them


@pytest.fixture
def campaign(process: SandboxProcess, admin: Admin) -> Iterator[httpx.Client]:
    """A client that is signed in to Campaign."""
    with signed_in.campaign(process.env) as client:
        admin.clear_journal()
        yield client


def post(campaign: httpx.Client, resource: str, **body: Any) -> httpx.Response:
    return campaign.post(f"{EXT}/{resource}", json=body)


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
