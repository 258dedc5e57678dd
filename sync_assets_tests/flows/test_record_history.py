"""`history`: what became of a record in each run; off by default, in agreement with the ledger."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg

from sync_assets_tests.support.opt_outs import HEADER, LATER, says, switch_on, write_file
from sync_assets_tests.support.orchestra import in_memory
from sync_assets_tests.support.program import CONTACT, Program

N = 50


def keys(program: Program) -> list[str]:
    return [row["contactid"] for row in program.sandbox.admin.dump_d365()]


def rows(program: Program, query: str) -> list[tuple[Any, ...]]:
    """Query the ledger as it is on disk, without opening it as a ledger."""
    path = Path(program.env["DAGSTER_HOME"]) / "ledger.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def told(program: Program, *arguments: str) -> list[tuple[str, str, str | None]]:
    status, document = program.json("history", *arguments)
    assert status == 0
    return [(one["operation"], one["outcome"], one["reason"]) for one in document["history"]]


def test_without_the_key_no_history_is_kept_and_the_command_names_the_key(program: Program) -> None:
    assert program.sync().status == 0
    assert rows(program, "SELECT count(*) FROM sync_history") == [(0,)]
    status, output, errors = program.run("history")
    assert (status, errors) == (0, "")
    assert output == (
        "No history is kept: write `history: {days: 14}` in the configuration, and later syncs keep it.\n"
    )
    assert program.json("history")[1] == {"kept_days": None, "history": [], "decisions": []}

    status, output, errors = program.run("history", "--table", "lead")
    assert (status, output, "lead is not a mapped table." in errors) == (1, "", True)
    status, output, errors = program.run("history", "Zanzibarlast")
    assert (status, output, "The history of a record needs its D365 id" in errors) == (1, "", True)
    assert "Zanzibarlast" not in errors


def test_a_record_is_followed_from_run_to_run(program: Program) -> None:
    admin, program.history, program.on_disk = program.sandbox.admin, {"days": 14}, True
    program.table = {**CONTACT, "apply_deletes": True, "fields": {**CONTACT["fields"], "jobtitle": "cusJobTitle"}}
    admin.settings("campaign", bare_data_policy=False)
    mine, other = keys(program)[:2]
    admin.change("contact", [mine], emailaddress1="no-address")
    admin.change("contact", [other], jobtitle="x" * 100)
    assert program.sync().status == 2
    admin.change("contact", [mine], emailaddress1="right@example.org")
    admin.change("contact", [other], jobtitle="Short")
    program.sync()
    admin.change("contact", [mine], lastname="Changed")
    program.sync()
    admin.delete("contact", [mine])
    program.sync()

    entries = program.json("history", mine)[1]["history"]
    assert [(one["operation"], one["outcome"]) for one in entries] == [
        ("delete", "acknowledged"),
        ("update", "acknowledged"),
        ("insert", "acknowledged"),
        ("insert", "rejected"),
    ]
    assert "email" in entries[-1]["reason"]
    assert {one["id"] for one in entries} == {mine}
    runs = [one["run"] for one in entries]
    assert len(set(runs)) == 4
    with dg.DagsterInstance.from_config(str(program.home / "dagster")) as instance:
        assert all(instance.get_run_by_id(run) for run in runs)

    [insert, refused] = told(program, f"{{{other.upper()}}}", "--table", "contact")
    assert insert == ("insert", "acknowledged", None)
    assert refused[:2] == ("validate", "rejected")
    assert "cusJobTitle" in str(refused[2])

    status, output, _ = program.run("history", mine)
    last = f"{entries[0]['at']} contact {mine} delete: acknowledged (run {runs[0][:8]})"
    first = f"{entries[3]['at']} contact {mine} insert: rejected (run {runs[3][:8]}): {entries[3]['reason']}"
    lines = output.splitlines()
    assert (status, len(lines), lines[0], lines[3]) == (0, 4, last, first)
    assert len(told(program)) == 50
    assert len(told(program, "--limit", "3")) == 3
    assert mine in program.run("history", "--limit", "2")[1]


def test_the_opt_out_decisions_of_a_contact_stand_beside_its_history(program: Program) -> None:
    switch_on(program, "campaign_to_d365")
    program.history = {"days": 14}
    program.sync()
    mine, other = keys(program)[:2]
    name = write_file(program, HEADER + says(mine, at=LATER) + says(other, 0, LATER))
    assert program.sync().status == 0
    [decision] = program.json("history", mine)[1]["decisions"]
    shown = {key: decision[key] for key in ("attribute", "value", "write", "reason")}
    assert shown == {"attribute": "blackListEmail", "value": "boolean", "write": "d365", "reason": "Campaign decides"}
    assert name in decision["source"]
    line = program.run("history", mine)[1].splitlines()[-1]
    assert line.startswith(f"opt-out decision: {decision['decided_at']} blackListEmail: boolean, written to Dynamics")
    assert program.json("history", mine, "--table", "contact")[1]["decisions"] == [decision]
    assert program.json("history", keys(program)[3])[1]["decisions"] == []


def test_the_job_prune_history_removes_old_entries_and_all_once_no_history_is_configured(program: Program) -> None:
    def pruned(older_by_days: int = 0) -> int:
        with closing(sqlite3.connect(program.home / "dagster" / "ledger.db")) as connection, connection:
            connection.execute("UPDATE sync_history SET at = at - ?", (older_by_days * 86_400_000_000,))
        with in_memory(program) as orchestra:
            assert orchestra.job("prune_history").success
        return rows(program, "SELECT count(*) FROM sync_history")[0][0]

    program.history = {"days": 14}
    program.sync()
    assert [pruned(13), pruned(2)] == [N, 0]
    program.sandbox.admin.change("contact", 3, jobtitle="Changed")
    program.sync()
    assert pruned() == 3
    program.history = {}
    assert pruned() == 0
