"""Opt-outs of merged contacts, by whole runs. The rules: unit/ledger/rules/test_merged_contacts.py."""

import asyncio
import time
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_assets.opt_out.pending_decisions import decide_due
from sync_assets.opt_out.session import open_session
from sync_assets.runtime.context import Runtime
from sync_assets_tests.flows.certifying import killed_at
from sync_assets_tests.support.chain_configuration import RESOURCES, chain_configuration
from sync_assets_tests.support.nightly import DATABASES, by_default
from sync_assets_tests.support.opt_outs import (
    HEADER,
    assert_quiet,
    audit,
    clear,
    in_d365,
    says,
    set_campaign,
    set_d365,
    sides,
    switch_on,
    write_file,
)
from sync_assets_tests.support.program import CONTACT, Program
from sync_assets_tests.support.sandbox_process import SandboxProcess

DIRECTIONS = ("d365_to_campaign", "campaign_to_d365", "bidirectional")
ACTIVE = {"rules": [{"field": "statecode", "is": "eq", "value": 0}]}


@pytest.fixture
def program(systems: SandboxProcess, tmp_path: Path) -> Program:
    systems.admin.empty(**RESOURCES)
    made = Program(systems, tmp_path)
    clear(made)
    return made


def carrying(program: Program, direction: str, *opted_out: bool, **table: Any) -> list[str]:
    """Configure `merged: carry`, and sync contacts, of which some are opted out in both systems; return their ids."""
    ids = program.sandbox.admin.create("contact", *({"lastname": f"N{n}"} for n in range(len(opted_out))))
    out = [id_ for id_, value in zip(ids, opted_out, strict=True) if value]
    program.table = CONTACT | table
    switch_on(program, direction).opt_out["merged"] = "carry"
    for id_ in out:
        set_d365(program, id_, donotemail=True)
    assert program.sync().status == 0
    for id_ in out:
        if direction == "campaign_to_d365":  # which sends no opt-out to Campaign
            set_campaign(program, id_, blackListEmail=True)
        assert sides(program, id_) == (True, True)
    return ids


@by_default(
    "subordinate master direction",
    product((False, True), (False, True), DIRECTIONS),
    *((True, False, direction) for direction in DIRECTIONS),
    *((False, master, "bidirectional") for master in (False, True)),
)
def test_an_opt_out_of_the_subordinate_counts_for_the_master_and_an_opt_in_never_does(
    program: Program, subordinate: bool, master: bool, direction: str
) -> None:
    s, m = carrying(program, direction, subordinate, master)
    program.sandbox.admin.merge(s, m)
    assert program.sync().status == 0
    carried = subordinate or master
    written = carried if direction != "d365_to_campaign" else master
    in_campaign = carried if direction != "campaign_to_d365" else master
    assert sides(program, m) == (written, in_campaign)
    assert sides(program, s) == (subordinate, subordinate), "the subordinate keeps its own"
    assert sides(program, m, "donotphone") == (False, False)
    decisions = [one for one in audit(program) if one.contact == m and one.source == f"merge of {s}"]
    assert {(one.value, one.reason) for one in decisions} <= {(True, "an opt-out of a merged contact counts")}
    assert "not known to be newer" not in program.run("explain", m)[1]
    assert bool(decisions) is (subordinate and (not master or direction != "d365_to_campaign"))
    assert_quiet(program)


@by_default(
    "either direction",
    product(DATABASES, DIRECTIONS),
    *(("sqlite", direction) for direction in DIRECTIONS[1:]),
    ("postgresql", "d365_to_campaign"),
)
def test_a_chain_of_merges_ends_at_the_last_master_in_each_order(either: Program, direction: str) -> None:
    program = either
    a, b, c, d, e, f = carrying(program, direction, True, False, False, True, False, False)
    admin = program.sandbox.admin
    admin.merge(a, b)
    admin.merge(b, c)
    admin.merge(d, e)
    assert program.sync().status == 0
    admin.merge(e, f)
    assert program.sync().status == 0
    side = direction == "d365_to_campaign"
    assert [sides(program, id_)[side] for id_ in (a, b, c)] == [True, False, True]
    assert [sides(program, id_)[side] for id_ in (d, e, f)] == [True, True, True]
    assert_quiet(program)


