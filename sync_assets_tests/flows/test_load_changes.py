"""Records that change while they are in a load by file: rows, privacy holds, opt-outs."""

import re
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.loads import (
    Moment,
    by_file,
    inserted,
    let_load_go_on,
    loads,
    on_sftp,
    stop_load,
)
from sync_assets_tests.support.nightly import DATABASES, by_default
from sync_assets_tests.support.opt_outs import assert_quiet, opted_in, set_campaign, set_d365, sides, switch_on
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

MOMENTS: tuple[Moment, ...] = ("before its import", "after its import")
at_each_moment = pytest.mark.parametrize("moment", MOMENTS)


pytestmark = pytest.mark.usefixtures("short_looks")


def end(program: Program) -> None:
    """Let the load end, and both systems be in step."""
    let_load_go_on(program)
    done = program.sync()
    assert done.status == 0, done.stopped
    program.assert_in_step()
    assert_quiet(program)


# --- rows -------------------------------------------------------------------------------------------------------------


on_either_at_a_moment = by_default("either moment", product(DATABASES, MOMENTS), *zip(DATABASES, MOMENTS, strict=True))


@on_either_at_a_moment
def test_changed_deleted_and_new_rows_are_sent_after_the_load(either: Program, moment: Moment) -> None:
    program, admin = either, either.sandbox.admin
    program.table["apply_deletes"] = True
    stop_load(program, moment)
    ids = sorted(row["contactid"] for row in admin.dump_d365())
    admin.change("contact", ids[:3], jobtitle="Changed meanwhile")
    admin.delete("contact", ids[3:6])
    [new] = admin.load(contacts=1)["contact"]
    since = admin.last()
    assert program.sync().status == 2
    sent = {entry["key"] for entry in admin.journal("campaign", since) if entry["method"] != "GET" and entry.get("key")}
    assert sent == {new}
    end(program)
    assert sum(inserted(program)) == 50


@at_each_moment
def test_a_row_that_is_filtered_out_meanwhile_stays_as_it_was_imported(program: Program, moment: Moment) -> None:
    admin = program.sandbox.admin
    program.table |= {"filters": {"rules": [{"field": "jobtitle", "is": "ne", "value": "Gone"}]}}
    stop_load(program, moment)
    [load] = loads(program)
    gone, back, *_ = sorted(row["contactid"] for row in admin.dump_d365() if row["jobtitle"])
    admin.change("contact", [gone, back], jobtitle="Gone")
    assert program.sync().status == 2
    admin.change("contact", [back], jobtitle="Back")
    assert program.sync().status == 2
    let_load_go_on(program)
    assert program.sync().status == 0
    assert len(program.profiles()) == load["records"]
    assert program.profiles()[gone]["cusJobTitle"] != "Gone"
    assert program.profiles()[back]["cusJobTitle"] == "Back"
    assert_quiet(program)


@by_default("either", DATABASES, "sqlite")
def test_what_a_late_run_brought_back_is_named_by_the_audit_and_is_right_once_its_row_returns(either: Program) -> None:
    program, admin = either, either.sandbox.admin
    rule = {"field": "jobtitle", "is": "ne", "value": "Gone"}
    program.table |= {"apply_deletes": True, "filters": {"rules": [rule], "delete_filtered_out": True}}
    assert by_file(program).sync().status == 0
    ids = sorted(program.profiles())
    deleted, filtered, gone = ids[:2], ids[2:4], set(ids[:4])
    admin.delete("contact", deleted)
    admin.change("contact", filtered, jobtitle="Gone")
    assert program.sync().status == 0
    assert not gone & program.profiles().keys()
    admin.post("/campaign/imports/run", {"id": "WKF20", "repeat": 1})
    until(lambda: inserted(program)[1:] == [4])
    assert_quiet(program)
    status, output, _ = program.run("audit")
    assert (status, gone & set(re.findall(r"[0-9a-f-]{36}", output))) == (0, gone)
    admin.create("contact", {"contactid": deleted[0], "lastname": "Again", "jobtitle": "New"})
    admin.change("contact", filtered[:1], jobtitle="Back")
    assert program.sync().status == 0
    shown = {id_: (one["cusJobTitle"], one["email"] == "") for id_, one in program.profiles().items()}
    assert (shown[deleted[0]], shown[filtered[0]][0]) == (("New", True), "Back")
    assert program.json("audit")[1]["tables"]["contact"]["without_row"]["records"] == 2
    admin.delete("contact", deleted[:1])
    admin.change("contact", filtered[:1], jobtitle="Gone")
    assert program.sync().status == 0
    assert gone & program.profiles().keys() == {deleted[1], filtered[1]}


@at_each_moment
def test_a_contact_that_is_merged_meanwhile_ends_as_without_a_load(program: Program, moment: Moment) -> None:
    admin = program.sandbox.admin
    stop_load(program, moment)
    subordinate, target, *_ = sorted(row["contactid"] for row in admin.dump_d365())
    admin.merge(subordinate, target, jobtitle="Merged")
    assert program.sync().status == 2
    end(program)
    assert program.profiles()[target]["cusJobTitle"] == "Merged"


