"""Opt-outs by whole runs: which side is written, and no echo of it. The truth table: unit/opt_out/test_decide.py."""

from pathlib import Path
from typing import Any

import pytest

from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.chain import lose
from sync_assets_tests.support.nightly import DATABASES, by_default
from sync_assets_tests.support.opt_outs import (
    HEADER,
    HOUR,
    assert_quiet,
    audit,
    in_d365,
    modified,
    opted_in,
    says,
    set_campaign,
    set_d365,
    sides,
    switch_on,
    write_file,
)
from sync_assets_tests.support.premises import DOCUMENTED, V8, on_positions
from sync_assets_tests.support.program import CONTACT, Program, calls

N = 50


@on_positions(DOCUMENTED, "no key in a PATCH", V8, quick=(DOCUMENTED, "no key in a PATCH", V8))
def test_an_opt_out_in_d365_arrives_in_campaign_with_one_read_and_one_update(program: Program) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    id_ = next(id_ for id_, profile in program.profiles().items() if not profile["blackListEmail"])
    set_d365(program, id_, donotemail=True)
    done = program.sync()
    assert done.document["engine_calls"] == calls(read=1, update=1)
    assert done.document["opt_out"]["to_campaign"] == 1
    assert sides(program, id_) == (True, True)
    assert_quiet(program)


@on_positions(DOCUMENTED, V8, quick=(DOCUMENTED, V8))
def test_only_mapped_opt_outs_of_contacts_and_profiles_are_written_and_audited(program: Program) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    admin = program.sandbox.admin
    opted_out = [id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (True, True)]
    back, there = opted_out[0], next(id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False))
    changed = (modified(program, back) + HOUR / 2).replace(microsecond=0)
    set_campaign(program, back, changed, blackListEmail=False)
    set_d365(program, there, donotemail=True)
    name = admin.export()
    rows, profiles = {row["contactid"]: row for row in admin.dump_d365()}, program.profiles()
    program.sync()
    row, profile = in_d365(program, back), program.profiles()[there]
    stamps = {"modifiedon", "versionnumber", "_modifiedby_value", "@odata.etag"}
    assert {name for name in row if row[name] != rows[back].get(name)} - stamps == {"donotemail"}
    differing = {name for name in profile if profile[name] != profiles[there].get(name)}
    assert {name for name in differing if not name.lower().startswith("lastmodified")} <= {
        "blackListEmail",
        "blackListEmailLastModified",
    }
    assert "blackListEmail" in differing
    [decision] = [one._asdict() for one in audit(program) if one.contact == back]
    assert (
        decision
        | {
            "column": "donotemail",
            "attribute": "blackListEmail",
            "d365": True,
            "campaign": False,
            "campaign_changed": changed,
            "value": False,
            "write": "d365",
            "reason": "Campaign is newer",
        }
        == decision
    )
    assert decision["source"].startswith(f"{name}@")
    assert decision["d365_modified"] < decision["campaign_changed"]


@on_positions(DOCUMENTED, V8, quick=(DOCUMENTED, V8))
def test_a_profile_that_was_there_before_never_loses_its_opt_out(program: Program) -> None:
    switch_on(program, "bidirectional")
    admin = program.sandbox.admin
    plain = next(row for row in admin.dump_d365() if not row["donotemail"])
    admin.add_profiles({"email": "before@example.org", "externalId": plain["contactid"], "blackListEmail": True})
    done = program.sync()
    assert done.status == 0, (done.problems, done.stopped)
    assert sides(program, plain["contactid"]) == (True, True)
    # The list before the first load has shown what it holds, so it is not asked again.
    assert done.document["engine_calls"] == calls(insert=N - 1, update=1, read=2)
    assert_quiet(program)


def test_sync_polls_profiles_when_due_and_carries_their_opt_outs(program: Program) -> None:
    switch_on(program, "bidirectional")
    program.sync()
    program.opt_out["poll_profiles_minutes"] = 5
    id_ = next(id_ for id_ in sorted(program.profiles()) if sides(program, id_) == (False, False))
    set_campaign(program, id_, blackListEmail=True)
    done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, calls(read=1)), done.problems
    assert done.document["opt_out"] | {"files_processed": 0, "to_d365": 1} == done.document["opt_out"]
    assert sides(program, id_) == (True, True)
    assert program.sync().document["engine_calls"] == calls()  # the next one is not due yet
    assert_quiet(program)


def installed(sandboxes: SandboxFactory, home: Path, direction: str, contacts: int = 20, **table: Any) -> Program:
    """Return an installation that is in sync, whose filter excludes inactive contacts."""
    program = switch_on(Program(sandboxes(contacts=contacts), home), direction)
    rules = [{"field": "statecode", "is": "eq", "value": 0}]
    filters = {"rules": rules, "delete_filtered_out": table.pop("delete_filtered_out", False)}
    program.table = {**CONTACT, "filters": filters, **table}
    assert program.sync().status == 0
    return program


def test_the_kept_profile_of_a_contact_that_is_deactivated_and_opts_out_is_opted_out(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    program = installed(sandbox_factory, tmp_path, "bidirectional")
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


@pytest.mark.parametrize(("direction", "first"), [("d365_to_campaign", "sync"), ("bidirectional", "rebuild")])
def test_an_excluded_contact_who_opted_out_while_the_ledger_was_lost_is_opted_out(
    sandbox_factory: SandboxFactory, tmp_path: Path, direction: str, first: str
) -> None:
    """With `sync` as at a first load into a Campaign that has the profiles of another program."""
    program = installed(sandbox_factory, tmp_path, direction)
    ada, bob, *_ = opted_in(program)
    program.sandbox.admin.change("contact", [ada], statecode=1, donotemail=True)
    program.sandbox.admin.change("contact", [bob], statecode=1)
    lose(program)
    assert program.run(first, "--new-ledger")[0] == 0
    assert program.sync().status == 0
    assert [sides(program, id_) for id_ in (ada, bob)] == [(True, True), (False, False)]
    assert program.sync().document["engine_calls"] == calls()
    assert_quiet(program)


def test_a_profile_whose_deletion_is_held_back_is_opted_out_meanwhile(
    sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    program = installed(sandbox_factory, tmp_path, "d365_to_campaign", contacts=120, delete_filtered_out=True)
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


@by_default("either", DATABASES, "sqlite")
def test_two_syncs_at_once_write_each_opt_out_once(either: Program) -> None:
    program, admin = either, either.sandbox.admin
    assert switch_on(program, "bidirectional").sync().status == 0
    ids = opted_in(program)
    mine, theirs = sorted(next(ids) for _ in range(3)), sorted(next(ids) for _ in range(3))
    write_file(program, HEADER + "".join(map(says, mine)))
    for id_ in theirs:
        set_d365(program, id_, donotemail=True)
    since = admin.last()
    admin.faults(
        {"system": "d365", "kind": "slow", "delay_ms": 700, "path": r"\$batch|Dynamics\.CRM\.In"},
        {"system": "campaign", "kind": "slow", "delay_ms": 500, "method": "PATCH"},
    )
    for process in [program.start("sync", "--json") for _ in range(2)]:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    admin.clear_faults()
    assert all(sides(program, id_)[0] for id_ in mine)
    assert [sides(program, id_) for id_ in theirs] == [(True, True)] * 3
    entries = admin.journal(since=since)
    assert sum("$batch" in entry["path"] for entry in entries) == 1
    assert sorted(entry["key"] for entry in entries if entry["method"] == "PATCH") == theirs
    assert_quiet(program)
