"""Attributes that REST refuses in updates, by a file a day: whose, what becomes of them, and after trouble."""

import asyncio
from typing import Any

import pytest

from sync_assets.bulk_load.update_run import UpdateRun
from sync_assets.ledger.model import Load
from sync_assets_tests.support.loads import on_sftp
from sync_assets_tests.support.program import Program

WORKFLOW = "WKF30"


pytestmark = pytest.mark.usefixtures("short_looks")


def moved(program: Program, number: int, city: str = "Elsewhere") -> list[str]:
    """Load all contacts, let addresses go by file, and change some. Return the ids of these contacts."""
    program.sandbox.admin.settings("campaign", dialect="v8")
    assert program.sync().status == 0
    program.bulk_load = {"updates": ["location"], "update_workflows": {"contact": WORKFLOW}}
    return move(program, number, city)


def move(program: Program, number: int, city: str) -> list[str]:
    ids = sorted(program.profiles())[:number]
    program.sandbox.admin.change("contact", ids, address1_city=city)
    return ids


def cities(program: Program, ids: list[str]) -> set[str]:
    return {program.profiles()[id_]["location"]["city"] for id_ in ids}


def but_for(program: Program) -> dict[str, int]:
    return program.json("status")[1]["tables"]["contact"]["in_step_but_for"]


def loads(program: Program) -> list[tuple[str, str, int, int | None]]:
    found: list[dict[str, Any]] = program.json("loads")[1]["loads"]
    return [(load["kind"], load["state"], load["records"], load["missing"]) for load in found]


def tomorrow(program: Program) -> None:
    """Let the files of today be those of yesterday."""
    runtime = program.runtime()
    past = "UPDATE sync_load SET began_at = began_at - 86400000000"
    runtime.ledger.database.write(lambda connection: connection.exec_driver_sql(past) and None)
    runtime.ledger.close()


def test_addresses_that_rest_refuses_go_by_one_file_and_are_compared(program: Program) -> None:
    program.sandbox.admin.create("contact", *({"lastname": f"More {n}"} for n in range(20)))
    ids = moved(program, 60)
    others = [one for id_, one in program.profiles().items() if id_ not in ids]
    program.sandbox.admin.clear_journal()
    done = program.sync()
    assert done.status == 0, done.document
    updates = [one["status"] for one in program.sandbox.admin.journal("campaign") if one["method"] == "PATCH"]
    assert set(updates) <= {200, 429}  # an update with `location` would be refused
    assert cities(program, ids) == {"Elsewhere"}
    assert [one for id_, one in program.profiles().items() if id_ not in ids] == others != []
    assert but_for(program) == {"records": 0, "not_known": 0}
    assert program.json("explain", ids[0])[0] == 0
    assert loads(program) == [("update", "done", 60, 0)]
    made = program.sandbox.admin.engine_calls()
    assert program.sync().status == 0
    assert program.sandbox.admin.engine_calls() == made


@pytest.mark.parametrize("trouble", ["fails", pytest.param("ends_early", marks=pytest.mark.slow), "unseen"])
def test_what_a_workflow_did_not_update_goes_by_the_next_days_file(program: Program, trouble: str) -> None:
    program.sandbox.admin.configure_import(WORKFLOW, trouble=trouble)
    ids = moved(program, 10)
    assert program.sync().status == 0
    left = 0 if trouble == "unseen" else 5
    assert (loads(program), but_for(program)) == (
        [("update", "done", 10, left)],
        {"records": left, "not_known": 0},
    )
    program.sandbox.admin.configure_import(WORKFLOW, trouble=None)
    assert program.sync().status == 0
    assert but_for(program)["records"] == left  # a file a day
    tomorrow(program)
    assert program.sync().status == 0
    assert cities(program, ids) == {"Elsewhere"}
    assert but_for(program) == {"records": 0, "not_known": 0}


def test_a_paused_workflow_keeps_sync_from_ending_well_until_a_person_gives_it_up(program: Program) -> None:
    program.sandbox.admin.configure_import(WORKFLOW, trouble="pauses")
    ids = moved(program, 10)
    assert program.sync().status == 2
    assert but_for(program) == {"records": 0, "not_known": 10}
    assert "is paused" in program.json("status")[1]["tables"]["contact"]["load"]["problem"]
    move(program, 10, "Further")
    assert program.sync().status == 2
    assert program.run("loads", "abandon", "contact")[0] == 0
    assert but_for(program) == {"records": 10, "not_known": 0}
    program.sandbox.admin.configure_import(WORKFLOW, trouble=None)
    tomorrow(program)
    assert program.sync().status == 0
    assert cities(program, ids) == {"Further"}


