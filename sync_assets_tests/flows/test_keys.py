"""A table's key, resource and mapping: one by which Campaign finds records, another one, and two that take turns."""

from pathlib import Path
from typing import Any

import pytest

from sync_assets.commands.doctor import examine
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.chain_configuration import CHAIN_LINKS
from sync_assets_tests.support.loads import WORKFLOWS, by_file, inserted, on_sftp
from sync_assets_tests.support.program import CONTACT, Program, calls
from sync_assets_tests.support.sandbox_process import Admin, SandboxProcess

LINE = "new_order: look-up by"


def orders(key: str, **more: Any) -> dict[str, Any]:
    return {"table": "new_order", "resource": "cusOrder", "key": key, "fields": {"new_amount": "cusAmount"}, **more}


def let_orders_and_lines_stand_alone(admin: Admin) -> None:
    for resource, link in CHAIN_LINKS.items():
        admin.publish_link(resource, link[0], "zero_or_one")


@pytest.fixture
def ordering(sandbox_factory: SandboxFactory, tmp_path: Path) -> Program:
    sandbox = sandbox_factory(contacts=0)
    let_orders_and_lines_stand_alone(sandbox.admin)
    sandbox.admin.create("new_order", *({"new_name": f"Order {n}"} for n in range(70)))
    return Program(sandbox, tmp_path)


def stored(admin: Admin) -> list[dict[str, Any]]:
    return admin.dump_campaign("cusOrder")


def key_line(program: Program) -> tuple[str, str]:
    """Return the outcome and the text of doctor's line about the key."""
    [line] = [line for line in examine(program.runtime(any_ledger=True)) if line.title.startswith(LINE)]
    return line.outcome, line.message


def test_a_key_that_identifies_nothing_costs_one_record_and_no_second_one(ordering: Program) -> None:
    admin = ordering.sandbox.admin
    ordering.table = orders("cusName")
    outcome, result = key_line(ordering)
    assert (outcome, "not verified" in result) == ("warn", True)
    done = ordering.sync()
    assert done.status == 2
    [sent] = stored(admin)
    assert any(
        "does not find a record of cusOrder by cusName" in line and sent["cusName"] in line for line in done.stopped
    )
    assert done.document["engine_calls"] == calls(insert=1, read=3)  # the list, by key, by PKey
    again = ordering.sync()
    assert (again.status, len(stored(admin))) == (2, 1)
    assert again.document["engine_calls"] == calls(read=1)
    assert key_line(ordering)[0] == "fail"


def test_a_key_that_identifies_records_is_proven_by_the_first_one_alone(ordering: Program) -> None:
    ordering.table = orders("cusOrderId")
    assert "not verified" in key_line(ordering)[1]
    planned = ordering.json("plan")[1]["engine_calls"]
    done = ordering.sync()
    assert (done.status, len(stored(ordering.sandbox.admin))) == (0, 70)
    assert done.document["engine_calls"] == planned == calls(insert=70, read=2)
    requests = [entry["method"] for entry in ordering.sandbox.admin.journal("campaign") if "/cusOrder" in entry["path"]]
    writes = requests[requests.index("POST") :]
    assert writes[:3] == ["POST", "GET", "POST"]
    assert key_line(ordering)[0] == "ok"


ORDERS: dict[str, Any] = {
    "table": "new_order",
    "resource": "cusOrder",
    "key": "cusOrderId",
    "fields": {"new_name": "cusName"},
}
LINES = ORDERS | {"resource": "cusOrderLine", "key": "cusOrderLineId"}


@pytest.fixture
def eight_orders(sandbox_factory: SandboxFactory, tmp_path: Path) -> Program:
    """Eight orders and a contact, in step."""
    sandbox = sandbox_factory(contacts=1)
    let_orders_and_lines_stand_alone(sandbox.admin)
    sandbox.admin.create("new_order", *({"new_name": f"Order {n}"} for n in range(8)))
    program = Program(sandbox, tmp_path, dict(ORDERS), further=[dict(CONTACT)])
    assert program.sync().status == 0
    return program


def names_by_key(program: Program, resource: str, key: str) -> dict[str, Any]:
    return {one[key]: one["cusName"] for one in program.sandbox.admin.dump_campaign(resource)}


