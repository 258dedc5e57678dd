"""Whole commands after a table's resource or key attribute was changed in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.program import CONTACT, Program, calls

ORDERS: dict[str, Any] = {
    "table": "new_order",
    "resource": "cusOrder",
    "key": "cusOrderId",
    "fields": {"new_name": "cusName"},
}
LINES = ORDERS | {"resource": "cusOrderLine", "key": "cusOrderLineId"}


@pytest.fixture
def orders(sandbox_factory: SandboxFactory, tmp_path: Path) -> Program:
    """Eight orders and a contact, in step."""
    sandbox = sandbox_factory(contacts=1)
    sandbox.admin.settings("campaign", hide_orphans=False)
    sandbox.admin.create("new_order", *({"new_name": f"Order {n}"} for n in range(8)))
    program = Program(sandbox, tmp_path, dict(ORDERS), further=[dict(CONTACT)])
    assert program.sync().status == 0
    return program


def stored(program: Program, resource: str, key: str) -> dict[str, Any]:
    return {one[key]: one["cusName"] for one in program.sandbox.admin.dump_campaign(resource)}


def test_another_resource_stops_its_table_alone_until_it_is_accepted(orders: Program) -> None:
    admin = orders.sandbox.admin
    before = stored(orders, "cusOrder", "cusOrderId")
    orders.table = dict(LINES)
    admin.change("contact", 1, lastname="Changed")
    status, _, errors = orders.run("sync")
    assert status == 2
    assert "8 records went to cusOrder by cusOrderId" in errors
    assert "--accept-mapping" in errors
    assert stored(orders, "cusOrderLine", "cusOrderLineId") == {}
    [profile] = admin.dump_campaign()
    assert profile["lastName"] == "Changed"
    for command in ("plan", "doctor"):
        status, output, errors = orders.run(command)
        assert status == 1
        assert "8 records went to cusOrder" in " ".join((output + errors).split()), command

    status, planned = orders.json("plan", "--accept-mapping")
    assert (status, planned["engine_calls"]["insert"]) == (0, 8)
    status, _, errors = orders.run("sync", "--accept-mapping")
    assert status == 0, errors
    assert "those in cusOrder that carry cusOrderId stay as they are" in errors
    assert stored(orders, "cusOrderLine", "cusOrderLineId") == stored(orders, "cusOrder", "cusOrderId") == before
    assert orders.sync().document["engine_calls"] == calls()

    orders.table = dict(ORDERS)
    assert orders.sync().status == 2
    status, document = orders.json("sync", "--accept-mapping")
    assert (status, document["engine_calls"]["insert"], document["engine_calls"]["update"]) == (0, 0, 0)
    assert stored(orders, "cusOrder", "cusOrderId") == before


def test_a_table_that_leaves_and_comes_back_costs_nothing(orders: Program) -> None:
    orders.further = []
    assert orders.sync().status == 0
    orders.further = [dict(CONTACT)]
    assert orders.sync().document["engine_calls"] == calls()


def test_another_key_sends_all_again_and_links_their_children_again(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    chain = Chain(sandbox_factory, tmp_path)
    made = [chain.make() for _ in range(3)]
    assert chain.sync()[0] == 0
    chain.admin.settings("campaign", profile_key="cusInterests")
    chain.program.table["key"] = "cusInterests"
    status, _, errors = chain.program.run("sync")
    assert status == 2
    assert "3 links of other tables to them are sent again" in errors
    assert len(chain.admin.dump_campaign()) == 3

    status, document = chain.program.json("sync", "--accept-mapping")
    assert (status, document["engine_calls"]["insert"], document["engine_calls"]["update"]) == (0, 3, 3)
    new = {one["cusInterests"]: one["PKey"] for one in chain.admin.dump_campaign() if one["cusInterests"]}
    assert new.keys() == {contact for contact, _, _ in made}
    assert len(chain.admin.dump_campaign()) == 6
    for contact, order, _ in made:
        assert chain.held()["cusOrder"][order]["cusContactLink"]["PKey"] == new[contact]
    assert chain.sync() == (0, calls())
