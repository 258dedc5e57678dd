"""`plan` says what `sync` then does, and leaves everything everywhere as it was."""

import asyncio
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from sync_assets.commands.plan import plan
from sync_assets.commands.status import overview
from sync_assets.commands.values import builtins
from sync_assets.config.models import TableConfig
from sync_assets.flows import Captured, capture_table, push_table
from sync_assets.runtime.context import Runtime
from sync_assets.sync_steps import sync_steps
from sync_assets_tests.flows.certifying import killed_at
from sync_assets_tests.support.chain_configuration import CHAIN_LINKS, RESOURCES, chain_configuration
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.program import CONTACT, Program, calls, capture
from sync_assets_tests.support.sandbox_process import SandboxProcess

STATES = ("pending", "waiting", "waiting_for", "rejected", "held", "orphaned", "deletes_held_back")
ACTIVE = {"rules": [{"field": "statecode", "is": "eq", "value": 0}], "delete_filtered_out": True}


@pytest.fixture
def program(systems: SandboxProcess, tmp_path: Path) -> Program:
    systems.admin.empty(**RESOURCES)
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    return Program(systems, home, {**deepcopy(CONTACT), "apply_deletes": True}, {"TMPDIR": str(temporary)})


def everything(program: Program) -> dict[str, Any]:
    """Both systems, the calls and other writes so far, all files with the ledger, temporary ones as well."""
    admin = program.sandbox.admin
    result: dict[str, Any] = {"calls": admin.engine_calls() | {"read": 0}}  # the list that a first load begins with
    entries = [*admin.journal("d365"), *admin.journal("campaign")]
    result["writes"] = sum(entry["method"] != "GET" for entry in entries)
    for table, resource in RESOURCES.items():
        result |= {table: admin.dump_d365(table), resource: admin.dump_campaign(resource)}
    assert program.env  # writes the configuration file
    files = [*program.home.rglob("*"), *Path(program.more["TMPDIR"]).rglob("*")]
    result["files"] = {path: path.read_bytes() if path.is_file() else b"" for path in files}
    return result


def planned(program: Program) -> dict[str, Any]:
    """What `plan` says, having changed nothing."""
    before = everything(program)
    document = planned_of(program)
    assert everything(program) == before
    return document


def planned_of(program: Program) -> dict[str, Any]:
    runtime = program.runtime()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", program.more["TMPDIR"])
        planned_sync = plan(runtime)
    runtime.close()
    assert planned_sync.problems == []
    return builtins(planned_sync.document)


def flown(program: Program) -> dict[str, Any]:
    """What `sync` does without Dagster, which takes most of its time; what it would print."""
    runtime, opt_outs = program.runtime(), Counter[str]()
    for step in sync_steps(runtime, runtime.config.in_link_order, (), waits=True):
        if step.of_table and step.work != "push":
            asyncio.run(capture_table(runtime, step.of_table))
        if step.of_table and step.work != "capture":
            opt_outs.update(asyncio.run(push_table(runtime, step.of_table)).opt_outs)
        time.sleep(step.seconds)
    result = builtins(overview(runtime.config, runtime.ledger, runtime.clients.calls, opt_outs))
    runtime.close()
    return result


def foretold(program: Program, sync: Callable[[Program], dict[str, Any]] = flown) -> dict[str, int]:
    """Plans, syncs, compares them in everything that both tell; the engine calls that it cost."""
    planned_sync = planned(program)
    done = sync(program)
    assert planned_sync["engine_calls"] == done["engine_calls"]
    for table, entry in planned_sync["tables"].items():
        result = done["tables"][table]
        assert {name: entry[name] for name in STATES} == {name: result[name] for name in STATES}, table
        assert entry["unchanged"] + entry["insert"] + entry["update"] == result["synced"], table
    kinds = planned_sync["engine_calls"]
    assert kinds == {
        kind: sum(entry["engine_calls"][kind] for entry in planned_sync["tables"].values()) for kind in kinds
    }, "the sum of the tables"
    assert planned(program)["engine_calls"] == calls(), "nothing is left to be done"
    return kinds


