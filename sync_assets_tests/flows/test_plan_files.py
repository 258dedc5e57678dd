"""`plan --out FILE` and `sync --plan FILE`: exactly what was approved is sent."""

import json
from collections.abc import Callable
from itertools import count, product
from pathlib import Path
from typing import Any, Literal, get_args
from unittest.mock import Mock

import pytest

from sync_assets.alerts.channels import DeadManSwitch
from sync_assets.bulk_load import files as load_files
from sync_assets.ledger.model import Load, LoadFile
from sync_assets.ledger.records.loads import Loads
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.loads import WORKFLOWS, by_file, inserted, loads, on_sftp, stop_load
from sync_assets_tests.support.nightly import DATABASES, by_default
from sync_assets_tests.support.opt_outs import switch_on
from sync_assets_tests.support.program import Program, Synced
from sync_assets_tests.support.waiting import until


def approved(program: Program, *options: str) -> Path:
    """A file with the plan of the next sync."""
    file = program.home / "approved.plan"
    file.unlink(missing_ok=True)
    status, _, errors = program.run("plan", "--out", str(file), *options)
    assert status == 0, errors
    return file


def sent(program: Program, file: Path) -> tuple[int, dict[str, int], dict[str, int]]:
    """Exit status, what is left of the plan, and the writes of a sync."""
    status, document = program.json("sync", "--plan", str(file))
    calls = {kind: number for kind, number in document["engine_calls"].items() if number and kind != "read"}
    return status, document["plan"], calls


def left(named: int, changed: int = 0, not_named: int = 0, gone: int = 0) -> dict[str, int]:
    return {"named": named, "changed": changed, "not_named": not_named, "gone": gone}


@by_default("either", DATABASES, "sqlite")
def test_a_row_that_changed_since_and_one_that_is_new_stay_pending(either: Program) -> None:
    program, admin = either, either.sandbox.admin
    file = approved(program)
    assert file.stat().st_mode & 0o777 == 0o600
    contacts = admin.dump_d365()
    changed, *planned = sorted(contact["contactid"] for contact in contacts)
    text = file.read_text("utf-8")
    assert all(id_ in text for id_ in (changed, *planned))
    assert not [one for one in contacts if (one["emailaddress1"] or one["lastname"]) in text], "no values"
    admin.change("contact", [changed], lastname="Changed")
    [new] = admin.create("contact", {"lastname": "New"})
    status, _, errors = program.run("sync", "--plan", str(file))
    assert status == 1
    assert "1 record changed since the plan, 1 record is not in the plan" in errors.splitlines()[-1]
    assert program.profiles().keys() == {*planned}
    assert sent(program, file) == (1, left(50, 1, 1), {}), "a plan that is used twice sends nothing again"
    admin.change("contact", [changed], lastname=next(c["lastname"] for c in contacts if c["contactid"] == changed))
    assert sent(program, file) == (1, left(50, 0, 1), {"insert": 1}), "it is as planned again"
    assert sent(program, approved(program)) == (0, left(1), {"insert": 1})
    assert program.profiles().keys() == {changed, new, *planned}
    program.assert_in_step()
    planned_rows = "SELECT count(*) FROM sync_planned"
    assert program.runtime().ledger.database.write(lambda c: c.exec_driver_sql(planned_rows).scalar()) == 0


def _edit(change: Callable[[list[str]], list[str]]) -> Callable[[Program], None]:
    def edit(program: Program) -> None:
        file = program.home / "approved.plan"
        file.write_text("".join(change(file.read_text("utf-8").splitlines(keepends=True))), "utf-8")

    return edit


def _header(lines: list[str], **values: Any) -> list[str]:
    return [json.dumps(json.loads(lines[0]) | values) + "\n", *lines[1:]]


REFUSED: dict[str, tuple[Callable[[Program], Any], str]] = {
    "another ledger": (_edit(lambda lines: _header(lines, ledger="1")), "is a plan for the ledger 1, and"),
    "another Campaign": (_edit(lambda lines: _header(lines, campaign="https://mc.adobe.io/a")), "CAMPAIGN_URL names"),
    "another mapping": (lambda one: one.table["fields"].pop("jobtitle"), "another mapping of contact"),
    "another table": (lambda one: one.table.update(table="new_order", resource="cusOrder", key="cusOrderId",
                      fields={"new_name": "cusName"}), "is a plan for contact, which"),
    "a header that was changed": (_edit(lambda lines: _header(lines, made_at="2026-01-01T00:00:00Z")), "was changed"),
    "a line less": (_edit(lambda lines: [*lines[:5], *lines[6:]]), "was changed, or is not complete"),
    "a line twice": (_edit(lambda lines: [*lines[:5], lines[4], *lines[5:]]), "was changed"),
    "another operation": (_edit(lambda lines: [line.replace("insert", "delete") for line in lines]), "was changed"),
    "no end": (_edit(lambda lines: lines[:-1]), "is not complete"),
    "half a line": (_edit(lambda lines: [*lines[:5], lines[5][:40]]), "is not complete"),
    "more behind its end": (_edit(lambda lines: [*lines, *lines[-1:]]), "was changed"),
    "an empty file": (_edit(lambda lines: []), "is not a plan file"),
    "a newer version": (_edit(lambda lines: _header(lines, sync_assets_plan=2)), "is not a plan file of this version"),
    "another file": (lambda one: (one.home / "approved.plan").write_bytes(b"\x00\xff" * 100), "is not a plan file"),
    "no file": (lambda one: (one.home / "approved.plan").unlink(), "cannot be read: No such file"),
}  # fmt: skip


