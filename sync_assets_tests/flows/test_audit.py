"""`audit`: what Campaign really holds, by its list, and the repair of what differs."""

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sync_assets.audit import record_audit
from sync_assets.commands.document_schema import schema
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.audited import audited as part_of_list
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.nightly import by_default
from sync_assets_tests.support.opt_outs import opted_in, set_campaign, set_d365, sides, switch_on, writes
from sync_assets_tests.support.premises import Position
from sync_assets_tests.support.program import CONTACT, Program, calls
from sync_assets_tests.support.sandbox_process import SandboxProcess
from sync_assets_tests.support.waiting import until

CONTACTS = int(os.environ.get("AUDITED_CONTACTS", "2600"))
"""Of the test of a killed audit. With 200000 it shows what an audit of so many costs; it prints figures."""
FOREIGN: list[dict[str, Any]] = [
    {"firstName": "Nobody", "email": "nobody@example.com"},
    {"firstName": "Ada", "email": "own@example.com", "externalId": "A-1"},
    {"firstName": "Eve", "email": "eve@example.com", "externalId": "00000000-0000-4000-8000-000000000000"},
]


def audited(program: Program, *options: str) -> tuple[int, Any]:
    """`audit` as a user types it; it writes to neither system. Return its status and its tables."""
    since = program.sandbox.admin.last()
    process = program.start("audit", *options, "--json")
    output, errors = process.communicate(timeout=120 + CONTACTS / 50)
    assert output, errors
    document = json.loads(output)
    assert writes(program, since) == {"d365": 0, "campaign": 0}
    jsonschema.validate(document, schema() | {"$ref": "#/$defs/AuditDocument"})
    assert not document["problems"]
    return int(process.returncode or 0), document["tables"]


def finish(program: Program, *arguments: str) -> None:
    process = program.start(*arguments)
    _, errors = process.communicate(timeout=120 + CONTACTS / 50)
    assert process.returncode == 0, errors


def change(program: Program, ids: list[str], resource: str = "profile", **values: Any) -> None:
    program.sandbox.admin.post("/campaign/change", {"resource": resource, "keys": ids, "set": values})


def remove(program: Program, *ids: str, resource: str = "profile") -> None:
    program.sandbox.admin.post("/campaign/delete", {"resource": resource, "keys": [*ids]})


def test_edits_and_removals_in_campaign_are_found_and_repaired_and_foreign_records_stay(program: Program) -> None:
    program.table = {**CONTACT, "fields": {**CONTACT["fields"], "fax": {"to": "fax", "keep_if_empty": True}}}
    assert program.sync().status == 0
    admin = program.sandbox.admin
    assert audited(program)[0] == 0
    one, other, third, gone, *rest = sorted(program.profiles())
    admin.add_profiles(*FOREIGN)
    change(program, [one, other], email="somebody@else.example")
    change(program, [other], location={"city": "Elsewhere"})
    change(program, [third], birthDate="1900-01-01")  # sent on first load only
    without_fax = next(row["contactid"] for row in admin.dump_d365() if not row["fax"] and row["contactid"] in rest)
    change(program, [without_fax], fax="+49 1")  # an empty value in Dynamics 365 leaves it
    remove(program, gone)

    status, tables = audited(program)
    found = tables["contact"]
    assert status == 2
    assert (found["records"], found["compared"], found["equal"], found["differing"]) == (52, 50, 47, 2)
    assert found["attributes"]["email"] == {"records": 2, "ids": [one, other]}
    assert found["attributes"].keys() == {"email", "location.city"}
    assert found["missing"] == {"records": 1, "ids": [gone]}
    assert found["without_row"]["ids"] == [FOREIGN[2]["externalId"]]
    assert program.sync().document["engine_calls"] == calls()  # nothing became pending

    status, tables = audited(program, "--repair")
    assert (status, tables["contact"]["repaired"]) == (2, 3)
    assert program.json("status")[1]["tables"]["contact"]["waiting"] == 3
    pkeys = [one["PKey"] for one in foreign(program)]
    before = foreign(program)
    synced = program.sync()
    assert (synced.status, synced.document["engine_calls"]["insert"]) == (0, 1)
    assert foreign(program) == before
    status, tables = audited(program)
    assert (status, tables["contact"]["equal"]) == (0, 50)
    admin.post("/campaign/delete", {"resource": "profile", "pkeys": pkeys})
    program.assert_in_step()
    assert program.profiles()[third]["birthDate"] == "1900-01-01"
    assert program.profiles()[without_fax]["fax"] == "+49 1"


def test_status_and_doctor_show_how_far_the_daily_audit_came_and_in_how_many_days_it_is_through(
    program: Program,
) -> None:
    assert program.sync().status == 0

    def shown() -> set[str]:
        document = program.json("doctor")[1]["checks"]
        texts = [program.run("status")[1], *(one["message"] for one in document if one["title"] == "contact: audit")]
        assert len(texts) == 2
        return {found[0] for text in texts if (found := re.search("daily audit of profile.*", " ".join(text.split())))}

    [text] = {one.partition(" engine calls")[0] for one in shown()}
    assert text == "daily audit of profile: nothing compared so far; the whole resource takes 1 day"
    with closing(program.runtime()) as runtime:
        part_of_list(runtime, pages=1)
    for found in shown():
        assert re.match(r"daily audit of profile: 100% since 20\S+ ?\S*; the whole resource takes 1 day", found)
    assert program.json("status")[1]["audits"]["contact"]["days"] == 1
    with closing(program.runtime()) as runtime, pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_audit, "pages_for", lambda _: 1000)
        assert record_audit.rotations(runtime.config, runtime.ledger)["contact"].days == 5