@pytest.mark.parametrize("direction", ["campaign_to_d365", "bidirectional"])
def test_an_opt_out_that_campaign_states_of_the_subordinate_later_counts_within_the_same_sync(
    program: Program, direction: str
) -> None:
    s, m = carrying(program, direction, False, False)
    program.sandbox.admin.merge(s, m)
    assert program.sync().status == 0
    assert sides(program, m) == (False, False)
    set_campaign(program, s, blackListEmail=True)
    write_file(program, HEADER + says(s, 1, _now()))
    assert program.sync().status == 0
    assert sides(program, m) == (True, direction == "bidirectional")
    assert_quiet(program)


def _now() -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime())}.000Z"


def test_a_person_who_allows_mail_again_after_the_merge_stays_so(program: Program) -> None:
    """Reading all contacts again carries no opt-out a second time. A new one of the subordinate counts again."""
    s, m = carrying(program, "bidirectional", True, False)
    program.sandbox.admin.merge(s, m)
    program.sync()
    assert sides(program, m) == (True, True)
    time.sleep(1.1)
    set_campaign(program, m, blackListEmail=False)
    write_file(program, HEADER + says(m, 0, f"{program.profiles()[m]['blackListEmailLastModified'].replace(' ', 'T')}"))
    assert program.sync().status == 0
    assert sides(program, m) == (False, False)
    program.sandbox.admin.expire("contact")
    assert program.sync().status == 0
    assert sides(program, m) == (False, False)
    for value in (False, True):
        set_d365(program, s, donotemail=value)
        program.sync()
    assert in_d365(program, m)["donotemail"] is value


def opt_in(program: Program, id_: str) -> None:
    """Let a person allow mail again in Campaign, and write the file that states it."""
    time.sleep(1.1)
    set_campaign(program, id_, blackListEmail=False)
    changed = program.profiles()[id_]["blackListEmailLastModified"].replace(" ", "T")
    write_file(program, HEADER + says(id_, 0, f"{changed}"))


@by_default(
    "either direction",
    product(DATABASES, DIRECTIONS[1:]),
    ("postgresql", "campaign_to_d365"),
    ("sqlite", "bidirectional"),
)
def test_an_opt_in_after_the_merge_outlives_a_change_of_direction(either: Program, direction: str) -> None:
    program = either
    s, m = carrying(program, direction, True, False)
    program.sandbox.admin.merge(s, m)
    if direction == "campaign_to_d365":
        set_campaign(program, m, blackListEmail=True)
    assert (program.sync().status, sides(program, m)) == (0, (True, True))
    opt_in(program, m)
    assert (program.sync().status, sides(program, m)) == (0, (False, False))
    program.opt_out["direction"] = "d365_to_campaign"
    assert (program.sync().status, sides(program, m)) == (0, (False, False))
    assert_quiet(program)


def test_an_opt_out_is_decided_once_if_payloads_carry_it_no_longer(program: Program) -> None:
    s, m = carrying(program, "d365_to_campaign", True, False)
    program.sandbox.admin.merge(s, m)
    assert (program.sync().status, sides(program, m)) == (0, (False, True))
    program.opt_out["direction"] = "bidirectional"
    assert (program.sync().status, sides(program, m)) == (0, (True, True))
    opt_in(program, m)
    assert (program.sync().status, sides(program, m)) == (0, (False, False))
    program.opt_out["direction"] = "d365_to_campaign"
    assert (program.sync().status, sides(program, m)) == (0, (False, False))


def test_an_opt_out_that_dynamics_365_rejected_for_the_master_is_carried_by_payloads_after_a_change_of_direction(
    program: Program,
) -> None:
    s, m = carrying(program, "bidirectional", True, False)
    admin = program.sandbox.admin
    admin.merge(s, m)
    admin.change("contact", [m], statecode=1)
    admin.settings("d365", inactive_read_only=True)
    try:
        assert (program.sync().status, sides(program, m)) == (2, (False, True))
    finally:
        admin.settings("d365", inactive_read_only=False)
    program.opt_out["direction"] = "d365_to_campaign"
    assert (program.sync().status, sides(program, m)) == (0, (False, True))
    admin.change("contact", [m], jobtitle="Nurse")
    assert (program.sync().status, sides(program, m)) == (0, (False, True))


def test_only_a_payload_that_holds_the_opt_out_ends_its_being_due_if_dynamics_365_is_not_written(
    program: Program,
) -> None:
    s, m = carrying(program, "d365_to_campaign", True, False)
    admin = program.sandbox.admin
    admin.merge(s, m)
    admin.fault("d365", "status", status=400, path=f"contactid.*{m}|{m}.*contactid")
    assert program.sync().status == 1

    async def decide(runtime: Runtime) -> None:  # as the follower does
        async with open_session(runtime) as session:
            await decide_due(session, "a day")

    with closing(program.runtime()) as runtime:
        asyncio.run(decide(runtime))
    assert audit(program) == []
    admin.clear_faults()
    assert (program.sync().status, sides(program, m)) == (0, (False, True))
    assert [one.source for one in audit(program) if one.contact == m] == [f"merge of {s}"]


