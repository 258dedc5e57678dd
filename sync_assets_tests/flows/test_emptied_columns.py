"""A column that becomes secured, or empty in many records, empties no attribute in Campaign without an approval."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sync_assets.commands.approve_deletes import approve_deletes
from sync_assets.commands.status import TableStatus, status
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.nightly import by_default
from sync_assets_tests.support.program import Program, calls

PEOPLE = 150


@pytest.fixture
def emptied(sandbox_factory: SandboxFactory, tmp_path: Any) -> Program:
    """The program after a first sync of PEOPLE contacts."""
    program = Program(sandbox_factory(contacts=PEOPLE), tmp_path)
    admin = program.sandbox.admin
    for contact in admin.dump_d365():
        if not contact["emailaddress1"]:
            admin.change("contact", [contact["contactid"]], emailaddress1="some@example.org")
    assert program.sync().status == 0
    return program


def secure(program: Program, *, secured: bool = True) -> None:
    """Secure the column of e-mail addresses, or make it readable again. The table's delta tokens expire then."""
    program.sandbox.admin.post(
        "/d365/metadata", {"table": "contact", "column": "emailaddress1", "set": {"secured": secured}}
    )


def emails(program: Program) -> int:
    return sum(bool(profile["email"]) for profile in program.profiles().values())


def table(program: Program) -> TableStatus:
    with closing(program.runtime()) as runtime:
        return status(runtime).tables["contact"]


def approve(program: Program) -> dict[str, Any]:
    with closing(program.runtime()) as runtime:
        return approve_deletes(runtime.config, runtime.ledger, "contact")


def test_a_column_that_becomes_secured_empties_nothing_and_costs_no_call_until_it_can_be_read_again(
    emptied: Program, caplog: pytest.LogCaptureFixture
) -> None:
    secure(emptied)
    planned = emptied.json("plan")[1]
    assert (planned["tables"]["contact"]["kept_values"], planned["engine_calls"]) == ({"email": PEOPLE}, calls())
    done = emptied.sync()
    assert (done.status, done.document["engine_calls"]) == (2, calls())
    assert emails(emptied) == PEOPLE
    assert table(emptied).kept_values == {"email": PEOPLE}
    assert "Campaign keeps the values of email (150). `emailaddress1` is secured in Dynamics 365." in caplog.text
    assert "approve-deletes contact" in done.ending
    status_, document = emptied.json("audit", "--repair")
    assert (status_, document["tables"]["contact"]["repaired"]) == (0, 0)
    status_, document = emptied.json("explain", min(emptied.profiles()))
    assert status_ == 2
    assert "Campaign keeps its email" in str(document["tables"]["contact"])

    secure(emptied, secured=False)
    done = emptied.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls())
    assert table(emptied).kept_values == {}
    assert emails(emptied) == PEOPLE


def test_other_changes_go_on_and_values_that_changed_meanwhile_come_back(emptied: Program) -> None:
    admin = emptied.sandbox.admin
    secure(emptied)
    assert emptied.sync().status == 2
    some = sorted(emptied.profiles())[:3]
    admin.change("contact", some, jobtitle="Painter", emailaddress1="new@example.org")
    assert emptied.sync().status == 2
    held = emptied.profiles()
    assert {held[id_]["cusJobTitle"] for id_ in some} == {"Painter"}
    assert emails(emptied) == PEOPLE

    secure(emptied, secured=False)
    done = emptied.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(update=3))
    emptied.assert_in_step()


def test_after_the_ledger_was_lost_a_secured_column_empties_nothing_either(emptied: Program) -> None:
    secure(emptied)
    for file in Path(emptied.env["DAGSTER_HOME"]).glob("ledger.db*"):
        file.unlink()
    assert emptied.run("rebuild", "--new-ledger")[0] == 0
    planned = emptied.json("plan")[1]
    done = emptied.sync()
    assert (done.status, done.document["engine_calls"]) == (2, planned["engine_calls"])
    assert (emails(emptied), table(emptied).kept_values) == (PEOPLE, {"email": PEOPLE})


def test_approved_values_are_emptied(emptied: Program) -> None:
    admin = emptied.sandbox.admin
    admin.change("contact", sorted(emptied.profiles())[:20], emailaddress1=None)
    assert emptied.sync().status == 2
    assert emails(emptied) == PEOPLE
    assert approve(emptied)["approved_values"] == {"email": 20}
    done = emptied.sync()
    assert (done.status, done.document["engine_calls"]["update"]) == (0, 20)
    assert emails(emptied) == PEOPLE - 20
    emptied.assert_in_step()


@pytest.mark.parametrize("between", ["not mapped", "kept if empty", "kept, then not mapped"])
def test_a_column_that_was_mapped_otherwise_for_a_time_is_guarded_when_it_is_mapped_again(
    emptied: Program, between: str
) -> None:
    plain, fields = dict(emptied.table), dict(emptied.table["fields"])
    if between == "kept, then not mapped":
        secure(emptied)
        assert emptied.sync().status == 2
    other = {"emailaddress1": {"to": "email", "keep_if_empty": True}} if between == "kept if empty" else {}
    del fields["emailaddress1"]
    emptied.table = plain | {"fields": fields | other}
    assert emptied.sync().status == 0
    secure(emptied)
    emptied.table = plain
    assert emptied.run("sync", "--accept-mapping")[0] == 2
    assert (emails(emptied), table(emptied).kept_values) == (PEOPLE, {"email": PEOPLE})


@by_default("before", ["disabled", "bidirectional", "d365_to_campaign"], "bidirectional")
def test_a_secured_opt_out_takes_no_opt_out_back(emptied: Program, before: str) -> None:
    admin, some = emptied.sandbox.admin, sorted(emptied.profiles())[:60]
    admin.change("contact", some, donotemail=True)
    mappings = {"donotemail": "blackListEmail"}
    emptied.opt_out = {"direction": "d365_to_campaign", "mappings": mappings}
    assert emptied.sync().status == 0
    emptied.opt_out["direction"] = before
    emptied.run("sync", "--accept-mapping")
    admin.post("/d365/metadata", {"table": "contact", "column": "donotemail", "set": {"secured": True}})
    emptied.opt_out["direction"] = "d365_to_campaign"
    emptied.run("sync", "--accept-mapping")
    held = emptied.profiles()
    assert all(held[id_]["blackListEmail"] for id_ in some)


def test_fields_that_updates_leave_out_are_not_kept_unless_all_is_sent(emptied: Program) -> None:
    admin, ids = emptied.sandbox.admin, sorted(emptied.profiles())
    admin.change("contact", ids, birthdate="1980-01-02")
    assert (emptied.run("replay", "contact")[0], emptied.sync().status) == (0, 0)
    admin.post("/d365/metadata", {"table": "contact", "column": "birthdate", "set": {"secured": True}})
    admin.change("contact", ids[:30], jobtitle="Painter")
    assert emptied.sync().status == 0
    emptied.run("replay", "contact", "--force")
    assert {profile["birthDate"] for profile in emptied.profiles().values()} == {"1980-01-02"}


def test_values_of_rows_that_are_gone_do_not_count_as_kept(emptied: Program) -> None:
    admin, ids = emptied.sandbox.admin, sorted(emptied.profiles())
    admin.change("contact", ids[:20], emailaddress1=None)
    assert emptied.sync().status == 2
    admin.delete("contact", ids[:20])
    assert emptied.sync().status == 0
    admin.change("contact", ids[20:21], emailaddress1=None)
    assert emptied.sync().status == 0
    assert emptied.profiles()[ids[20]]["email"] == ""
