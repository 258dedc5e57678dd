"""What the commands print for people and for scripts: lists of waiting records, CSV, a watched status, one plan."""

from __future__ import annotations

import csv
import io
import os
import select
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sync_assets.operations.explain import explain
from sync_assets.operations.record_diff import record_diff
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.program import CONTACT, Program
from sync_assets_tests.support.waiting import until


@pytest.fixture
def waiting(sandbox_factory: SandboxFactory, tmp_path: Path) -> tuple[Chain, str, str]:
    """A contact that Campaign rejects, and an order that waits for it: their ids."""
    chain = Chain(sandbox_factory, tmp_path)
    chain.admin.settings("campaign", bare_data_policy=False)
    [contact] = chain.admin.create("contact", {"firstname": "Ada", "emailaddress1": "no-address"})
    order, _ = chain.order(contact)
    chain.sync()
    return chain, contact, order


def test_waiting_records_name_the_parents_that_they_wait_for(waiting: tuple[Chain, str, str]) -> None:
    chain, contact, order = waiting
    status, document = chain.program.json("rejects", "new_order", "--waiting")
    assert status == 0
    [one] = document["waiting"]
    assert one.keys() == {"table", "id", "reason", "since", "parents"}
    assert (one["id"], one["parents"]) == (order, [{"table": "contact", "id": contact, "state": "rejected"}])
    _, text, _ = chain.program.run("rejects", "--waiting")
    assert f"{order} since {one['since']}: contact {contact} rejected" in text

    _, lines, _ = chain.program.run("rejects", "--waiting", "--csv")
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert [row["table"] for row in rows] == ["new_order", "new_orderline"]
    assert rows[0]["parents"] == f"contact {contact} rejected"
    _, lines, _ = chain.program.run("rejects", "--csv")
    [rejected] = csv.DictReader(io.StringIO(lines))
    assert (rejected["id"], rejected["attempts"]) == (contact, "1")
    assert "no-address" not in lines


@pytest.mark.parametrize(
    "arguments",
    [("rejects", "--waiting", "--orphaned"), ("rejects", "--csv", "--json"), ("status", "--watch", "--json")],
)
def test_options_that_exclude_each_other_are_refused(program: Program, arguments: tuple[str, ...]) -> None:
    status, output, errors = program.run(*arguments)
    assert (status, output) == (1, "")
    assert "--" in errors


def test_status_is_shown_again_and_again_until_it_is_interrupted(program: Program) -> None:
    assert program.sync().status == 0
    process = program.start("status", "--watch")
    assert process.stdout is not None
    text = ""
    while text.count("change feed") < 2:
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready, "nothing more is shown"
        text += os.read(process.stdout.fileno(), 65536).decode()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_the_version_and_a_script_for_completion_are_shown(program: Program) -> None:
    status, output, _ = program.run("--version")
    assert status == 0
    assert output.startswith("sync-assets ")
    assert "--show-completion" in program.run("--help")[1]


def test_backup_and_approve_deletes_report_in_json(program: Program, tmp_path: Path) -> None:
    assert program.sync().status == 0
    copy = tmp_path / "copy.db"
    assert program.json("backup", str(copy)) == (0, {"file": str(copy), "bytes": copy.stat().st_size})
    assert program.json("approve-deletes", "contact") == (0, {"table": "contact", "approved": 0, "following": {}})


class TestPlanOfOneRecord:
    def planned(self, program: Program, id_: str) -> tuple[str | None, dict[str, Any]]:
        """Return the operation, and the changes by attribute, with values."""
        with closing(program.runtime()) as runtime:
            [one] = record_diff(explain(runtime, id_, show_values=True))["tables"].values()
        return one["operation"], {change["attribute"]: change["mapped"] for change in one["changes"]}

    def test_it_foresees_what_the_next_sync_does(self, program: Program) -> None:
        admin = program.sandbox.admin
        program.table = {**CONTACT, "apply_deletes": True}
        [id_] = admin.create("contact", {"lastname": "Lovelace", "jobtitle": "Analyst"})
        operation, changes = self.planned(program, id_)
        assert operation == "insert"
        assert (changes["lastName"], changes["cusJobTitle"]) == ("Lovelace", "Analyst")
        assert "email" not in changes
        program.sync()
        assert self.planned(program, id_) == (None, {})
        admin.change("contact", [id_], jobtitle="Countess", birthdate="1815-12-10")
        assert self.planned(program, id_) == ("update", {"cusJobTitle": "Countess"})
        program.sync()
        assert self.planned(program, id_) == (None, {})
        admin.delete("contact", [id_])
        assert self.planned(program, id_) == ("delete", {})

    def test_values_are_masked_unless_they_are_asked_for(self, program: Program) -> None:
        [id_] = program.sandbox.admin.create("contact", {"lastname": "Lovelace"})
        status, text, _ = program.run("plan", "--diff", id_)
        assert status == 0
        assert text.startswith(f"contact {id_} -> profile: insert\n")
        assert "lastName: - -> text, 8 characters" in text
        assert "Lovelace" not in text
        assert program.json("plan", "--diff", id_, "--show-values")[1]["values"] == "shown"

    def test_an_unknown_id_exits_1(self, program: Program) -> None:
        status, _, errors = program.run("plan", "--diff", "0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b")
        assert status == 1
        assert "is unknown" in errors


def test_a_plan_counts_the_opt_outs_that_are_due(opt_out_program: Program) -> None:
    assert opt_out_program.sync().status == 0
    [id_, *_] = [row["contactid"] for row in opt_out_program.sandbox.admin.dump_d365()]
    opt_out_program.sandbox.admin.change("contact", [id_], donotemail=True)
    status, document = opt_out_program.json("plan")
    assert status == 0
    assert document["opt_out"] == {"decide": 1, "to_d365": 0, "to_campaign": 0, "refused": 0, "held": 0}
    _, text, _ = opt_out_program.run("plan")
    assert "opt-outs" in text


def test_ctrl_c_in_the_first_steps_is_said(program: Program) -> None:
    admin = program.sandbox.admin
    admin.latency("d365", 5_000)
    process = program.start("doctor")
    until(lambda: admin.journal("login") != [])
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert errors.splitlines()[-1].startswith("sync-assets: Interrupted.")


def test_a_status_by_the_configuration_of_the_sandbox_says_so(program: Program) -> None:
    assert program.sync().status == 0
    assert "SYNC_ASSETS_CONFIG" not in program.run("status")[2]
    program.more["SYNC_ASSETS_CONFIG"] = ""
    assert "SYNC_ASSETS_CONFIG is not set" in program.run("status")[2]
