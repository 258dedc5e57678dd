"""What people see of loads by file: `status`, the end of `sync`, the check, `plan`, `doctor`, the follower."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sync_assets.bulk_load import load_run
from sync_assets.checks import load_findings
from sync_assets.checks.health import table_findings
from sync_assets.checks.rules import Finding
from sync_assets.config.bulk_load import BulkLoad
from sync_assets_tests.flows.test_loads import by_file
from sync_assets_tests.support.program import Program


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_run, "FIRST_LOOK", 0.02)


@pytest.fixture
def paused(program: Program) -> Iterator[Program]:
    """A program whose import workflow pauses in the middle of the 50 records."""
    program.sandbox.admin.configure_import("WKF20", trouble="pauses")
    yield by_file(program)
    program.sandbox.admin.configure_import("WKF20", trouble=None)


def test_records_in_a_paused_load_are_loading_and_not_pending(paused: Program) -> None:
    done = paused.sync()
    assert done.status == 2
    assert "(50 loading)" in done.ending
    assert "`sync-assets loads abandon contact`" in done.ending
    for table in (done.document["tables"]["contact"], paused.json("status")[1]["tables"]["contact"]):
        assert (table["pending"], table["loading"], table["retried"]) == (0, 50, None)
        assert (table["load"]["state"] in ("started", "running"), table["load"]["workflow"]) == (True, "WKF20")
        assert "is paused" in table["load"]["problem"]
    text = paused.run("status")[1]
    assert "contact: 50 records are loading by file; workflow WKF20," in text


def test_a_load_that_ended_is_not_shown_any_more(program: Program) -> None:
    assert by_file(program).sync().status == 0
    table = program.json("status")[1]["tables"]["contact"]
    assert (table["pending"], table["loading"], table["load"]) == (0, 0, None)


def check_of(program: Program) -> Finding:
    """Return the finding of the check of `campaign/profile` on the last load."""
    runtime = program.runtime()
    config, ledger = runtime.config.table("contact"), runtime.ledger
    found = table_findings(ledger, config, "campaign", [], datetime.now(UTC), runtime.config.bulk_load)
    runtime.close()
    [finding] = [one for one in found if one.check == "bulk_load_verified"]
    assert [one.check for one in found if not one.passed] == [] if finding.passed else ["bulk_load_verified"]
    return finding


def test_the_check_of_a_load_passes_once_campaign_holds_its_records(program: Program) -> None:
    by_file(program)
    program.make_ledger()
    assert check_of(program).passed
    assert program.sync().status == 0
    finding = check_of(program)
    assert (finding.passed, finding.message) == (True, "Campaign holds 50 of 50 records in files.")
    assert finding.numbers["bytes"] > 0
    assert [finding.numbers[name] for name in ("records", "files", "imported", "missing")] == [50, 1, 50, 0]


def test_the_check_of_a_load_fails_while_it_waits_for_a_person(paused: Program) -> None:
    assert paused.sync().status == 2
    finding = check_of(paused)
    assert (finding.outcome, finding.numbers["imported"]) == ("fail", None)
    assert "is paused; go on with it in Campaign" in finding.message


def test_the_check_of_a_load_warns_while_it_is_under_way(paused: Program) -> None:
    paused.sandbox.admin.configure_import("WKF20", trouble="never_starts")
    runtime = paused.runtime()
    paused.make_ledger()
    runtime.ledger.loads.begin("contact", "WKF20")
    runtime.close()
    finding = check_of(paused)
    assert (finding.outcome, "writing since" in finding.message) == ("warn", True)


def test_doctor_looks_at_the_workflow_and_the_folder(program: Program) -> None:
    by_file(program, directory="d365_loads/elsewhere")
    findings = {one["title"]: one for one in program.json("doctor")[1]["checks"]}
    assert findings["first loads by file: workflow WKF20 of contact"]["outcome"] == "ok"
    assert "can be written" in findings["first loads by file: folder d365_loads/elsewhere"]["message"]
    program.bulk_load["workflows"] = {"contact": "WKF99"}
    findings = {one["title"]: one for one in program.json("doctor")[1]["checks"]}
    assert findings["first loads by file: workflow WKF99 of contact"]["outcome"] == "fail"


def test_doctor_names_tables_whose_files_a_workflow_may_confuse() -> None:
    found = load_findings._patterns(BulkLoad(workflows={"new_order": "WKF21", "new_order_x": "WKF22", "new_ord": "W"}))
    assert [one.message for one in found] == [
        "the pattern new_order_* would take the files of new_order_x as well. In the workflow of new_order it must be "
        "new_order_20*, which begins the time"
    ]
