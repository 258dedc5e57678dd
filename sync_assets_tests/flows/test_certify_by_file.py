"""`certify` tries the way by file with synthetic records, and leaves none behind."""

from typing import Any

import pytest

from sync_assets.bulk_load import file_premises as premises
from sync_assets.bulk_load.files import files_of
from sync_assets.config.bulk_load import BulkLoad
from sync_assets.sftp.client import connect
from sync_assets_tests.flows.certifying import Rows, certified, chained, left, rows
from sync_assets_tests.support import loads
from sync_assets_tests.support.premises import DOCUMENTED, V8, Position, on_positions
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.waiting import until

STORED = "stored as written"


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(premises, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(premises, "QUEUED_SECONDS", 0.5)
    monkeypatch.setattr(premises, "RUN_SECONDS", 3.0)


def by_file(program: Program) -> dict[str, Any]:
    return certified(loads.by_file(program))


def files(program: Program) -> list[str]:
    runtime = program.runtime()
    with connect(runtime.settings.sftp()) as sftp:
        return [name for table in loads.WORKFLOWS for name in files_of(sftp, BulkLoad(), table)]


def found(document: dict[str, Any], resource: str = "profile") -> dict[str, tuple[str, str]]:
    report: Rows = rows(document)
    names = {value for name, value in vars(premises).items() if name.isupper() and isinstance(value, str)}
    return {
        premise: (row["outcome"], row["found"])
        for (about, premise), row in report.items()
        if about == resource and premise in names
    }


@on_positions(DOCUMENTED, V8)
def test_the_way_by_file_is_tried_and_its_records_are_removed(program: Program, position: Position) -> None:
    chained(program, position).table["fields"] |= {"birthdate": "birthDate", "donotfax": "cusVip"}
    document = by_file(program)
    assert (left(program), files(program), document["left"]) == ({}, [], [])
    profile, order = found(document), found(document, "cusOrder")
    assert profile[premises.FILE] == ("workable", "10 of 10 records imported; the workflow: finished")
    assert profile[premises.VALUES] == ("workable", STORED)
    assert profile[premises.HIDDEN] == ("workable", "none hidden")
    assert order[premises.FILE] == ("workable", "1 of 1 record imported; the workflow: finished")
    assert order[premises.VALUES] == ("workable", STORED)


@pytest.mark.parametrize(
    ("trouble", "result"),
    [
        ("fails", "5 of 10 records imported; the workflow: error"),
        ("pauses", "5 of 10 records imported; the workflow: paused"),
        ("never_starts", "0 of 10 records imported; the workflow: not ended after 3 s"),
    ],
)
def test_a_workflow_in_trouble_is_not_workable_and_nothing_is_left(program: Program, trouble: str, result: str) -> None:
    program.sandbox.admin.configure_import("WKF20", trouble=trouble)
    document = by_file(program)
    assert found(document)[premises.FILE] == ("not workable", result)
    assert (left(program), files(program), document["workable"]) == ({}, [], False)


@pytest.mark.parametrize(
    ("workflow", "result"),
    [
        ({}, ("workable", "location.city is stored as written; the workflow: finished")),
        ({"trouble": "fails"}, ("not workable", "location.city is not stored as written; the workflow: error")),
        (
            {"mode": "insert or update"},
            (
                "not workable",
                "location.city is stored as written; the workflow: finished; it inserts records that do not exist",
            ),
        ),
    ],
)
def test_the_workflow_for_updates_changes_an_address_that_rest_refuses(
    program: Program, workflow: dict[str, Any], result: tuple[str, str]
) -> None:
    program.sandbox.admin.settings("campaign", dialect="v8")
    program.sandbox.admin.configure_import("WKF30", at=0, **workflow)
    program.bulk_load = {"updates": ["location"], "update_workflows": {"contact": "WKF30"}}
    document = certified(program)
    assert found(document) == {premises.UPDATE: result}
    assert document["workable"] == (not workflow)
    assert (left(program), files(program)) == ({}, [])


def test_a_workflow_at_work_and_files_of_a_load_are_left_alone(program: Program) -> None:
    runtime = program.runtime()
    with connect(runtime.settings.sftp()) as sftp:
        sftp.make_folders(BulkLoad().directory)
        sftp.put(BulkLoad().directory, "contact_20261201T120000Z_1.tsv", b"externalId\n")
    expected = ("not tried", "d365_loads/imports holds files of a load")
    assert found(by_file(program)) == {premises.FILE: expected}
    assert files(program) == ["contact_20261201T120000Z_1.tsv"]
    program.sandbox.admin.configure_import("WKF20", trouble="hangs")
    program.sandbox.admin.post("/campaign/imports/run", {"id": "WKF20"})
    assert found(by_file(program)) == {premises.FILE: ("not tried", "the workflow WKF20 is at work, or paused")}


def test_records_that_a_killed_run_imported_are_removed_by_the_next(program: Program) -> None:
    program.bulk_load = {"workflows": {"contact": "WKF20"}}
    program.sandbox.admin.configure_import("WKF20", trouble="hangs", at=1)
    process = program.start("certify", "--yes")
    until(lambda: sum(left(program).values()) > 10, seconds=60)
    process.kill()
    process.communicate()
    program.sandbox.admin.configure_import("WKF20", trouble=None)
    program.run("certify", "--yes")
    assert left(program) == {}