def test_nothing_is_sent_if_ledger_systems_or_mapping_are_others_or_the_file_is_damaged(program: Program) -> None:
    table, file = dict(program.table), approved(program)
    whole, before = file.read_bytes(), program.sandbox.admin.engine_calls()
    for case, (change, says) in REFUSED.items():
        program.table = {**table, "fields": dict(table["fields"])}
        file.write_bytes(whole)
        change(program)
        status, _, errors = program.run("sync", "--plan", str(file))
        assert (status, says in errors) == (1, True), (case, errors)
        assert case == "no file" or "`sync-assets plan --out FILE`" in errors
        assert program.sandbox.admin.engine_calls() == before, case
    program.table = table
    assert (
        "exists, and may have been approved" in program.run("plan", "--out", str(program.env["SYNC_ASSETS_CONFIG"]))[2]
    )
    file.write_bytes(whole)
    assert "No file can be written in" in program.run("plan", "--out", "missing/approved.plan")[2]
    assert "leave out --dry-run" in program.run("sync", "--plan", str(file), "--table", "contact")[2]
    assert sent(program, file)[0] == 0


def test_children_follow_their_parents_and_deletes_and_other_links_are_as_planned_or_wait(chain: Chain) -> None:
    program, admin = chain.program, chain.admin
    first, second, third = chain.make("Ada"), chain.make("Bob"), chain.make("Cy")
    file = approved(program)
    admin.change("contact", [first[0]], firstname="Changed")
    status, plan, calls = sent(program, file)
    assert (status, plan, calls) == (1, left(9, 1), {"insert": 6}), "the children of the changed contact wait for it"
    chain.assert_parents_first()
    chain.assert_no_hidden_child()
    assert sent(program, approved(program)) == (0, left(3), {"insert": 3})
    admin.delete("contact", [second[0]])
    admin.change("new_order", [third[1]], new_name="Renamed")
    file = approved(program)
    admin.change("new_order", [third[1]], new_contactid=first[0])
    status, plan, calls = sent(program, file)
    assert (status, plan["changed"], calls.get("update")) == (1, 1, None), "another link is another record"
    assert second[0] not in chain.held()["profile"]
    assert sent(program, approved(program))[0] == 0


@pytest.mark.usefixtures("short_looks")
def test_loads_by_file_take_planned_records_only_with_their_links_and_opt_outs(chain: Chain) -> None:
    program, made = by_file(switch_on(chain.program, "bidirectional"), above=5), [chain.make() for _ in range(12)]
    chain.admin.change("contact", [made[1][0]], donotemail=True)
    file = approved(program)
    chain.admin.change("contact", [made[0][0]], firstname="Changed")
    chain.make("New")
    done = _sync(program, file)
    assert (done.status, done.document["plan"]) == (1, left(36, 1, 1))
    assert [inserted(program, workflow) for workflow in WORKFLOWS.values()] == [[11], [11], [11]]
    profiles = chain.held()["profile"]
    assert made[0][0] not in profiles
    assert profiles[made[1][0]]["blackListEmail"] is True
    assert not any(chain.admin.engine_calls()[kind] for kind in ("insert", "update", "delete"))


At = Literal["records are claimed", "one file is stored", "all files are stored"]


def _while_it_writes(program: Program, file: Path | None, call: int, does: Callable[[], Any]) -> Synced:
    """Sync, and do something before this file is stored, which is complete on the SFTP."""
    calls, stored = count(1), Loads.add_file

    def add_file(loads: Loads, load: Load, written: LoadFile) -> None:
        if next(calls) == call:
            does()
        stored(loads, load, written)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_files, "BATCH", 10)
        patch.setattr(Loads, "add_file", add_file)
        return _sync(program, file)


def _sync(program: Program, file: Path | None) -> Synced:
    """Run a sync in this process, where waits for a workflow are short."""
    return program.sync(program.runtime(), plan=file)