def foreign(program: Program) -> list[dict[str, Any]]:
    emails = [one["email"] for one in FOREIGN]
    return [one for one in program.sandbox.admin.dump_campaign() if one["email"] in emails]


def test_an_audit_that_is_killed_goes_on_and_repairs_all(sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    """37 edits, 5 removals, 3 foreign records; killed three times. Each process repeats a page at most."""
    program = Program(sandbox_factory(contacts=CONTACTS), tmp_path)
    finish(program, "sync")
    admin, pages = program.sandbox.admin, -(-CONTACTS // 500)
    of_profile: dict[str, Any] = {"resource": "profile"}
    removed = admin.post("/campaign/delete", of_profile | {"count": 5})["keys"]
    edited = admin.post("/campaign/change", of_profile | {"count": 37, "set": {"email": "by@hand.example"}})["keys"]
    admin.add_profiles(*FOREIGN)
    admin.latency("campaign", 500 if pages < 10 else 0)
    began, before = time.monotonic(), admin.engine_calls()
    for reads in (3, 1, 1) if pages < 10 else (pages // 4,) * 3:
        at = admin.engine_calls()["read"]
        process = program.start("audit", "--repair")
        until(lambda at=at, reads=reads: admin.engine_calls()["read"] >= at + reads, seconds=600, every=0.05)
        assert process.poll() is None
        process.kill()
        process.communicate()
    admin.latency("campaign", 0)
    status, tables = audited(program, "--repair")
    found, reads = tables["contact"], admin.engine_calls()["read"] - before["read"]
    print(
        f"{CONTACTS} contacts: {reads} reads, {found['d365_reads']} of D365, {time.monotonic() - began:.0f} s: {found}"
    )
    assert (status, found["records"], found["done"]) == (2, CONTACTS - 5 + 3, True)
    assert (found["attributes"]["email"]["records"], found["missing"]["records"], found["repaired"]) == (37, 5, 42)
    assert {*found["attributes"]["email"]["ids"]} < {*edited}
    assert {*found["missing"]["ids"]} == {*removed}
    assert reads <= pages + 1 + 5 + 3 * 2  # the number of records, look-ups, a page for each process that was killed
    finish(program, "sync")
    assert admin.engine_calls()["insert"] - before["insert"] == 5
    status, tables = audited(program)
    assert (status, tables["contact"]["equal"], tables["contact"]["without_row"]["records"]) == (0, CONTACTS, 1)


@pytest.mark.parametrize("sorts", [True, False])
def test_a_list_that_campaign_does_not_sort_is_audited_as_well(program: Program, sorts: bool) -> None:
    """What it lacks shows at its end only."""
    assert program.sync().status == 0
    if not sorts:
        program.sandbox.admin.fault("campaign", "status", path="_order", status=400)
    one, gone, *_ = sorted(program.profiles())
    change(program, [one], lastName="By hand")
    remove(program, gone)
    status, tables = audited(program)
    assert (status, tables["contact"]["differing"], tables["contact"]["missing"]["ids"]) == (2, 1, [gone])


def test_keys_in_capitals_and_ids_of_several_records_are_recognised(program: Program) -> None:
    admin = program.sandbox.admin
    capital, twice, *_ = sorted(row["contactid"] for row in admin.dump_d365())
    admin.add_profiles({"externalId": capital.upper(), "email": "capital@example.com"})
    assert program.sync().status == 0
    admin.settings("campaign", unique_keys={"profile": False})
    admin.add_profiles({"externalId": twice, "email": "second@example.com"})
    status, tables = audited(program)
    found = tables["contact"]
    assert (status, found["equal"], found["several"], found["missing"]["records"]) == (
        2,
        49,
        {"records": 1, "ids": [twice]},
        0,
    )


@pytest.mark.parametrize("position", ["as Campaign v8"], indirect=True)
def test_on_v8_an_address_that_campaign_refuses_in_updates_is_in_step_but_for_it(
    sandbox: SandboxProcess, tmp_path: Path, position: Position
) -> None:
    position.apply(sandbox.admin)
    program = Program(sandbox, tmp_path)
    assert program.sync().status == 0
    changed = sandbox.admin.change("contact", 3, address1_city="Elsewhere")
    assert program.sync().status == 0
    status, tables = audited(program)
    found = tables["contact"]
    assert (status, found["in_step_but_for"], found["differing"]) == (0, 3, 0)
    assert sorted(found["refused_in_updates"]["location.city"]["ids"]) == sorted(changed)
    change(program, changed[:1], email="somebody@else.example")
    status, tables = audited(program, "--repair")
    assert (status, tables["contact"]["repaired"], tables["contact"]["in_step_but_for"]) == (2, 1, 2)
    assert program.sync().status == 0
    assert audited(program)[0] == 0


def test_a_link_that_was_changed_in_campaign_is_found_and_repaired(new_chain: Callable[..., Chain]) -> None:
    here = new_chain(cardinality="zero_or_one")
    (ada, order, line), (bob, other, _) = here.make("Ada"), here.make("Bob")
    assert here.sync()[0] == 0
    assert audited(here.program)[0] == 0
    held = here.held()
    change(here.program, [order], "cusOrder", cusContactLink={"PKey": held["profile"][bob]["PKey"]})
    change(here.program, [line], "cusOrderLine", cusOrderLink=None)
    for options in ((), ("--table", "new_order", "--table", "new_orderline")):  # the second lists the parents itself
        status, tables = audited(here.program, *options)
        assert (status, tables["new_order"]["attributes"]) == (2, {"cusContactLink": {"records": 1, "ids": [order]}})
        assert tables["new_orderline"]["attributes"] == {"cusOrderLink": {"records": 1, "ids": [line]}}
    assert audited(here.program, "--repair")[0] == 2
    assert here.sync()[0] == 0
    now = here.held()
    assert now["cusOrder"][order]["cusContactLink"]["PKey"] == held["profile"][ada]["PKey"]
    assert now["cusOrderLine"][line]["cusOrderLink"]["PKey"] == held["cusOrder"][order]["PKey"]
    assert now["cusOrder"][other] == held["cusOrder"][other]
    assert audited(here.program)[0] == 0


def test_a_record_that_campaign_hides_without_its_parent_is_named_and_never_inserted(
    new_chain: Callable[..., Chain],
) -> None:
    here = new_chain(cardinality="one")
    c, o, _ = here.make()
    here.make()
    assert here.sync()[0] == 0
    remove(here.program, c)
    assert here.admin.hidden("cusOrder")
    status, tables = audited(here.program, "--table", "new_order", "--table", "new_orderline", "--repair")
    assert (status, tables["new_order"]["hidden"]["ids"], tables["new_order"]["missing"]["records"]) == (2, [o], 0)
    assert (tables["new_order"]["repaired"], tables["new_orderline"]["repaired"]) == (0, 0)
    assert tables["new_orderline"]["links_left_out"] == 1  # its order is there, and Campaign shows it not
    before = here.admin.engine_calls()["insert"]
    here.sync()
    assert here.admin.engine_calls()["insert"] == before
    show_hidden_ones(here)


@pytest.mark.parametrize("table", [["new_order"], []], ids=["one table", "all"])
def test_a_rejected_record_that_campaign_hides_is_counted_as_left_out(
    new_chain: Callable[..., Chain], table: list[str]
) -> None:
    here = new_chain(cardinality="one")
    c, o, _ = here.make()
    here.make()
    assert here.sync()[0] == 0
    remove(here.program, c)
    assert audited(here.program, "--table", "contact", "--repair")[0] == 2
    assert here.sync()[0] == 2
    assert [one["id"] for one in here.program.json("rejects", *table)[1]["rejects"]] == [o]
    options = [option for name in table for option in ("--table", name)]
    status, tables = audited(here.program, *options)
    assert (status, tables["new_order"]["left_out"], tables["new_order"]["equal"]) == (0, {"rejected": 1}, 1)
    _, output, _ = here.program.run("audit", *options)
    assert "new_order: 1 rejected record is not compared" in output
    show_hidden_ones(here)


def show_hidden_ones(here: Chain) -> None:
    """Do what the remedies say."""
    here.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
    assert here.program.run("retry")[0] == 0
    here.sync()
    audited(here.program, "--repair")
    assert here.sync()[0] == 0
    assert audited(here.program)[0] == 0
    here.admin.publish_link("cusOrder", "cusContactLink", "one")
    here.assert_no_hidden_child()


@by_default("direction", ["bidirectional", "campaign_to_d365", "d365_to_campaign"], "bidirectional")
def test_differing_opt_outs_go_to_the_decision(program: Program, direction: str) -> None:
    switch_on(program, direction)
    assert program.sync().status == 0
    in_campaign, held, in_d365, *_ = opted_in(program)
    old = datetime.now(UTC) - timedelta(hours=26)
    for id_ in (in_campaign, held):
        set_campaign(program, id_, old, blackListEmail=True)
    set_d365(program, in_d365, donotemail=True)
    assert program.sync().status == 0
    if direction != "campaign_to_d365":
        set_campaign(program, in_d365, old, blackListEmail=False)
    program.run("hold", "add", held)
    status, tables = audited(program, "--repair")
    found = tables["contact"]
    assert (found["left_out"], found["differing"]) == ({"held": 1}, 0)
    if direction == "d365_to_campaign":
        return
    assert (status, found["opt_outs"]["blackListEmail"]["ids"]) == (2, [in_campaign])
    program.sync()
    assert sides(program, in_campaign) == (True, True)
    assert sides(program, held)[0] is False
    assert audited(program)[0] == 0
