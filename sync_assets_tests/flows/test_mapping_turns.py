"""Two configurations on one ledger would send every row anew at each turn: that is noticed, and a person asked once."""

from __future__ import annotations

from typing import Any

from sync_assets_tests.support.program import CONTACT, Program

ONE: dict[str, Any] = CONTACT
OTHER: dict[str, Any] = {**CONTACT, "fields": {**CONTACT["fields"], "firstname": "lastName", "lastname": "firstName"}}


def sync(program: Program, table: dict[str, Any], *options: str) -> tuple[int, str, int]:
    """Exit status, standard error, engine calls."""
    program.table = table
    before = sum(program.sandbox.admin.engine_calls().values())
    status, _, errors = program.run("sync", *options)
    return status, errors, sum(program.sandbox.admin.engine_calls().values()) - before


def test_a_mapping_may_change_and_change_back_but_two_do_not_take_turns(program: Program) -> None:
    assert sync(program, ONE)[0] == 0
    assert sync(program, OTHER)[::2] == (0, 50)
    assert sync(program, ONE)[::2] == (0, 50)

    program.table = OTHER
    status, output, errors = program.run("plan")
    assert status == 0
    assert "50" in output
    assert "--accept-mapping" in errors

    status, errors, calls = sync(program, OTHER)
    assert (status, calls) == (1, 0)
    assert "Two configurations on one ledger" in errors
    assert "SYNC_ASSETS_LEDGER_URL" in errors
    assert sync(program, ONE)[::2] == (0, 0)
    assert sync(program, OTHER, "--accept-mapping")[::2] == (0, 50)
    assert sync(program, OTHER)[::2] == (0, 0)
    assert sync(program, ONE)[::2] == (1, 0)
