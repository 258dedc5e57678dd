"""Opt-outs of contacts that the filter excludes, or that Dynamics 365 has deleted, while Campaign keeps the profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.opt_outs import assert_quiet, opted_in, set_d365, sides, switch_on
from sync_assets_tests.support.program import CONTACT, Program, calls

CARRYING = ("d365_to_campaign", "bidirectional")


def installed(sandboxes: SandboxFactory, home: Path, direction: str, contacts: int = 20, **table: Any) -> Program:
    """Return an installation that is in sync, whose filter excludes inactive contacts."""
    program = switch_on(Program(sandboxes(contacts=contacts), home), direction)
    rules = [{"field": "statecode", "is": "eq", "value": 0}]
    filters = {"rules": rules, "delete_filtered_out": table.pop("delete_filtered_out", False)}
    program.table = {**CONTACT, "filters": filters, **table}
    assert program.sync().status == 0
    return program


@pytest.mark.parametrize("direction", CARRYING)
def test_the_kept_profile_of_a_contact_that_is_deactivated_and_opts_out_is_opted_out(
    sandbox_factory: SandboxFactory, tmp_path: Path, direction: str
) -> None:
    program = installed(sandbox_factory, tmp_path, direction)
    ada, bob, cid, *_ = opted_in(program)
    admin = program.sandbox.admin
    admin.change("contact", [ada], statecode=1, donotemail=True)
    admin.change("contact", [bob], statecode=1)
    done = program.sync()
    assert (done.status, done.document["opt_out"]["to_campaign"]) == (0, 1), (done.problems, done.stopped)
    assert done.document["engine_calls"] == calls(read=1, update=1)
    assert [sides(program, id_) for id_ in (ada, bob, cid)] == [(True, True), (False, False), (False, False)]

    set_d365(program, bob, donotemail=True)  # long after it left the filter
    assert program.sync().status == 0
    assert sides(program, bob) == (True, True)
    assert program.sync().document["engine_calls"] == calls()
    assert_quiet(program)


def test_a_contact_that_comes_back_with_its_opt_out_taken_back_is_opted_in(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    program = installed(sandbox_factory, tmp_path, "d365_to_campaign")
    id_, admin = next(opted_in(program)), program.sandbox.admin
    admin.change("contact", [id_], statecode=1, donotemail=True)
    assert program.sync().status == 0
    admin.change("contact", [id_], statecode=0, donotemail=False)  # as Campaign acknowledged it before
    assert program.sync().status == 0
    assert sides(program, id_) == (False, False)
    assert_quiet(program)


@pytest.mark.parametrize("direction", CARRYING)
def test_a_profile_whose_deletion_is_held_back_is_opted_out_meanwhile(
    sandbox_factory: SandboxFactory, tmp_path: Path, direction: str
) -> None:
    program = installed(sandbox_factory, tmp_path, direction, contacts=120, delete_filtered_out=True)
    mine, admin = [id_ for id_, _ in zip(opted_in(program), range(10), strict=False)], program.sandbox.admin
    admin.change("contact", mine, statecode=1, donotemail=True)
    done = program.sync()
    assert done.status == 2
    assert "10 deletions are held back" in done.stopped[0]
    assert [sides(program, id_) for id_ in mine] == [(True, True)] * 10
    assert program.run("approve-deletes", "contact")[0] == 0
    assert program.sync().status == 0
    assert not program.profiles().keys() & set(mine)
    with_rows = program.runtime()
    assert with_rows.ledger.opt_outs.of(mine) == []
    with_rows.close()
    assert_quiet(program)


@pytest.mark.parametrize("direction", CARRYING)
def test_an_opt_out_that_campaign_did_not_take_outlives_the_contact_while_the_profile_is_kept(
    sandbox_factory: SandboxFactory, tmp_path: Path, direction: str
) -> None:
    program = installed(sandbox_factory, tmp_path, direction)
    id_, admin = next(opted_in(program)), program.sandbox.admin
    admin.fault("campaign", "status", status=500, body="blackListEmail is not valid", method="PATCH", path=id_)
    admin.change("contact", [id_], statecode=1, donotemail=True)
    assert program.sync().status == 2
    admin.clear_faults()
    admin.delete("contact", [id_])  # without apply_deletes the profile is kept
    assert program.sync().status == 2
    assert program.run("retry")[0] == 0
    assert program.sync().status == 0
    assert program.profiles()[id_]["blackListEmail"] is True
    assert_quiet(program)