@by_default("direction", DIRECTIONS, "bidirectional")
def test_a_contact_that_names_no_master_any_more_counts_for_none(program: Program, direction: str) -> None:
    s, m = carrying(program, direction, False, False)
    admin = program.sandbox.admin
    admin.merge(s, m)
    assert program.sync().status == 0
    admin.post("/d365/metadata", {"table": "contact", "column": "masterid", "set": {"read_only": False}})
    try:
        admin.change("contact", [s], masterid=None)
    finally:
        admin.post("/d365/metadata", {"table": "contact", "column": "masterid", "set": {"read_only": True}})
    assert program.sync().status == 0
    if direction == "d365_to_campaign":
        set_d365(program, s, donotemail=True)
    else:
        set_campaign(program, s, blackListEmail=True)
        write_file(program, HEADER + says(s, 1, _now()))
    assert program.sync().status == 0
    assert (sides(program, s), sides(program, m)) == ((True, True), (False, False))


def test_without_writing_dynamics_365_the_masters_own_column_takes_over_once_it_has_the_opt_out(
    program: Program,
) -> None:
    s, m = carrying(program, "d365_to_campaign", True, False)
    admin = program.sandbox.admin
    admin.merge(s, m)
    program.sync()
    admin.change("contact", [m], jobtitle="Nurse")
    admin.expire("contact")
    program.sync()
    assert sides(program, m) == (False, True), "no change of the master takes it back"
    admin.delete("contact", [s])
    admin.change("contact", [m], jobtitle="Teacher")
    program.sync()
    assert sides(program, m) == (False, True), "nor a deletion of the subordinate"
    assert program.run("explain", m)[0] == 0, "in step"
    status, document = program.json("audit", "--repair")
    assert (status, document["tables"]["contact"]["equal"]) == (0, 1)
    for value in (True, False):
        set_d365(program, m, donotemail=value)
        program.sync()
        assert sides(program, m) == (value, value)
    admin.expire("contact")
    program.sync()
    assert sides(program, m) == (False, False)


@by_default("direction", DIRECTIONS, "bidirectional")
def test_children_of_the_subordinate_are_linked_to_the_master_and_an_active_filter_leaves_one_profile(
    program: Program, direction: str
) -> None:
    filters = ACTIVE | {"delete_filtered_out": True}
    s, m = carrying(program, direction, True, False, filters=filters, apply_deletes=True)
    admin = program.sandbox.admin
    admin.publish_link("cusOrder", "cusContactLink")
    [_, orders, _] = yaml.safe_load(chain_configuration())["tables"]
    program.further = [orders]
    [order] = admin.create("new_order", {"new_name": "One", "new_contactid": s})
    assert program.sync().status == 0
    admin.merge(s, m)
    assert program.sync().status == 0
    assert list(program.profiles()) == [m]
    [record] = admin.dump_campaign("cusOrder")
    assert (record["cusOrderId"], record["cusContactLink"]["PKey"]) == (order, program.profiles()[m]["PKey"])
    assert sides(program, m) == (direction != "d365_to_campaign", direction != "campaign_to_d365")
    assert_quiet(program)


@by_default("direction", DIRECTIONS[::2], "bidirectional")
def test_a_sync_that_is_killed_anywhere_carries_the_opt_out_in_the_end(program: Program, direction: str) -> None:
    s, m = carrying(program, direction, True, False)
    program.guardrails = {"horizon_minutes": 0.01}
    program.sandbox.admin.merge(s, m)
    assert killed_at(program, 1, ("sync",), method="PATCH")
    for _ in range(3):
        program.sync()
        time.sleep(0.7)
    assert sides(program, m)[1]
    assert_quiet(program)


def test_ignored_by_default(program: Program) -> None:
    s, m = carrying(program, "bidirectional", True, False)
    program.opt_out["merged"] = "ignore"
    program.sandbox.admin.merge(s, m)
    assert program.sync().status == 0
    assert sides(program, m) == (False, False)
    program.opt_out["merged"] = "carry"
    assert program.sync().status == 0
    assert sides(program, m) == (True, True), "as soon as it is switched on, for the merges of the past, too"


