"""Whole runs with Campaign v8: opt-outs in both directions, locations, and the sandbox's option.

A first load with links, changes and deletions: `test_premises.py`. The report of `certify`: `test_certify.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_assets_tests.support.opt_outs import assert_quiet, set_campaign, set_d365, sides, switch_on
from sync_assets_tests.support.premises import POSITIONS, V8
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import Admin
from sync_assets_tests.support.waiting import until


@pytest.fixture
def program(program: Program) -> Program:
    POSITIONS[V8].apply(program.sandbox.admin)
    program.table = POSITIONS[V8].table(program.table) | {"apply_deletes": True}
    return program


def test_opt_outs_go_in_both_directions_without_an_echo(program: Program) -> None:
    switch_on(program, "bidirectional")
    assert program.sync().status == 0
    ours, theirs = [id_ for id_, profile in sorted(program.profiles().items()) if not profile["blackListEmail"]][:2]
    set_d365(program, ours, donotemail=True)
    set_campaign(program, theirs, blackListEmail=True)
    program.sandbox.admin.export()
    opt_out = program.sync().document["opt_out"]
    assert (opt_out["to_d365"], opt_out["to_campaign"]) == (1, 1)
    assert sides(program, ours) == sides(program, theirs) == (True, True)
    assert_quiet(program)


def test_a_contact_that_moves_is_updated_but_for_its_location_and_leaves_no_reject(program: Program) -> None:
    admin = program.sandbox.admin
    assert program.sync().status == 0
    program.assert_in_step()
    before = {id_: profile["location"]["city"] for id_, profile in program.profiles().items()}
    [moved] = admin.change("contact", 1, address1_city="Elsewhere", jobtitle="Moved")
    [gone] = admin.delete("contact", [id_ for id_ in sorted(before) if id_ != moved][:1])
    assert program.sync().status == 0
    profiles = program.profiles()
    assert (profiles[moved]["cusJobTitle"], profiles[moved]["location"]["city"]) == ("Moved", before[moved])
    assert gone not in profiles


def test_a_forced_replay_sends_all_but_the_location(program: Program) -> None:
    assert program.sync().status == 0
    [key] = program.sandbox.admin.change("contact", 1, birthdate="1990-01-02")  # apply_updates: false
    assert program.run("replay", "contact", "--force")[0] == 0
    assert program.sync().status == 0
    assert program.profiles()[key]["birthDate"] == "1990-01-02"


def test_the_sandbox_plays_it_from_the_start(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "sandbox.env"
    process = program.start("sandbox", "--contacts", "1", "--dialect", "v8", "--env-file", str(file))
    try:
        until(file.exists, seconds=60)
        url = dict(line.split("=", 1) for line in file.read_text().splitlines())["SANDBOX_ADMIN_URL"]
        admin = Admin(url)
        settings = admin.settings("campaign")
        admin.close()
        assert (settings["dialect"], settings["v8_errors"]) == ("v8", True)
    finally:
        process.terminate()
        process.communicate(timeout=30)