def test_a_child_waits_for_a_parent_that_is_loading_and_for_one_that_is_deleted_meanwhile(chain: Chain) -> None:
    program, admin = chain.program, chain.admin
    made = [chain.make() for _ in range(12)]
    stop_load(program, "before its import")
    held = chain.held()
    assert {resource: len(records) for resource, records in held.items()} == dict.fromkeys(held, 0)
    assert [table["waiting"] for table in program.json("status")[1]["tables"].values()] == [0, 12, 12]
    contact, order, line = made[0]
    admin.on_parent_delete(contact="cascade", new_order="cascade")
    admin.delete("contact", [contact])
    assert program.sync().status == 2
    let_load_go_on(program)
    assert program.sync().status == 0
    chain.assert_no_hidden_child()
    assert {resource: len(records) for resource, records in chain.held().items()} == {
        "profile": 11,
        "cusOrder": 11,
        "cusOrderLine": 11,
    }
    assert not {contact, order, line} & {id_ for records in chain.held().values() for id_ in records}


def test_a_load_is_given_up_whose_link_is_mapped_no_more(new_chain: Callable[..., Chain]) -> None:
    """Before any capture under the new mapping: the ledger has the links of the files still."""
    chain = new_chain(cardinality="zero_or_one")
    made = [chain.make() for _ in range(12)]
    stop_load(chain.program, "after its import", "WKF21")
    chain.program.further[0]["links"] = []
    chain.admin.post("/campaign/workflows", {"id": "WKF21", "status": "error"})
    status, _, errors = chain.program.run("loads", "abandon", "new_order")
    assert (status, errors) == (0, "")
    assert chain.sync()[0] == 0
    held = chain.held()
    profiles = {one["PKey"]: id_ for id_, one in held["profile"].items()}
    linked = {(profiles[one["cusContactLink"]["PKey"]], id_) for id_, one in held["cusOrder"].items()}
    assert linked == {(contact, order) for contact, order, _ in made}


def test_explain_names_the_load_of_a_record(program: Program) -> None:
    stop_load(program, "before its import")
    id_ = min(row["contactid"] for row in program.sandbox.admin.dump_d365())
    _, document = program.json("explain", id_)
    ledger = document["tables"]["contact"]["ledger"]
    assert (ledger["loading"], ledger["not_before"], ledger["leased_until"]) == (True, None, None)
    _, output, _ = program.run("explain", id_)
    assert "it is in a load by file" in output
    assert "9999" not in output
    end(program)
    assert program.json("explain", id_)[1]["tables"]["contact"]["ledger"]["loading"] is False


# --- privacy holds ----------------------------------------------------------------------------------------------------


def delete_person(program: Program, id_: str) -> None:
    if any(row["contactid"] == id_ for row in program.sandbox.admin.dump_d365()):
        program.sandbox.admin.delete("contact", [id_])
    pkeys = [one["PKey"] for key, one in program.profiles().items() if key == id_]
    program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "pkeys": pkeys})


def test_a_person_is_taken_out_of_files_whose_workflow_was_not_started(either: Program) -> None:
    program, admin = either, either.sandbox.admin
    admin.fault("campaign", "status", status=400, path="workflow/execution")
    assert by_file(program).sync().status == 2
    assert (loads(program)[0]["state"], len(on_sftp(program))) == ("ready", 1)
    person = min(row["contactid"] for row in admin.dump_d365())
    status, document = program.json("hold", "add", person)
    assert (status, document["loading"], document["in_flight"], document["certain_at"]) == (0, 0, 0, None)
    assert (loads(program)[0]["state"], on_sftp(program)) == ("writing", [])
    delete_person(program, person)
    assert program.run("hold", "verify", person)[0] == 0
    admin.clear_faults()
    assert program.sync().status == 2  # held
    assert inserted(program) == [49]
    assert person not in program.profiles()
    assert [load["state"] for load in loads(program)] == ["done"]
    assert program.run("hold", "release", person)[0] == 0
    assert program.sync().status == 0
    program.assert_in_step()


def test_a_field_that_is_mapped_no_more_is_in_no_file_whose_workflow_was_not_started(either: Program) -> None:
    program, admin = either, either.sandbox.admin
    admin.fault("campaign", "status", status=400, path="workflow/execution")
    assert by_file(program).sync().status == 2
    assert (loads(program)[0]["state"], len(on_sftp(program))) == ("ready", 1)
    fields = {column: to for column, to in program.table["fields"].items() if column != "jobtitle"}
    program.table |= {"fields": fields}
    assert program.sync().status == 2
    assert (loads(program)[0]["state"], len(on_sftp(program))) == ("ready", 1)
    admin.clear_faults()
    assert program.sync().status == 0
    assert inserted(program) == [50]
    assert {profile["cusJobTitle"] for profile in program.profiles().values()} == {""}
    assert_quiet(program)


