"""Loads by file that meet a trouble: what `sync` says and returns, what goes on, and that nothing is lost or twice."""

import re
import time
from typing import Any, NamedTuple

import pytest

from sync_assets.bulk_load import files as load_files
from sync_assets.bulk_load import load_run
from sync_assets.defs.tables import table_run
from sync_assets.words import counted
from sync_assets_tests.support.loads import (
    MOMENT,
    assert_each_inserted_once,
    by_file,
    empty_columns,
    inserted,
    let_load_go_on,
    loads,
    on_sftp,
    stop_load,
)
from sync_assets_tests.support.nightly import by_default
from sync_assets_tests.support.program import Program

SLOW = {"rows_per_second": 200}
"""Slow enough to be seen at work."""


pytestmark = pytest.mark.usefixtures("short_looks")


class Trouble(NamedTuple):
    """A row of the table of workflow troubles.

    settings: of the import workflow. status: of `sync`. says: in its notes. state: of the load after it, with how it
    ended. imported: records.
    """

    settings: dict[str, Any]
    status: int
    says: str
    state: str
    ended_as: str | None
    imported: int


ENDS = {
    "fails": Trouble({"trouble": "fails", **SLOW}, 0, "25 of 50 records in files are left", "done", "error", 25),
    "fails at once": Trouble({"trouble": "fails"}, 0, "25 of 50 records in files are left", "done", "error", 25),
    "ends early": Trouble(
        {"trouble": "ends_early", **SLOW}, 0, "25 of 50 records in files are left", "done", "finished", 25
    ),
    "rejects lines": Trouble(
        {"reject_every": 3, **SLOW}, 0, "16 of 50 records in files are left", "done", "finished", 34
    ),
    "runs again late": Trouble(
        {"repeat_after_seconds": 0.2, **SLOW}, 0, "0 of 50 records in files are left", "done", "finished", 50
    ),
    "is not seen": Trouble({"trouble": "unseen"}, 0, "0 of 50 records in files are left", "done", "unseen", 50),
}
STAYS = {
    "pauses": Trouble({"trouble": "pauses", **SLOW}, 2, "is paused; go on with it in", "running", None, 25),
    "hangs": Trouble({"trouble": "hangs", **SLOW}, 2, "has not ended since", "running", None, 25),
    "never starts": Trouble({"trouble": "never_starts"}, 2, "was not seen at work since", "started", None, 0),
    "rejects its last line unseen": Trouble(
        {"trouble": "unseen", "reject_every": 50}, 2, "was not seen at work since", "started", None, 49
    ),
}


def told(program: Program) -> tuple[int, str]:
    done = program.sync()
    return done.status, " ".join([*done.stopped, *map(str, done.problems), done.ending])


@pytest.mark.parametrize("trouble", ENDS.values(), ids=ENDS)
def test_what_a_workflow_ended_without_importing_goes_by_rest(program: Program, trouble: Trouble) -> None:
    program.sandbox.admin.configure_import("WKF20", **trouble.settings)
    status, text = told(by_file(program))
    assert status == trouble.status, text
    assert trouble.says in text
    [load] = loads(program)
    assert (load["state"], load["ended_as"], load["missing"]) == (
        trouble.state,
        trouble.ended_as,
        50 - trouble.imported,
    )
    assert on_sftp(program) == []
    if trouble.settings.get("repeat_after_seconds"):
        while len(inserted(program)) < 2:
            time.sleep(0.05)
    assert sum(inserted(program)) == trouble.imported
    assert_each_inserted_once(program)
    assert told(program) == (0, "")


