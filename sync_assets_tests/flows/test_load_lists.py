"""The list that ends a load: of its own records where Campaign sorts by `created`, else of the whole resource."""

from datetime import timedelta
from typing import Any

import pytest

from sync_assets.audit import record_list
from sync_assets.bulk_load import forecast, load_run
from sync_assets.commands import plan_loads
from sync_assets.commands.plan import plan
from sync_assets_tests.support.loads import (
    assert_each_inserted_once,
    by_file,
    inserted,
    loads,
)
from sync_assets_tests.support.program import Program

SLOW = {"rows_per_second": 200}


@pytest.fixture(autouse=True)
def _short_pages(short_looks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (record_list, load_run, forecast, plan_loads):
        monkeypatch.setattr(module, "PAGE", 10)
    monkeypatch.setattr(load_run, "CLOCKS_DIFFER", timedelta(0))


@pytest.fixture
def second(program: Program) -> Program:
    """Campaign holds the 50 records of a first load, and 30 are to go by a second one."""
    program.sandbox.admin.configure_import("WKF20", **SLOW)
    assert by_file(program).sync().status == 0
    program.sandbox.admin.load(contacts=30)
    return program


def reads(program: Program, since: int) -> list[str]:
    """Return the orders of the reads of Campaign's list."""
    paths = [entry["path"] for entry in program.sandbox.admin.journal("campaign", since)]
    orders = [path.partition("_order=")[2].partition("&")[0] for path in paths if "_lineCount=" in path]
    return [order.partition("%20")[0] or "none" for order in orders]


LISTS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "the order is kept": ({}, {"created": 4}),
    "the order is ignored": ({"order_by_created": "ignored"}, {"created": 8}),
    "not sortable": ({"order_by_created": "refused"}, {"externalId": 8}),
}
"""Settings of Campaign, and the pages of 10 that the list of a second load of 30 records takes by their order."""


@pytest.mark.parametrize(("settings", "pages"), LISTS.values(), ids=LISTS)
def test_a_load_lists_its_own_records_where_campaign_sorts_by_the_time_of_their_making(
    second: Program, settings: dict[str, Any], pages: dict[str, int]
) -> None:
    second.sandbox.admin.settings("campaign", **settings)
    planned = plan(second.runtime()).document
    assert planned is not None
    since = second.sandbox.admin.last()
    done = second.sync()
    assert done.status == 0
    orders = reads(second, since)
    assert {order: orders.count(order) for order in orders} == pages
    assert (done.document["engine_calls"] == planned.engine_calls) == ("ignored" not in settings.values())
    assert inserted(second) == [50, 30]
    assert [load["missing"] for load in loads(second)] == [0, 0]
    assert_each_inserted_once(second)
    assert second.sync().document["engine_calls"]["update"] == 0


def test_the_list_of_a_load_goes_on_where_the_day_s_engine_calls_were_spent(second: Program) -> None:
    admin = second.sandbox.admin
    admin.load(contacts=30)
    since = admin.last()
    second.guardrails = {
        "engine_calls_per_day": sum(admin.engine_calls().values()) + 3
    }  # one shows that keys are unique
    assert second.sync().status == 2
    assert reads(second, since) == ["created"] * 2
    second.guardrails = {}
    assert second.sync().status == 0
    assert reads(second, since) == ["created"] * 7
    assert_each_inserted_once(second)


def test_records_that_the_list_lacks_since_clocks_differ_are_listed_with_all_others(
    second: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = second.sandbox.admin
    admin.load(contacts=30)
    admin.configure_import("WKF20", rows_per_second=20)
    monkeypatch.setattr(load_run, "CLOCKS_DIFFER", -timedelta(seconds=2))
    since = admin.last()
    assert second.sync().status == 0
    orders = reads(second, since)
    assert orders.count("created") < 7  # the list ended early, wherever the workflow was two seconds after its start
    assert orders.count("externalId") == 11
    assert loads(second)[-1]["missing"] == 0
    assert_each_inserted_once(second)


def test_a_load_lists_all_records_for_a_rebuild_that_is_under_way(second: Program) -> None:
    admin = second.sandbox.admin
    admin.configure_import("WKF20", trouble="pauses", at=1)
    assert second.sync().status == 2
    second.runtime().ledger.rebuilds.begin_rebuild("contact")
    admin.configure_import("WKF20", trouble=None)
    admin.post("/campaign/workflows", {"id": "WKF20", "status": "started"})
    since = admin.last()
    assert second.sync().status == 0
    assert reads(second, since) == ["externalId"] * 8
    assert_each_inserted_once(second)
    assert admin.engine_calls()["update"] == 0
