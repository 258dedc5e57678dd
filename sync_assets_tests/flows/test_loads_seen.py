"""What people see of loads by file: `status`, the end of `sync`, the check, `plan`, `doctor`, the follower."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from sync_assets.checks import load_findings
from sync_assets.checks.health import table_findings
from sync_assets.checks.rules import Finding
from sync_assets.config.bulk_load import BulkLoad
from sync_assets_tests.support.chain import Chain
from sync_assets_tests.support.loads import WORKFLOWS, by_file
from sync_assets_tests.support.nightly import by_default
from sync_assets_tests.support.program import Program

pytestmark = pytest.mark.usefixtures("short_looks")


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
    assert "contact: 50 records are loading by file; insert by workflow WKF20," in text


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
    runtime.ledger.loads.begin("contact", "WKF20", "d365_loads/imports")
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


@contextmanager
def seen_at_work(program: Program) -> Iterator[None]:
    """Let the workflows run long enough: what they import unseen costs a read."""
    for workflow in WORKFLOWS.values():
        program.sandbox.admin.configure_import(workflow, rows_per_second=40)
    yield
    for workflow in WORKFLOWS.values():
        program.sandbox.admin.configure_import(workflow, rows_per_second=None)


def planned(program: Program) -> dict[str, Any]:
    return program.json("plan")[1]


def test_a_plan_shows_both_ways_and_its_calls_are_those_of_sync(program: Program) -> None:
    by_rest = planned(program)["engine_calls"]
    document = planned(by_file(program))
    table = document["tables"]["contact"]
    assert (table["insert"], table["engine_calls"]["insert"]) == (50, 0)
    both = table["by_file"]
    assert (both["records"], both["loads"], both["files"]) == (50, 1, 1)
    assert by_rest["insert"] == 50
    assert both["rest_engine_calls"] == sum(by_rest.values()) - table["engine_calls"]["read"] + both["engine_calls"]
    with seen_at_work(program):
        done = program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, document["engine_calls"])
    [load] = program.json("loads")[1]["loads"]
    assert load["records"] == 50
    assert check_of(program).numbers["bytes"] == pytest.approx(both["bytes"], rel=0.2)
    assert planned(program)["tables"]["contact"]["by_file"] is None


@by_default("left_out", [[], ["contact"], ["new_order"]], ["contact"])
def test_a_plan_of_linked_tables_by_file_is_what_sync_does(chain: Chain, left_out: list[str]) -> None:
    for _ in range(12):
        chain.make()
    by_file(chain.program)
    for table in left_out:
        del chain.program.bulk_load["workflows"][table]
    document = planned(chain.program)
    assert [name for name, one in document["tables"].items() if not one["by_file"]] == [*left_out]
    with seen_at_work(chain.program):
        done = chain.program.sync()
    assert (done.status, done.document["engine_calls"]) == (0, document["engine_calls"])


def test_a_plan_counts_no_record_of_a_load_under_way(paused: Program) -> None:
    assert paused.sync().status == 2
    document = planned(paused)
    table = document["tables"]["contact"]
    assert (table["loading"], table["pending"], table["insert"], table["by_file"]) == (50, 0, 0, None)
    assert sum(document["engine_calls"].values()) == 0
    assert any("50 records are loading by file" in note for note in document["notes"])


def test_an_estimate_shows_both_ways_and_its_calls_are_those_of_sync(chain: Chain) -> None:
    for _ in range(12):
        chain.make()
    by_file(chain.program)
    del chain.program.bulk_load["workflows"]["new_orderline"]
    document = chain.program.json("estimate")[1]
    both = {name: table["first_load"]["by_file"] for name, table in document["tables"].items()}
    assert both["new_orderline"] is None
    assert [(both[name]["records"], both[name]["rest_engine_calls"]) for name in ("contact", "new_order")] == [
        (12, 14),
        (12, 15),
    ]
    assert any("By REST: 14 engine calls" in note for note in document["notes"])
    with seen_at_work(chain.program):
        made = chain.program.sync().document["engine_calls"]
    assert document["first_load"]["engine_calls"] == made