@by_default("name", STAYS, "hangs", "rejects its last line unseen")
def test_a_workflow_that_has_not_ended_keeps_its_records_until_a_person_gives_the_load_up(
    program: Program, name: str
) -> None:
    trouble = STAYS[name]
    program.sandbox.admin.configure_import("WKF20", **trouble.settings)
    by_file(program, wait_hours=MOMENT)
    program.sync()
    time.sleep(MOMENT * 3600)
    for _ in range(2):
        status, text = told(program)
        assert status == trouble.status
        assert trouble.says in text
        assert "`sync-assets loads abandon contact`" in text
        [load] = loads(program)
        assert (load["state"], load["ended_as"]) == (trouble.state, None)
        assert len(on_sftp(program)) == 1
    assert program.sandbox.admin.engine_calls()["insert"] == 0
    status, output, errors = program.run("loads", "abandon", "contact")
    assert status == 0, errors
    assert f"{50 - trouble.imported} not imported" in output
    left = counted(50 - trouble.imported, "record")
    assert f"Campaign does not hold {left} of its files. They go by REST when its import workflow cannot" in output
    assert on_sftp(program) == []
    program.sync()
    program.pass_horizon()  # a stopped workflow's last rows may come late
    assert told(program)[0] == 0
    assert inserted(program) == ([trouble.imported] if trouble.imported else [])
    assert_each_inserted_once(program)


@pytest.mark.parametrize("trouble", ["fails", pytest.param("ends early", marks=pytest.mark.slow), "rejects lines"])
def test_on_failure_wait_keeps_what_was_not_imported_until_a_person_gives_it_free(
    program: Program, trouble: str
) -> None:
    program.sandbox.admin.configure_import("WKF20", **ENDS[trouble].settings)
    by_file(program, on_failure="wait")
    for _ in range(2):
        status, text = told(program)
        assert status == 2
        assert f"{50 - ENDS[trouble].imported} records were not imported" in text
        assert "`sync-assets loads abandon contact` lets them go by REST" in text
    assert program.sandbox.admin.engine_calls()["insert"] == 0
    assert program.run("loads", "abandon", "contact")[0] == 0
    program.sync()
    program.pass_horizon()
    assert told(program)[0] == 0
    assert_each_inserted_once(program)


def test_a_paused_workflow_that_a_person_continues_ends_the_load(program: Program) -> None:
    admin = program.sandbox.admin
    admin.configure_import("WKF20", trouble="pauses", **SLOW)
    assert told(by_file(program))[0] == 2
    admin.post("/campaign/workflows", {"id": "WKF20", "status": "started"})
    assert told(program)[0] == 0
    assert inserted(program) == [50]
    assert_each_inserted_once(program)


def test_a_sync_ends_while_a_workflow_is_at_work_for_long_and_a_later_one_goes_on(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_run, "PATIENCE_SECONDS", 0.0)
    program.sandbox.admin.configure_import("WKF20", rows_per_second=25)
    status, text = told(by_file(program))
    assert status == 2
    assert "its import workflow WKF20 is at work; a later run goes on" in text
    assert "50 loading" in text
    while told(program)[0]:
        time.sleep(0.1)
    assert_each_inserted_once(program)


def test_a_workflow_that_is_not_seen_at_work_costs_a_read_now_and_then(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_run, "LIST_SECONDS", 60.0)
    program.sandbox.admin.configure_import("WKF20", trouble="unseen", reject_every=50)
    by_file(program, wait_hours=MOMENT)
    for _ in range(4):
        assert told(program)[0] == 2
    assert program.sandbox.admin.engine_calls()["read"] == 2  # the search for existing records, and the last record


def test_a_model_that_changes_meanwhile_stops_the_table_until_it_fits_again(program: Program) -> None:
    admin = program.sandbox.admin
    admin.configure_import("WKF20", removes_attribute="cusJobTitle", **SLOW)
    status, text = told(by_file(program))
    assert (status, loads(program)[0]["ended_as"]) == (2, "error")
    assert "rejected" in text  # what goes by REST in the same run
    status, text = told(program)
    assert status == 1
    assert "profile has no attribute `cusJobTitle`" in text
    admin.settings("campaign", removed_attributes={})
    assert program.run("retry", "contact")[0] == 0
    assert told(program)[0] == 0
    assert_each_inserted_once(program)


