"""The whole program reads a table of several pages that changes meanwhile, and is killed. In the end both agree,
whatever moment a delta link stands for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.program import CONTACT, Program

PAGE, ROWS = 100, 220
"""Three pages. Most rows are out of scope, so that little is to be sent."""
IN_SCOPE = {"rules": [{"field": "department", "is": "eq", "value": "in"}], "delete_filtered_out": True}


def rows_asked_for(program: Program, since: int) -> int:
    """Pages of whole rows that were asked for, the first one that only shows that there are several included."""
    journal = program.sandbox.admin.journal("d365", since)
    return sum("/contacts?" in entry["path"] and "lastname" in entry["path"] for entry in journal)


def until_pages(program: Program, since: int, pages: int) -> None:
    give_up_at = time.monotonic() + 120
    while rows_asked_for(program, since) < pages:
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def everything_happens(program: Program, name: str) -> None:
    """To rows of all pages: they change, leave and enter the scope, are deleted and made."""
    admin = program.sandbox.admin
    rows = {row["contactid"]: row["department"] for row in admin.dump_d365()}
    scope = [id_ for id_, department in rows.items() if department == "in"]
    admin.change("contact", scope[::4], jobtitle=f"Changed {name}")
    admin.change("contact", scope[1::4], department="out")
    admin.delete("contact", scope[2::4])
    admin.change("contact", [id_ for id_ in rows if id_ not in scope][:: ROWS // 12], department="in")
    admin.create("contact", *({"lastname": f"New {name} {n}", "department": "in"} for n in range(3)))


def assert_agreed(program: Program) -> None:
    """After one more sync, for what happened after the last one had asked; what a read lost it would never bring."""
    assert program.sync().status == 0
    rows = {row["contactid"]: row for row in program.sandbox.admin.dump_d365() if row["department"] == "in"}
    profiles = program.profiles()
    assert profiles.keys() == rows.keys()
    assert {id_: one["cusJobTitle"] for id_, one in profiles.items()} == {
        id_: row["jobtitle"] or "" for id_, row in rows.items()
    }


@pytest.mark.parametrize("taken", [pytest.param("start", marks=pytest.mark.premises), "end"])
def test_what_happens_while_a_table_is_read_and_the_program_killed_arrives(
    sandbox_factory: SandboxFactory, tmp_path: Path, taken: str
) -> None:
    table: dict[str, Any] = {**CONTACT, "apply_deletes": True, "filters": IN_SCOPE}
    program = Program(sandbox_factory(contacts=ROWS), tmp_path, table, guardrails={"max_delete_share": 1.0})
    admin = program.sandbox.admin
    admin.change("contact", [row["contactid"] for row in admin.dump_d365()][:: ROWS // 40], department="in")
    admin.settings("d365", delta_link_taken=taken, page_limit=PAGE)

    # A first load, killed at its second page; it changes before and after that.
    admin.latency("d365", 700)
    since = admin.last()
    process = program.start("sync")
    until_pages(program, since, 3)
    everything_happens(program, "before the kill")
    process.kill()
    process.communicate()
    since = admin.last()
    process = program.start("sync")
    until_pages(program, since, 1)
    everything_happens(program, "in the first load")
    process.communicate(timeout=240)
    admin.latency("d365", 0)
    assert_agreed(program)

    # All rows once more, as another mapping has it.
    program.table = {**table, "fields": {**CONTACT["fields"], "firstname": {"to": "firstName", "truncate": True}}}
    admin.latency("d365", 700)
    since = admin.last()
    process = program.start("sync")
    until_pages(program, since, 3)
    everything_happens(program, "in the second read")
    process.communicate(timeout=240)
    admin.latency("d365", 0)
    assert_agreed(program)