def _stopped(program: Program, file: Path | None, at: At) -> None:
    """Begin a load of several files, and stop before its workflow is started."""
    if at == "all files are stored":
        program.sandbox.admin.fault("campaign", "status", status=400, path="workflow/execution")
        assert _sync(program, file).status == 2
        program.sandbox.admin.clear_faults()
        return
    call = 1 if at == "records are claimed" else 2
    with pytest.raises(KeyboardInterrupt):
        _while_it_writes(program, file, call, Mock(side_effect=KeyboardInterrupt))


def _loads(program: Program) -> list[tuple[str, int]]:
    return [(load["state"], load["records"]) for load in loads(program)]


@pytest.mark.usefixtures("short_looks")
@by_default(
    "at by_plan",
    product(get_args(At), (True, False)),
    *((at, True) for at in get_args(At)),
    ("all files are stored", False),
)
def test_records_that_leave_a_load_before_its_workflow_is_started_are_in_no_file(
    program: Program, at: At, by_plan: bool
) -> None:
    program.table |= {"filters": {"rules": [{"field": "jobtitle", "is": "ne", "value": "Gone"}]}}
    admin = by_file(program, file_mb=0.001).sandbox.admin
    file = approved(program) if by_plan else None
    held, deleted, filtered, changed, *others = sorted(c["contactid"] for c in admin.dump_d365() if c["jobtitle"])
    _stopped(program, file, at)
    assert program.run("hold", "add", held)[0] == 0
    admin.delete("contact", [deleted])
    admin.change("contact", [filtered], jobtitle="Gone")
    admin.change("contact", [changed], jobtitle="Changed")
    done, by_load = _sync(program, file), len(others) + (not by_plan)
    assert (done.status, inserted(program), _loads(program)) == (1 if by_plan else 2, [by_load], [("done", by_load)])
    assert done.document.get("plan") == (left(len(others) + 4, changed=1, gone=2) if by_plan else None)
    assert (program.sync().status, program.profiles().keys()) == (2, {*others, changed})
    assert program.profiles()[changed]["cusJobTitle"] == "Changed"
    assert program.run("hold", "release", held)[0] == 0
    assert (program.sync().status, program.profiles().keys()) == (0, {*others, changed, held})
    assert (inserted(program), on_sftp(program)) == ([by_load], [])


ALL_LEAVE: list[tuple[str, At, bool, list[int]]] = [
    ("deleted", "records are claimed", True, []),
    ("changed", "one file is stored", True, [10]),
    ("changed", "all files are stored", True, [50]),
    ("deleted", "all files are stored", False, [50]),
]
BOTH_WAYS = [(way, *case) for _, *case in ALL_LEAVE for way in ("changed", "deleted")]


@pytest.mark.usefixtures("short_looks")
@by_default("way at by_plan approved_rows", BOTH_WAYS, *ALL_LEAVE)
def test_a_load_ends_that_all_records_leave_or_change(
    program: Program, way: str, at: At, by_plan: bool, approved_rows: list[int]
) -> None:
    admin = by_file(program, file_mb=0.001).sandbox.admin
    file, ids = approved(program) if by_plan else None, [contact["contactid"] for contact in admin.dump_d365()]
    _stopped(program, file, at)
    if way == "deleted":
        admin.delete("contact", ids)
    else:
        admin.change("contact", ids, jobtitle="Changed")
    done, by_load = _sync(program, file), [] if way == "deleted" else approved_rows
    assert (inserted(program), on_sftp(program)) == (by_load, []), "values as approved, or none"
    if by_plan:
        some = {"gone": 50} if way == "deleted" else {"changed": 50}
        assert (done.status, done.document["plan"]) == (int("changed" in some), left(50, **some))
    assert [state for state, _ in _loads(program)] == ["done"]
    if way == "changed":
        assert _loads(program) == [("done", sum(by_load))]
    assert program.sync().status == 0
    program.assert_in_step()


@pytest.mark.usefixtures("short_looks")
def test_a_hold_and_a_maintenance_that_begin_while_files_are_written_end_the_turn_only(program: Program) -> None:
    admin = by_file(program, above=1, file_mb=0.001).sandbox.admin
    file, held = approved(program), min(contact["contactid"] for contact in admin.dump_d365())
    done = _while_it_writes(program, file, 2, lambda: program.json("maintenance", "on", "contact"))
    assert (done.status, _loads(program)[0][0], inserted(program)) == (2, "writing", [])
    assert program.run("maintenance", "off", "contact")[0] == 0
    adding = list[Any]()

    def hold() -> None:
        adding.append(program.start("hold", "add", held))  # it waits until the sync has seen it
        until(lambda: loads(program)[0]["files"] == [])

    status = _while_it_writes(program, file, 2, hold).status
    assert adding[0].communicate(timeout=60)[1] == ""
    assert (status, _sync(program, file).status, inserted(program), _loads(program)) == (2, 2, [49], [("done", 49)])
    assert held not in program.profiles()