@on_either_at_a_moment
def test_a_hold_says_that_a_load_may_still_write_the_person(either: Program, moment: Moment) -> None:
    program, admin = either, either.sandbox.admin
    stop_load(program, moment)
    person = min(row["contactid"] for row in admin.dump_d365())
    began = time.monotonic()
    status, output, errors = program.run("hold", "add", person)
    assert (status, errors) == (0, "")
    assert time.monotonic() - began < 60
    assert "A load by file may still write 1 record." in output
    assert "9999" not in output
    assert program.json("hold", "list")[1]["holds"][0]["loading"] == 1
    delete_person(program, person)
    status, output, _ = program.run("hold", "verify", person)
    assert status == 1
    assert "1 record in a load by file" in output
    assert "9999" not in output
    let_load_go_on(program)
    assert program.sync().status == 2  # held
    assert [load["state"] for load in loads(program)] == ["done"]
    status, document = program.json("hold", "verify", person)
    assert document["ledger"]["loading"] == 0
    if moment == "before its import":
        assert status == 1
        assert document["campaign"]["found"] == {"contact": [person]}
        delete_person(program, person)
        status, document = program.json("hold", "verify", person)
    assert (status, document["gone"]) == (0, True)


@at_each_moment
def test_a_held_record_of_a_load_is_sent_again_after_the_release(program: Program, moment: Moment) -> None:
    stop_load(program, moment)
    person = min(row["contactid"] for row in program.sandbox.admin.dump_d365())
    assert program.run("hold", "add", person)[0] == 0
    program.sandbox.admin.change("contact", [person], jobtitle="Held")
    assert program.sync().status == 2
    let_load_go_on(program)
    assert program.sync().status == 2
    assert program.run("hold", "release", person)[0] == 0
    assert program.sync().status == 0
    program.assert_in_step()
    assert_quiet(program)


def test_a_hold_ends_before_its_load(program: Program) -> None:
    stop_load(program, "before its import")
    person = min(row["contactid"] for row in program.sandbox.admin.dump_d365())
    assert program.run("hold", "add", person)[0] == 0
    assert program.run("hold", "release", person)[0] == 0
    assert program.sync().status == 2
    end(program)


# --- opt-outs ---------------------------------------------------------------------------------------------------------

DIRECTIONS = ("bidirectional", "d365_to_campaign")
each_way_at_each_moment = by_default(
    "direction moment times",
    product(DIRECTIONS, MOMENTS, (True, False)),
    ("bidirectional", MOMENTS[0], True),
    ("bidirectional", MOMENTS[1], False),
    ("d365_to_campaign", MOMENTS[0], False),
)
"""times: Campaign has the times at which opt-outs changed."""


def settled(program: Program) -> dict[str, Any]:
    """Let the load end, and opt-outs be decided and written."""
    let_load_go_on(program)
    done = program.sync()
    assert done.status == 0, (done.stopped, done.ending)
    assert_quiet(program)
    return done.document


@each_way_at_each_moment
def test_an_opt_out_in_dynamics_365_made_while_its_contact_is_loading_wins(
    program: Program, direction: str, moment: Moment, times: bool
) -> None:
    switch_on(program, direction)
    stop_load(program, moment, opt_out_times=times)
    first, second, *_ = opted_in(program)
    set_d365(program, first, donotemail=True)
    program.sync()
    if moment == "after its import":
        assert sides(program, first) == (True, True)  # at once
    set_d365(program, second, donotemail=True)
    settled(program)
    assert sides(program, first) == (True, True)
    assert sides(program, second) == (True, True)


@each_way_at_each_moment
def test_an_opt_in_in_dynamics_365_made_while_its_contact_is_loading_is_decided_as_without_a_load(
    program: Program, direction: str, moment: Moment, times: bool
) -> None:
    switch_on(program, direction)
    out = next(row["contactid"] for row in program.sandbox.admin.dump_d365() if row["donotemail"])
    stop_load(program, moment, opt_out_times=times)
    set_d365(program, out, donotemail=False)
    program.sync()
    settled(program)
    wins = direction == "bidirectional"  # an opt-out on either side does
    assert sides(program, out) == (wins, wins)


@pytest.mark.parametrize(("direction", "times"), [("bidirectional", True), ("campaign_to_d365", False)])
def test_an_opt_out_in_campaign_between_import_and_list_is_kept(program: Program, direction: str, times: bool) -> None:
    switch_on(program, direction)
    stop_load(program, "after its import", opt_out_times=times)
    person = next(opted_in(program))
    set_campaign(program, person, blackListEmail=True)
    settled(program)
    assert sides(program, person) == (True, True)


@by_default("direction times", product(DIRECTIONS, (True, False)), ("bidirectional", True), ("d365_to_campaign", False))
def test_a_load_alone_changes_no_opt_out(program: Program, direction: str, times: bool) -> None:
    switch_on(program, direction)
    before = {row["contactid"]: row["donotemail"] for row in program.sandbox.admin.dump_d365()}
    assert any(before.values())
    stop_load(program, "before its import", opt_out_times=times)
    settled(program)
    assert {id_: sides(program, id_) for id_ in before} == {id_: (value, value) for id_, value in before.items()}
    assert program.sandbox.admin.engine_calls()["update"] == 0