def test_an_attribute_that_goes_by_file_no_more_is_in_no_file_whose_workflow_was_not_started(program: Program) -> None:
    admin = program.sandbox.admin
    admin.fault("campaign", "status", status=400, path="workflow/execution")
    ids = moved(program, 10)
    before = cities(program, ids)
    assert program.sync().status == 2
    assert [state for _, state, *_ in loads(program)] == ["ready"]
    admin.clear_faults()
    program.bulk_load = {}
    assert program.sync().status == 0
    assert (loads(program), on_sftp(program)) == ([("update", "done", 10, 0)], [])
    assert cities(program, ids) == before


def test_an_address_that_moves_back_while_its_file_is_imported_is_compared(program: Program) -> None:
    admin = program.sandbox.admin
    admin.configure_import(WORKFLOW, trouble="pauses", at=1)
    [id_] = moved(program, 1)
    former = cities(program, [id_])
    assert program.sync().status == 2  # Campaign has updated it, and the run has not ended
    admin.change("contact", [id_], address1_city=former.pop())
    assert program.sync().status == 2
    assert program.run("loads", "abandon", "contact")[0] == 0
    assert but_for(program) == {"records": 1, "not_known": 0}


def test_a_person_under_a_hold_is_in_no_file(program: Program) -> None:
    ids = moved(program, 3)
    assert program.run("hold", "add", ids[0])[0] == 0
    assert program.sync().status == 2  # one is held
    assert cities(program, ids[1:]) == {"Elsewhere"}
    assert cities(program, ids[:1]) != {"Elsewhere"}
    assert loads(program) == [("update", "done", 2, 0)]


@pytest.mark.parametrize("number", [1, 3], ids=["one of three", "all three"])
def test_a_hold_between_the_file_and_its_workflow_takes_the_person_out_of_it(
    program: Program, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ids = moved(program, 3)
    written = UpdateRun._write  # pyright: ignore[reportPrivateUsage]
    files = 0

    async def held(run: UpdateRun, load: Load, until: float) -> Load:
        nonlocal files
        files += 1
        ready = await written(run, load, until)
        if files == 1:
            for id_ in ids[:number]:
                await asyncio.to_thread(run.runtime.ledger.holds.hold, id_)
        return ready

    monkeypatch.setattr(UpdateRun, "_write", held)
    assert program.sync().status == 2  # some are held
    assert (files, loads(program)) == (2, [("update", "done", 3 - number, 0)])
    assert "Elsewhere" not in cities(program, ids[:number])


def test_an_empty_address_empties_it_and_one_that_no_line_can_hold_is_named(program: Program) -> None:
    program.sandbox.admin.settings("campaign", dialect="v8")
    emptied, tabbed, *_ = moved(program, 2)
    program.sandbox.admin.change("contact", [emptied], address1_city=None)
    program.sandbox.admin.change("contact", [tabbed], address1_city="A\tB")
    done = program.sync()
    assert (done.status, cities(program, [emptied])) == (0, {""})
    assert but_for(program)["records"] + but_for(program)["not_known"] == 1
    assert any("cannot go by a file of updates" in note for note in done.stopped)


def test_many_records_are_compared_by_the_list_and_few_by_look_ups(program: Program) -> None:
    def lists() -> int:
        return sum("_line" in one["path"] for one in program.sandbox.admin.journal("campaign"))

    ids = moved(program, 5)
    before = lists()
    assert program.sync().document["engine_calls"]["read"] < len(ids)
    assert lists() > before
    tomorrow(program)
    move(program, 1, "Further")
    before = lists()
    assert (program.sync().status, lists()) == (0, before)
    assert cities(program, ids) == {"Elsewhere", "Further"}


def test_a_hold_while_the_workflow_is_at_work_says_that_the_file_may_still_write(program: Program) -> None:
    program.sandbox.admin.configure_import(WORKFLOW, trouble="pauses", at=0)
    [id_] = moved(program, 1)
    done = program.sync()
    assert (done.status, done.document["tables"]["contact"]["loading"]) == (2, 1)
    assert program.json("hold", "add", id_)[1]["loading"] == 1
    status, verified = program.json("hold", "verify", id_)
    assert (status, verified["ledger"]["loading"]) == (1, 1)
    assert program.run("loads", "abandon", "contact")[0] == 0
    assert program.json("hold", "verify", id_)[1]["ledger"]["loading"] == 0


@pytest.mark.parametrize("step", ["put", "started", "list"])
def test_a_run_that_is_killed_at_any_step_is_continued_and_starts_the_workflow_once(
    program: Program, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    where = {"put": "_put", "started": "_look", "list": "_look_up"}[step]
    whole = getattr(UpdateRun, where)

    def killed(*_: Any) -> Any:
        raise SystemExit

    ids = moved(program, 2)
    monkeypatch.setattr(UpdateRun, where, killed)
    with pytest.raises(SystemExit):
        program.sync()
    monkeypatch.setattr(UpdateRun, where, whole)
    assert program.sync().status == 0
    assert (cities(program, ids), loads(program)) == ({"Elsewhere"}, [("update", "done", 2, 0)])
    assert len(program.sandbox.admin.import_runs(WORKFLOW)) == 1