class TestOneTable:
    def test_from_the_first_load_on_through_all_that_may_happen(self, program: Program) -> None:
        admin = program.sandbox.admin
        ids = admin.create("contact", *({"lastname": f"N{n}", "jobtitle": "Nurse"} for n in range(20)))
        planned_sync = planned(program)
        zeros = (
            "update",
            "delete",
            "unchanged",
            "pending",
            "waiting",
            "held",
            "rejected",
            "orphaned",
            "loading",
            "uncertain",
        )
        assert planned_sync["tables"]["contact"] == {
            **dict.fromkeys((*zeros, "deletes_held_back"), 0),
            **{name: {} for name in ("waiting_for", "kept_values", "deletes_following", "deletes_orphaning")},
            "resource": "profile",
            "insert": 20,
            "engine_calls": calls(insert=20, read=2),
            "in_step_but_for": {"records": 0, "not_known": 0},
            "mapping_changes": [],
            "problem": None,
            "load": None,
            "by_file": None,
        }
        assert (planned_sync["budget"], planned_sync["notes"]) == (None, [])
        assert foretold(program, lambda program: program.sync().document) == calls(insert=20, read=2)

        admin.change("contact", ids[:3], jobtitle="Teacher")
        admin.change("contact", ids[3:5], birthdate="1980-01-02")  # not sent later
        admin.delete("contact", ids[5:7])
        [brief] = admin.create("contact", {"lastname": "Brief"})
        admin.delete("contact", [brief])
        admin.create("contact", {"lastname": "New"}, {"lastname": "Newer"})
        assert foretold(program) == calls(insert=2, update=3, delete=3, read=3)  # the first delete finds out how

        program.table["fields"] = {**program.table["fields"], "middlename": "middleName"}
        assert foretold(program) == calls()  # a field that no row has a value of

        admin.change("contact", ids[8:10], statecode=1)
        program.table["filters"] = ACTIVE
        assert foretold(program) == calls(delete=2, read=2)
        admin.change("contact", ids[8:9], statecode=0)
        admin.expire("contact")
        admin.delete("contact", ids[10:11])
        assert foretold(program) == calls(insert=1, delete=1, read=1)  # a full read

    def test_of_many_deletes_one_in_51_is_read_back_however_many_are_under_way(self, program: Program) -> None:
        admin = program.sandbox.admin
        admin.settings("campaign", delete_by_key=True)
        program.guardrails = {"max_delete_share": 1.0}
        ids = admin.create("contact", *({"lastname": f"N{n}"} for n in range(412)))
        flown(program)
        admin.delete("contact", ids[:2])
        flown(program)  # finds out how Campaign deletes
        admin.delete("contact", ids[2:])
        try:
            assert foretold(program) == calls(delete=410, read=410 // 51)
        finally:
            admin.settings("campaign", delete_by_key=False)

    @pytest.mark.parametrize(
        ("by_key", "first", "sixty"),
        [
            (True, calls(delete=1, read=1), calls(delete=60, read=1)),
            (False, calls(delete=2, read=2), calls(delete=60, read=61)),
            ("ignored", calls(delete=2, read=3), calls(delete=60, read=61)),
        ],
    )
    def test_the_first_delete_finds_out_whether_sixty_cost_one_call_or_two_each(
        self, program: Program, by_key: bool | str, first: dict[str, int], sixty: dict[str, int]
    ) -> None:
        admin = program.sandbox.admin
        program.guardrails = {"max_delete_share": 1.0}
        ids = admin.create("contact", *({"lastname": f"N{n}"} for n in range(62)))
        flown(program)
        try:
            admin.settings("campaign", delete_by_key=by_key)
            admin.delete("contact", ids[:1])
            assert flown(program)["engine_calls"] == first
            admin.delete("contact", ids[1:61])
            assert foretold(program) == sixty
            assert list(program.profiles()) == ids[61:]
        finally:
            admin.settings("campaign", delete_by_key=False)

    def test_the_first_survivor_brings_back_two_calls_and_leaves_no_record_of_a_deleted_row(
        self, program: Program
    ) -> None:
        """Campaign begins to ignore deletes by the key, and the program was killed before it verified one."""
        admin = program.sandbox.admin
        program.guardrails = {"max_delete_share": 1.0, "horizon_minutes": 0.01}
        ids = admin.create("contact", *({"lastname": f"N{n}"} for n in range(122)))
        flown(program)
        try:
            admin.settings("campaign", delete_by_key=True)
            admin.delete("contact", ids[:1])
            assert killed_at(program, 1, ("sync",), method="GET")
            admin.delete("contact", ids[1:2])
            assert killed_at(program, 1, ("sync",), method="GET")
            for _ in range(3):
                flown(program)
                time.sleep(0.7)
            admin.settings("campaign", delete_by_key="ignored")
            admin.delete("contact", ids[2:112])
            flown(program)
            assert {*program.profiles()} == {*ids[112:]}
            admin.delete("contact", ids[112:120])
            assert foretold(program) == calls(delete=8, read=8)
            assert {*program.profiles()} == {*ids[120:]}
        finally:
            admin.settings("campaign", delete_by_key=False)

    def test_a_push_names_the_records_that_campaign_kept_and_no_later_request_deletes(self, program: Program) -> None:
        admin = program.sandbox.admin
        program.guardrails = {"max_delete_share": 1.0}
        ids = admin.create("contact", *({"lastname": f"N{n}"} for n in range(70)))
        flown(program)
        try:
            admin.settings("campaign", delete_by_key=True)
            admin.delete("contact", ids[:2])
            flown(program)
            admin.settings("campaign", delete_by_key="ignored")
            admin.fault("campaign", "status", status=500, method="DELETE", path="/(@|%40)")
            admin.delete("contact", ids[2:60])
            done = program.sync()
            [text] = [note for note in done.stopped if "kept" in note]
            named = {*re.findall("[0-9a-f-]{36}", text)}
            assert done.status == 2
            assert named < {*program.profiles()} & {*ids[2:60]}
            assert f"it deleted {len(named)} records of contact" in text
            assert "delete them in Campaign" in text
        finally:
            admin.clear_faults()
            admin.settings("campaign", delete_by_key=False)

    def test_the_budget_of_the_day_bounds_the_records_that_fit(self, program: Program) -> None:
        admin = program.sandbox.admin
        admin.create("contact", *({"lastname": f"N{n}"} for n in range(7)))
        flown(program)
        admin.create("contact", *({"lastname": f"M{n}"} for n in range(9)))
        program.guardrails = {"engine_calls_per_day": 12, "concurrency": 1, "calls_per_second": 2}
        planned_sync = planned(program)
        assert planned_sync["engine_calls"] == calls(insert=9)
        assert planned_sync["budget"] == {"engine_calls_per_day": 12, "used_today": 9, "left_today": 3, "fits_today": 3}
        _, output, _ = program.run("plan")
        assert "9 were made today: 3 of 9 fit today, the other 6 take 1 more day." in " ".join(output.split())
        assert output.splitlines()[-1] == "9 engine calls, about 4 s at 7,200 an hour (assumed)."
        assert program.sync().document["engine_calls"] == calls(insert=3)
        program.guardrails = {"engine_calls_per_day": 100}
        flown(program)
        assert "fit today" not in program.run("plan")[1], "of no call"

    def test_records_whose_outcome_is_unknown_are_counted_apart(self, program: Program) -> None:
        """Claimed by a worker that is gone, which may have sent them."""
        program.sandbox.admin.create("contact", *({"lastname": f"N{n}"} for n in range(3)))
        runtime = program.runtime()
        capture(runtime)
        runtime.ledger.claims.claim("contact", session_of(runtime.ledger, "gone"), limit=2)
        runtime.ledger.sessions.end(session_of(runtime.ledger, "gone"))
        runtime.close()
        planned_sync = planned(program)
        assert planned_sync["tables"]["contact"]["uncertain"] == 2
        assert "not known whether Campaign holds 2 records, since an answer was lost" in planned_sync["notes"][0]
        done = flown(program)["engine_calls"]
        assert abs(sum(done.values()) - sum(planned_sync["engine_calls"].values())) <= 5


def linked(program: Program, cardinality: Literal["one", "zero_or_one"] = "one") -> None:
    """Configure the chain of tables, and publish its links."""
    program.table, *program.further = yaml.safe_load(chain_configuration("key", cardinality))["tables"]
    for resource, (link, _) in CHAIN_LINKS.items():
        program.sandbox.admin.publish_link(resource, link, cardinality)


class TestLinkedTables:
    def test_a_parent_that_is_made_after_its_table_was_read_is_planned_with_its_child(
        self, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As `sync` does it (test_links.py): the parents' tables are polled once more after their children's.

        The second capture of a table does not hide what the first one found.
        """
        linked(program)
        admin, late = program.sandbox.admin, list[str]()

        async def then_more(runtime: Runtime, config: TableConfig) -> Captured:
            captured = await capture_table(runtime, config)
            if not late:
                late.extend(admin.create("contact", {"lastname": "Late"}))
                admin.create("new_order", {"new_name": "Late", "new_contactid": late[0]})
            return captured

        with monkeypatch.context() as patch:
            patch.setattr("sync_assets.commands.plan.capture_table", then_more)
            tables = planned_of(program)["tables"]
        made = {table: tables[table]["insert"] for table in RESOURCES}
        assert made == {"contact": 1, "new_order": 1, "new_orderline": 0}
        assert flown(program)["engine_calls"] == {
            kind: sum(entry["engine_calls"][kind] for entry in tables.values()) for kind in calls()
        }

        program.table["fields"].pop("firstname")
        late.clear()
        with monkeypatch.context() as patch:
            patch.setattr("sync_assets.commands.plan.capture_table", then_more)
            assert len(planned_of(program)["tables"]["contact"]["mapping_changes"]) == 1

    def test_options_take_effect_and_a_link_to_another_parent_is_listed(self, program: Program) -> None:
        admin = program.sandbox.admin
        linked(program)
        [contact] = admin.create("contact", {"lastname": "A"})
        [order, orphan] = admin.create(
            "new_order", {"new_name": "O", "new_contactid": contact}, {"new_name": "P", "new_contactid": None}
        )
        admin.create("new_orderline", {"new_name": "L", "new_orderid": order}, {"new_name": "M", "new_orderid": orphan})
        before = everything(program)
        status, result = program.json("plan")
        assert (status, everything(program)) == (0, before)
        inserts = {table: entry["insert"] for table, entry in result["tables"].items()}
        assert inserts == {"contact": 1, "new_order": 1, "new_orderline": 1}
        assert [entry["orphaned"] for entry in result["tables"].values()] == [0, 1, 1]
        status, output, _ = program.run("plan")
        [total] = [line.split() for line in output.splitlines() if line.split()[:2] == ["in", "all"]][:1]
        assert (status, total) == (0, ["in", "all", "3", "0", "0", "0", "0", "0", "0", "0"])
        assert "new_order: 1 orphaned: a parent that they need is gone for good" in output
        assert output.splitlines()[-1] == "11 engine calls, about 1 s at 2,304,000 an hour (assumed)."
        status, done = program.json("sync")
        assert (status, done["engine_calls"]) == (0, result["engine_calls"])

        [other] = admin.create("contact", {"lastname": "B"})
        admin.change("new_order", [order], new_contactid=other)
        [change] = program.json("plan", "--changes", "--show-values")[1]["tables"]["new_order"]["changes"]
        assert (change["id"], change["attributes"]) == (order, ["cusContactLink"])
        assert change["values"] == {"cusContactLink": {"mapped": other}}


class TestWhatDoctorFinds:
    """`plan` reports it, with the exit status of `sync`."""

    def test_a_table_that_would_stop(self, program: Program) -> None:
        """Other findings: unit/mapping/test_replacements.py, unit/checks."""
        program.table |= {"filter": {"name": "byNothing", "parameter": "x_parameter"}}
        program.further = [
            {"table": "account", "resource": "cusStore", "key": "cusStoreId", "api": "customResources"}
            | {"fields": {"name": "cusName"}}
        ]
        for command, status in (("doctor", 1), ("plan", 2), ("sync", 2)):
            ended, output, errors = program.run(command)
            said = " ".join((output + errors).split())
            assert (ended, "profile has no filter byNothing" in said) == (status, True), command

    def test_opt_outs_without_an_sftp(self, program: Program) -> None:
        program.opt_out = {"direction": "bidirectional", "mappings": {"donotemail": "blackListEmail"}}
        program.more |= {name: "" for name in program.sandbox.env if "SFTP" in name}
        for command in ("doctor", "plan", "sync"):
            status, output, errors = program.run(command)
            assert (status, "CAMPAIGN_SFTP_HOST is not set" in output + errors) == (1, True), command


class TestMappingChanges:
    @pytest.mark.parametrize(("delete", "due"), [(True, 3), (False, 0)])
    def test_deletions_by_another_filter_count(self, program: Program, delete: bool, due: int) -> None:
        admin = program.sandbox.admin
        ids = admin.create("contact", *({"lastname": f"N{n}"} for n in range(5)))
        admin.change("contact", ids[:3], statecode=1)
        flown(program)
        program.table["filters"] = ACTIVE | {"delete_filtered_out": delete}
        notes = " ".join(program.sync().stopped)
        assert f"5 rows were read again, {due} records are to be sent or deleted" in notes
        del program.table["filters"]
        notes = " ".join(program.sync().stopped)
        assert f"5 rows were read again, {due} records are to be sent or deleted" in notes

    def test_links_count(self, program: Program) -> None:
        linked(program, cardinality="zero_or_one")
        [links, *_] = [table.pop("links") for table in program.further]
        program.further = program.further[:1]
        [contact] = program.sandbox.admin.create("contact", {"lastname": "A"})
        program.sandbox.admin.create("new_order", *({"new_name": f"O{n}", "new_contactid": contact} for n in range(2)))
        flown(program)
        program.further[0]["links"] = links
        assert "2 rows were read again, 2 records are to be sent or deleted" in " ".join(program.sync().stopped)


class TestChanges:
    def test_each_record_is_listed_with_the_attributes_that_differ_in_campaign(self, program: Program) -> None:
        program.table["fields"]["jobtitle"] = "cusJobTitle"
        admin = program.sandbox.admin
        [changed, deleted, by_hand] = admin.create(
            "contact", *({"lastname": f"N{n}", "jobtitle": "Nurse"} for n in "abc")
        )
        flown(program)
        admin.change("contact", [changed], jobtitle="Countess", birthdate="1815-12-10", address1_city="Ockham")
        admin.change("contact", [by_hand], jobtitle="Painter")
        admin.post("/campaign/change", {"resource": "profile", "keys": [by_hand], "set": {"cusJobTitle": "Painter"}})
        admin.delete("contact", [deleted])
        inserted, rejected = admin.create("contact", {"lastname": "Lovelace"}, {"jobtitle": "J" * 51})
        before = everything(program)
        status, document = program.json("plan", "--changes")
        assert (status, everything(program)) == (0, before)
        result = document["tables"]["contact"]
        expected = {
            inserted: {"operation": "insert"},
            deleted: {"operation": "delete"},
            changed: {"operation": "update", "attributes": ["cusJobTitle", "location.city"]},
            by_hand: {"operation": "update", "attributes": []},
            rejected: {"operation": "reject", "reason": "cusJobTitle: 51 characters, at most 50"},
        }
        assert {one.pop("id"): one for one in result["changes"]} == expected
        assert result["changes_not_listed"] == 0
        assert "contact: this plan made 2 reads to compare its updates." in document["notes"]
        assert "Countess" not in str(document)

        shown = program.json("plan", "--changes", "--show-values")[1]["tables"]["contact"]["changes"]
        values = {one["id"]: one.get("values", {}) for one in shown}
        assert values[changed]["cusJobTitle"] == {"campaign": "Nurse", "mapped": "Countess"}
        assert values[inserted] == {
            "lastName": {"campaign": None, "mapped": "Lovelace"},
            "externalId": values[inserted]["externalId"],
        }
        status, text, _ = program.run("plan", "--changes", "--show-values")
        assert "cusJobTitle: Nurse -> Countess" in text
        assert f"reject  {rejected}  cusJobTitle: 51 characters" in text
        _, text, _ = program.run("plan", "--changes", "--limit", "1")
        assert "contact: 4 more records. `--limit` lists more." in text
        assert sum(id_ in text for id_ in expected) == 1

        program.guardrails = {"engine_calls_per_day": 1}  # spent, so Campaign is not read
        document = program.json("plan", "--changes")[1]
        listed = {one["id"]: one.get("attributes") for one in document["tables"]["contact"]["changes"]}
        assert listed[by_hand] == listed[changed] != ["cusJobTitle", "location.city"]
        assert any("its updates are listed with all attributes that they send." in note for note in document["notes"])
        program.guardrails = {}
        assert foretold(program) == document["engine_calls"]

    def test_one_table_alone_is_planned_estimated_and_synced_and_a_dry_run_is_its_plan(self, program: Program) -> None:
        linked(program)
        admin = program.sandbox.admin
        [contact] = admin.create("contact", {"lastname": "A"})
        admin.create("new_order", {"new_name": "O", "new_contactid": contact})
        before = everything(program)
        for table, inserts in (("new_order", 0), ("contact", 1)):
            result = program.json("plan", "--table", table)
            assert program.json("sync", "--dry-run", "--table", table) == result
            status, document = result
            assert (status, list(document["tables"])) == (0, [table])
            assert document["tables"][table]["insert"] == inserts
            estimated = program.json("estimate", "--table", table)[1]
            assert list(estimated["tables"]) == [table]
            assert estimated["first_load"]["engine_calls"]["insert"] == 1
        assert everything(program) == before
        status, done = program.json("sync", "--table", "contact")
        assert done["engine_calls"] == document["engine_calls"]
        assert "Did you mean new_order?" in program.run("plan", "--table", "new_ordr")[2]


class TestAChangedMapping:
    """A change of the mapping costs what differs: `plan` says so, and `sync` does it."""

    N = 60

    def step(self, program: Program, table: dict[str, Any]) -> int:
        """Change the mapping; return the updates: they are all calls that `plan` foretells and `sync` makes."""
        program.table = table
        cost = foretold(program)
        assert cost == calls(update=cost["update"])
        return cost["update"]

    def test_only_attributes_and_rows_that_differ_are_sent(self, program: Program) -> None:
        admin, table = program.sandbox.admin, program.table
        rows = [{"firstname": f"A{n}", "jobtitle": "Nurse", "lastname": "B"} for n in range(self.N)]
        ids = admin.create("contact", *rows)
        admin.change("contact", ids[:20], mobilephone="+1 555 0100")
        foretold(program)
        fields = dict(table["fields"])

        job = fields.pop("jobtitle")
        program.table = {**table, "fields": fields}
        left_out = "`jobtitle` -> cusJobTitle is no longer mapped"
        assert planned(program)["tables"]["contact"]["mapping_changes"] == [left_out]
        assert f"changed since the last sync: {left_out}" in " ".join(program.run("doctor")[1].split())
        assert self.step(program, {**table, "fields": fields}) == 0
        phone = {**fields, "mobilephone": "mobilePhone"}
        assert self.step(program, {**table, "fields": phone}) == 20

        admin.change("contact", ids[:5], jobtitle=None)  # while no mapping writes it
        foretold(program)
        again = {**phone, "jobtitle": job}
        assert self.step(program, {**table, "fields": again}) == self.N

        admin.change("contact", ids[30:37], firstname="Long name")
        assert foretold(program) == calls(update=7)
        replaced = {"firstname": {"Long name": "Short"}}
        assert self.step(program, {**table, "fields": again, "replacements": replaced}) == 7
        held = {one["externalId"]: one for one in admin.dump_campaign()}
        assert [held[id_]["cusJobTitle"] for id_ in ids[:6]] == ["", "", "", "", "", "Nurse"]
        assert [held[id_]["firstName"] for id_ in ids[29:31]] == ["A29", "Short"]

    def test_a_link_mapped_again_costs_its_differences_and_is_emptied_with_its_lookup(self, program: Program) -> None:
        linked(program, cardinality="zero_or_one")
        admin = program.sandbox.admin
        a, b = admin.create("contact", {"lastname": "A"}, {"lastname": "B"})
        orders = admin.create("new_order", *({"new_name": "O", "new_contactid": a} for _ in range(9)))
        flown(program)
        mapped = program.further[0]
        program.further = [{**mapped, "links": []}]
        assert foretold(program) == calls()

        admin.change("new_order", orders[:2], new_contactid=None)
        admin.change("new_order", [orders[2]], new_contactid=b)
        assert foretold(program) == calls()
        program.further = [mapped]
        assert foretold(program) == calls(update=3, read=2)  # the first link that is set is read back
        held = {one["cusOrderId"]: one["cusContactLink"] for one in admin.dump_campaign("cusOrder")}
        names = {one["PKey"]: one["lastName"] for one in admin.dump_campaign()}
        assert [names.get((held[one] or {}).get("PKey")) for one in orders[:4]] == [None, None, "B", "A"]