def test_an_opt_out_that_dynamics_365_does_not_take_for_an_inactive_contact_counts_for_its_master(
    program: Program,
) -> None:
    s, m = carrying(program, "bidirectional", False, False)
    admin = program.sandbox.admin
    admin.merge(s, m)
    assert program.sync().status == 0
    admin.settings("d365", inactive_read_only=True)
    try:
        set_campaign(program, s, blackListEmail=True)
        write_file(program, HEADER + says(s, 1, _now()))
        assert program.sync().status == 2, "the opt-out of the subordinate is rejected"
    finally:
        admin.settings("d365", inactive_read_only=False)
    assert sides(program, m) == (True, True)


def test_the_first_sync_with_opt_outs_says_once_that_typology_rules_are_to_be_reviewed(program: Program) -> None:
    program.sandbox.admin.create("contact", {"lastname": "Byron"})
    assert not [note for note in program.sync().stopped if "typology" in note]
    switch_on(program, "bidirectional")
    assert len([note for note in program.sync().stopped if "transactional mail" in note]) == 1
    program.sandbox.admin.create("contact", {"lastname": "Lovelace"})
    assert not [note for note in program.sync().stopped if "typology" in note]


def test_doctor_recommends_the_filter_that_leaves_out_merged_contacts(program: Program) -> None:
    def line() -> tuple[str, str]:
        [found] = [one for one in program.json("doctor")[1]["checks"] if "merged contacts" in one["title"]]
        return found["outcome"], found["message"]

    outcome, message = line()
    assert outcome == "warn"
    assert "filters: {rules: [{field: statecode, is: eq, value: 0}], delete_filtered_out: true}" in message
    assert "merged: carry" not in message, "no opt-out is synchronised"
    switch_on(program, "bidirectional")
    assert "`opt_out: {merged: carry}`" in line()[1]

    def filtered(*rules: dict[str, Any], **more: Any) -> tuple[str, str]:
        program.table = CONTACT | {"filters": {"rules": list(rules), **more}}
        return line()

    active, name = ACTIVE["rules"][0], {"field": "lastname", "is": "not_null"}
    assert filtered(active)[0] == "warn"
    assert "its profile stays in Campaign. Add `delete_filtered_out: true`" in line()[1]
    outcome, message = filtered(active, name, delete_filtered_out=True)
    assert (outcome, "`opt_out: {merged: carry}`" in message) == ("warn", True)
    for rule in ({**active, "is": "ne", "value": 0}, {"field": "merged", "is": "eq", "value": True}, name):
        assert "both profiles stay" in filtered(rule, delete_filtered_out=True)[1]
    assert "both profiles stay" in filtered(active, name, match="any", delete_filtered_out=True)[1]
    program.opt_out["merged"] = "carry"
    for rule in (active, {**active, "value": "Active"}, {"field": "merged", "is": "ne", "value": True}):
        assert filtered(rule, delete_filtered_out=True)[0] == "ok"


def test_an_opt_out_that_campaign_rejected_for_the_master_still_counts_after_a_retry(program: Program) -> None:
    subordinate, master = carrying(program, "bidirectional", True, False)
    admin = program.sandbox.admin
    admin.merge(subordinate, master)
    body = 'RST-360011 An error has occurred.\nThe value "x" of attribute blackListEmail is not valid'
    admin.fault("campaign", "status", status=500, body=body, method="PATCH", path=master)
    program.sync()
    admin.clear_faults()
    assert program.run("retry", "contact")[0] == 0
    assert (program.sync().status, sides(program, master)) == (0, (True, True))


def test_a_master_that_leaves_the_scope_and_returns_keeps_the_opt_out(program: Program) -> None:
    filters = {"rules": [{"field": "lastname", "is": "ne", "value": "Out"}], "delete_filtered_out": True}
    subordinate, master = carrying(program, "d365_to_campaign", True, False, filters=filters, apply_deletes=True)
    admin = program.sandbox.admin
    admin.merge(subordinate, master)
    program.sync()
    admin.change("contact", [master], lastname="Out")
    program.sync()
    program.sync()
    assert master not in program.profiles()
    admin.change("contact", [master], lastname="In")
    program.sync()
    assert sides(program, master) == (False, True)


def test_an_opt_out_that_is_no_longer_mapped_stops_no_capture(program: Program) -> None:
    subordinate, master = carrying(program, "d365_to_campaign", True, False)
    set_d365(program, subordinate, donotphone=True)
    program.sandbox.admin.merge(subordinate, master)
    assert (program.sync().status, sides(program, master)) == (0, (False, True))
    del program.opt_out["mappings"]["donotphone"]
    assert [program.sync().status for _ in range(2)] == [0, 0]