@pytest.mark.usefixtures("short_looks")
@by_default("by_plan", (True, False), True)
def test_children_whose_parent_is_deleted_leave_their_load_and_it_waits_for_none_of_them(
    chain: Chain, by_plan: bool
) -> None:
    program, made = by_file(chain.program, above=5), [chain.make() for _ in range(12)]
    file, orders = approved(program) if by_plan else None, WORKFLOWS["new_order"]
    chain.admin.fault("campaign", "status", status=400, path=f"workflow/execution/{orders}")
    assert _sync(program, file).status == 2
    chain.admin.clear_faults()
    assert _loads(program) == [("done", 12), ("ready", 12)]
    deleted, held = made[0][0], made[1][0]
    chain.admin.delete("contact", [deleted])
    assert program.run("hold", "add", held)[0] == 0
    done = _sync(program, file)
    assert (done.status, done.document.get("plan")) == ((1, left(36, changed=1)) if by_plan else (2, None))
    assert [inserted(program, workflow) for workflow in WORKFLOWS.values()] == [[12], [10], [10]]
    assert program.sync().ending == "Left: 3 held. Go on with `sync-assets hold list`."
    assert deleted not in chain.held()["profile"], "its delete was not in the plan"
    assert {one["id"] for one in chain.orphans()} == {*made[0][1:]}
    assert program.run("hold", "release", held)[0] == 0
    assert program.sync().status == 0
    assert [len(records) for records in chain.held().values()] == [11, 11, 11]
    chain.assert_no_hidden_child()


@pytest.mark.usefixtures("short_looks")
def test_the_plan_names_the_loads_that_began_before_and_go_on(program: Program) -> None:
    stop_load(program, "before its import")
    file = program.home / "approved.plan"
    errors = program.run("plan", "--out", str(file))[2]
    assert "no others. The load by file of contact has begun, and goes on." in errors


def test_a_killed_sync_goes_on_with_the_same_file(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    file, stored = approved(program), list[int]()

    async def killed(claims: ClaimedRecords) -> None:
        stored.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ClaimedRecords, "flush", killed)
        with pytest.raises(KeyboardInterrupt):
            program.sync(program.runtime(), plan=file)
    assert stored
    made = program.sandbox.admin.engine_calls()["insert"]
    status, plan, _ = sent(program, file)
    assert (status, plan, made > 0) == (0, left(50), True)
    program.assert_in_step()


def test_opt_outs_and_held_contacts_are_not_written(program: Program) -> None:
    switch_on(program, "bidirectional")
    assert program.sync().status == 0
    admin = program.sandbox.admin
    opted_out, held, other = sorted(program.profiles())[:3]
    admin.change("contact", [opted_out], donotemail=True)
    admin.change("contact", [held, other], lastname="Changed")
    file = approved(program)
    assert program.run("hold", "add", held)[0] == 0
    status, _, errors = program.run("sync", "--plan", str(file))
    assert (status, "1 held" in errors) == (2, True), errors
    assert "1 opt-out is due. A plan names none: `sync-assets sync` writes opt-outs." in errors
    profiles = program.profiles()
    assert [profiles[id_]["lastName"] == "Changed" for id_ in (held, other)] == [False, True]
    assert profiles[opted_out]["blackListEmail"] is False
    program.sync()
    assert program.profiles()[opted_out]["blackListEmail"] is True


def test_records_that_are_gone_are_counted_and_planned_deletes_are_not(program: Program) -> None:
    program.table["apply_deletes"] = True
    admin, file = program.sandbox.admin, approved(program)
    *deleted, kept = sorted(contact["contactid"] for contact in admin.dump_d365())[:3]
    admin.delete("contact", deleted)
    says = "Of the plan, 2 records are not in the ledger: not captured yet, deleted in Dynamics 365, or out of scope."
    status, _, errors = program.run("sync", "--plan", str(file))
    assert (status, says in errors) == (0, True), errors
    assert sent(program, file) == (0, left(50, gone=2), {}), "none else, and the same again"
    admin.delete("contact", [kept])
    file = approved(program)
    assert sent(program, file)[:2] == (0, left(1))
    assert kept not in program.profiles()
    assert sent(program, file) == (0, left(1), {}), "what a plan deleted is not gone without it"


def test_the_dead_mans_switch_learns_the_status_of_the_plan(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    file, pings = approved(program), Mock()
    monkeypatch.setattr(DeadManSwitch, "ping", pings)
    [new] = program.sandbox.admin.create("contact", {"lastname": "New"})
    assert program.sync(program.runtime(), plan=file).status == 1
    assert not pings.called
    assert new not in program.profiles()
    assert program.sync(program.runtime(), plan=approved(program)).status == 0
    assert pings.call_count == 1
    assert program.sync().status == 0
    assert pings.call_count == 2
