"""A large table is captured and sent in turns: the ledger never holds more pending records than a limit and a page."""

import pytest

from sync_assets.capture import backlog_limit
from sync_assets.defs.tables import table_run
from sync_assets.ledger import Ledger
from sync_assets_tests.support.loads import assert_each_inserted_once, by_file, inserted
from sync_assets_tests.support.orchestra import CONTACT, Orchestra
from sync_assets_tests.support.program import CONTACT as TABLE
from sync_assets_tests.support.program import Program, Synced, calls

N, PAGE, MOST = 50, 5, 12
OTHER_MAPPING = {**TABLE, "fields": {**TABLE["fields"], "jobtitle": "cusJobTitle", "firstname": "middleName"}}


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_limit, "MOST_PENDING", MOST)


@pytest.fixture
def program(program: Program) -> Program:
    program.sandbox.admin.settings("d365", page_limit=PAGE)
    return program


def watched(program: Program) -> tuple[Synced, int]:
    """Sync; return the result and the highest number of pending records after any page or batch of answers."""
    runtime, most = program.runtime(), 0

    def look(activity: str, records: int, total: int | None) -> None:
        nonlocal most
        most = max(most, runtime.ledger.reports.backlog("contact"))

    with runtime.progress.shown_by(look):
        return program.sync(runtime), most


def pending(program: Program) -> int:
    with Ledger.open(program.runtime().settings.ledger_url) as ledger:
        return ledger.reports.backlog("contact")


def refuse_inserts(program: Program) -> None:
    """Campaign's gateway refuses our credentials for them, which ends a push at once."""
    body = '{"error_code":"401013"}'
    program.sandbox.admin.fault("campaign", "status", status=401, path="/profile", method="POST", body=body)


def test_a_first_load_and_a_full_read_stay_below_the_limit_and_a_page(program: Program) -> None:
    done, most = watched(program)
    assert (done.status, done.document["engine_calls"]) == (0, calls(insert=N, read=2))
    assert MOST <= most < MOST + PAGE
    program.assert_in_step()

    program.table = {**OTHER_MAPPING, "apply_deletes": True}
    program.guardrails = {"max_delete_share": 0.1}
    program.sandbox.admin.delete("contact", 4)
    done, most = watched(program)
    assert (done.status, done.document["engine_calls"]["update"]) == (0, N - 4)
    assert MOST <= most < MOST + PAGE
    program.assert_in_step()


def test_a_sync_carries_loads_by_file_on_while_the_capture_is_paused(
    program: Program, short_looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_run, "TURN_SECONDS", 0.1)
    program.sandbox.admin.configure_import("WKF20", rows_per_second=20)
    done, most = watched(by_file(program, above=5))
    assert (done.status, done.document["engine_calls"]["insert"]) == (0, N % (MOST + 3))  # 15 pending at each pause
    assert (most, inserted(program)) == (MOST + 3, [MOST + 3] * 3)
    assert_each_inserted_once(program)
    program.assert_in_step()


def test_a_first_load_fails_with_a_finding_while_campaign_takes_nothing_and_later_runs_go_on(
    orchestra: Orchestra,
) -> None:
    admin = orchestra.program.sandbox.admin
    refuse_inserts(orchestra.program)
    [request] = orchestra.asked("d365_changes")
    run = orchestra.execute(request)
    assert not run.success
    description = str(run.check("ready", CONTACT).description)
    assert "is paused" in description
    assert "15 records are pending" in description
    assert pending(orchestra.program) < MOST + PAGE
    admin.clear_faults()
    orchestra.later("d365_changes", minutes=10)
    [request] = orchestra.asked("d365_changes")
    run = orchestra.execute(request)
    assert run.success
    assert run.check("ready", CONTACT).passed
    orchestra.program.assert_in_step()