def test_another_resource_stops_its_table_alone_until_it_is_accepted(eight_orders: Program) -> None:
    admin = eight_orders.sandbox.admin
    before = names_by_key(eight_orders, "cusOrder", "cusOrderId")
    eight_orders.table = dict(LINES)
    admin.change("contact", 1, lastname="Changed")
    status, _, errors = eight_orders.run("sync")
    assert status == 2
    assert "8 records went to cusOrder by cusOrderId" in errors
    assert "--accept-mapping" in errors
    assert names_by_key(eight_orders, "cusOrderLine", "cusOrderLineId") == {}
    [profile] = admin.dump_campaign()
    assert profile["lastName"] == "Changed"
    eight_orders.table["key"] = "cusOrderLineID"
    status, _, errors = eight_orders.run("plan")
    assert (status, "did you mean `cusOrderLineId`?" in errors) == (2, True), errors
    eight_orders.table["key"] = "cusOrderLineId"
    for command in ("plan", "doctor"):
        status, output, errors = eight_orders.run(command)
        assert status == (2 if command == "plan" else 1)
        assert "8 records went to cusOrder" in " ".join((output + errors).split()), command

    status, planned = eight_orders.json("plan", "--accept-mapping")
    assert (status, planned["engine_calls"]["insert"]) == (0, 8)
    status, _, errors = eight_orders.run("sync", "--accept-mapping")
    assert status == 0, errors
    assert "those in cusOrder that carry cusOrderId stay as they are" in errors
    assert (
        names_by_key(eight_orders, "cusOrderLine", "cusOrderLineId")
        == names_by_key(eight_orders, "cusOrder", "cusOrderId")
        == before
    )
    assert eight_orders.sync().document["engine_calls"] == calls()

    eight_orders.table = dict(ORDERS)
    assert eight_orders.sync().status == 2
    status, document = eight_orders.json("sync", "--accept-mapping")
    assert (status, document["engine_calls"]["insert"], document["engine_calls"]["update"]) == (0, 0, 0)
    assert names_by_key(eight_orders, "cusOrder", "cusOrderId") == before


def test_a_record_out_of_scope_is_not_synced_in_another_resource(eight_orders: Program) -> None:
    """Campaign keeps it in the former one, without its row: the new one never gets it, so the ledger purges it."""
    eight_orders.sandbox.admin.delete("new_order", 1)
    for table, held in ((ORDERS, 8), (LINES, 7)):
        eight_orders.table = {**table, "apply_deletes": False}
        assert eight_orders.run("sync", "--accept-mapping")[0] == 0
        assert eight_orders.json("status")[1]["tables"]["new_order"]["synced"] == held
        assert len(names_by_key(eight_orders, table["resource"], table["key"])) == held
        with eight_orders.runtime().ledger as ledger:
            assert ledger.check() == []


ONE: dict[str, Any] = CONTACT
OTHER: dict[str, Any] = {**CONTACT, "fields": {**CONTACT["fields"], "firstname": "lastName", "lastname": "firstName"}}


def sync(program: Program, table: dict[str, Any], *options: str) -> tuple[int, str, int]:
    """Exit status, standard error, engine calls."""
    program.table = table
    before = sum(program.sandbox.admin.engine_calls().values())
    status, _, errors = program.run("sync", *options)
    return status, errors, sum(program.sandbox.admin.engine_calls().values()) - before


def test_a_mapping_may_change_and_change_back_but_two_do_not_take_turns(
    systems: SandboxProcess, tmp_path: Path
) -> None:
    program = Program(systems, tmp_path)
    systems.admin.load(13)
    assert sync(program, ONE)[0] == 0
    assert sync(program, OTHER)[::2] == (0, 13)
    assert sync(program, ONE)[::2] == (0, 13)

    program.table = OTHER
    status, output, errors = program.run("plan")
    assert status == 0
    assert "13" in output
    assert "--accept-mapping" in errors

    status, errors, calls = sync(program, OTHER)
    assert (status, calls) == (1, 0)
    assert "Two configurations on one ledger" in errors
    assert "SYNC_ASSETS_LEDGER_URL" in errors
    assert sync(program, ONE)[::2] == (0, 0)
    assert sync(program, OTHER, "--accept-mapping")[::2] == (0, 13)
    assert sync(program, OTHER)[::2] == (0, 0)
    assert sync(program, ONE)[::2] == (1, 0)


def test_another_key_sends_all_again_and_links_their_children_again(chain: Chain) -> None:
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


@pytest.mark.usefixtures("short_looks")
def test_children_go_by_file_once_the_other_key_of_their_parents_is_accepted(chain: Chain) -> None:
    """A workflow would find no parent by it, and leave the link empty: Campaign hides such an order for good."""
    contact, *_ = chain.make()
    assert chain.sync()[0] == 0
    by_file(chain.program, above=1, workflows={"new_order": WORKFLOWS["new_order"]})
    chain.admin.settings("campaign", profile_key="cusInterests")
    chain.program.table["key"] = "cusInterests"
    chain.order(contact)
    chain.order(contact)
    status, _, errors = chain.program.run("sync")
    assert (status, "new_order was not synchronised" in errors) == (2, True), errors
    assert on_sftp(chain.program) == inserted(chain.program, WORKFLOWS["new_order"]) == []
    status, _, errors = chain.program.run("sync", "--accept-mapping")
    assert status == 0, errors
    assert inserted(chain.program, WORKFLOWS["new_order"]) == [2]
    chain.assert_no_hidden_child()
    assert chain.sync() == (0, calls())