def test_a_truncated_read_leaves_a_foreign_record_at_most(program: Program) -> None:
    program.sandbox.admin.configure_import("WKF20", read_share=0.5, **SLOW)
    assert told(by_file(program))[0] == 0
    ids = {row["contactid"] for row in program.sandbox.admin.dump_d365()}
    [cut] = program.profiles().keys() - ids or [None]
    if cut is not None:  # no request of ours names it
        assert re.match(cut, next(id_ for id_ in ids if id_.startswith(cut)))
        pkeys = [one["PKey"] for one in program.profiles().values() if one["externalId"] == cut]
        program.sandbox.admin.post("/campaign/delete", {"resource": "profile", "pkeys": pkeys})
    program.assert_in_step()


@pytest.mark.parametrize("mistake", ["a wrong id", "a right that is missing"])
def test_a_workflow_that_cannot_be_started_is_started_once_that_is_corrected(program: Program, mistake: str) -> None:
    by_file(program)
    if mistake == "a wrong id":
        program.bulk_load["workflows"] = {"contact": "WKF99"}
    else:
        program.sandbox.admin.fault("campaign", "status", status=403, method="POST", path="/commands")
    for _ in range(2):
        assert program.sync().status == 2
        assert loads(program)[-1]["state"] == "ready"
    by_file(program).sandbox.admin.clear_faults()
    assert program.sync().status == 0
    assert inserted(program) == [50]
    assert_each_inserted_once(program)


def test_a_load_whose_workflow_was_deleted_can_be_given_up(program: Program) -> None:
    stop_load(program, "before its import")
    program.sandbox.admin.fault("campaign", "status", status=404, path="workflow/execution/WKF20")
    assert "Campaign has no workflow WKF20. If it was deleted: `sync-assets loads" in program.sync().stopped[-1]
    assert program.run("loads", "abandon", "contact")[0] == 0
    program.pass_horizon()
    assert program.sync().status == 0
    assert_each_inserted_once(program)


@pytest.mark.parametrize(
    "trouble", ["the sign-in is refused", "a turn ends between two files", "others came meanwhile"]
)
def test_first_inserts_beyond_the_limit_never_go_by_rest(
    program: Program, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = program.sandbox.admin
    if trouble == "the sign-in is refused":
        program.more["CAMPAIGN_SFTP_USER"] = "user-of-another-server"
        assert by_file(program).sync().status == 2
        del program.more["CAMPAIGN_SFTP_USER"]
    elif trouble == "a turn ends between two files":
        monkeypatch.setattr(load_files, "BATCH", 10)
        monkeypatch.setattr(table_run, "TURN_SECONDS", 0.3)
        admin.fault("sftp", "slow_write", delay_ms=400)
        by_file(program, above=20, file_mb=0.001)
    else:
        stop_load(program, "before its import")
        admin.load(contacts=15)
        let_load_go_on(program)
    assert program.sync().status == 0
    assert_each_inserted_once(program)
    assert admin.engine_calls()["insert"] == 0


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_what_a_workflow_imports_otherwise_than_written_goes_by_rest_or_waits(program: Program, seen: bool) -> None:
    stop_load(program, "before its import")
    program.bulk_load["on_failure"] = "wait"
    empty_columns(program, "location.city", "birthDate")
    wrong = {row["contactid"] for row in program.sandbox.admin.dump_d365() if row["address1_city"] or row["birthdate"]}
    let_load_go_on(program)
    if not seen:
        program.sandbox.admin.configure_import("WKF20", trouble="unseen")
    done = program.sync()
    assert done.status == 2
    assert f"{len(wrong)} records were not imported as written" in done.stopped[-1]
    assert program.sandbox.admin.engine_calls()["update"] == 0
    program.bulk_load["on_failure"] = "rest"
    assert program.sync().status == 0
    assert_each_inserted_once(program)
    assert program.sandbox.admin.engine_calls()["update"] == len(wrong)
    held = program.profiles()
    for row in program.sandbox.admin.dump_d365():  # also what is sent once
        assert held[row["contactid"]]["birthDate"] == (row["birthdate"] or "")
