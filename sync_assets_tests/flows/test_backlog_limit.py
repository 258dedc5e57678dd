"""A large table is captured and sent in turns: the ledger never holds more pending records than a limit and a page."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest

from sync_assets.capture import backlog_limit
from sync_assets.cli.sync import Synced
from sync_assets.defs.tables import sensors
from sync_assets.ledger import Ledger
from sync_assets.ledger.records import deletions
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.flows import limited_sync
from sync_assets_tests.flows.limited_sync import MOST
from sync_assets_tests.support.chain import Chain, lose
from sync_assets_tests.support.forked_commands import start_module
from sync_assets_tests.support.orchestra import CONTACT, Orchestra
from sync_assets_tests.support.program import CONTACT as TABLE
from sync_assets_tests.support.program import Program, calls
from sync_assets_tests.support.waiting import until

N, PAGE = 50, 5
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

    def look(activity: str, records: int) -> None:
        nonlocal most
        most = max(most, runtime.ledger.reports.backlog("contact"))

    runtime.progress = look
    return program.sync(runtime), most


def pending(program: Program) -> int:
    with Ledger.open(program.runtime().settings.ledger_url) as ledger:
        return ledger.reports.backlog("contact")


def complete(program: Program) -> bool:
    with Ledger.open(program.runtime().settings.ledger_url) as ledger:
        feed = ledger.feeds.feed("contact")
        return feed is not None and feed.complete


def refuse_inserts(program: Program) -> None:
    """Campaign's gateway refuses our credentials for them, which ends a push at once."""
    body = '{"error_code":"401013"}'
    program.sandbox.admin.fault("campaign", "status", status=401, path="/profile", method="POST", body=body)


class TestSync:
    def test_a_first_load_and_a_full_read_stay_below_the_limit_and_a_page(self, program: Program) -> None:
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

    def test_many_changes_stay_below_it(self, program: Program) -> None:
        program.sync()
        program.sandbox.admin.change("contact", N, jobtitle="Changed")
        done, most = watched(program)
        assert (done.status, done.document["engine_calls"]) == (0, calls(update=N))
        assert most < MOST + PAGE
        program.assert_in_step()

    def test_the_deletion_guard_sees_the_whole_read(self, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deletions, "GUARDED_ABOVE", MOST)
        program.table["apply_deletes"] = True
        program.sync()
        program.table = {**OTHER_MAPPING, "apply_deletes": True}
        program.guardrails = {"max_delete_share": 0.1}
        program.sandbox.admin.delete("contact", 20)
        done, _ = watched(program)
        assert (done.status, done.document["engine_calls"]) == (2, calls(update=N - 20))
        assert done.document["tables"]["contact"]["deletes_held_back"] == 20

    def test_records_that_campaign_holds_already_are_compared_with_the_whole_table(self, program: Program) -> None:
        assert program.sync().status == 0
        lose(program)
        done, most = watched(program)
        assert (done.status, done.document["engine_calls"]) == (0, calls(read=2))
        assert most == N

    def test_children_wait_within_the_limit_too(self, sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
        chain = Chain(sandbox_factory, tmp_path)
        chain.admin.settings("d365", page_limit=PAGE)
        for _ in range(20):
            chain.make()
        refuse_inserts(chain.program)
        chain.program.sync()
        with Ledger.open(chain.program.runtime().settings.ledger_url) as ledger:
            for table, counts in ledger.reports.counts().items():
                assert counts.pending + counts.waiting < MOST + PAGE, table
        chain.admin.clear_faults()
        until(lambda: chain.sync()[0] == 0, 60)
        assert {resource: len(records) for resource, records in chain.held().items()} == dict.fromkeys(chain.held(), 20)
        chain.assert_parents_first()
        chain.sandbox.stop()


class TestACampaignThatTakesNothing:
    def test_the_capture_waits_at_the_limit_and_says_so(self, program: Program) -> None:
        refuse_inserts(program)
        for _ in range(3):
            done = program.sync()
            assert done.status == 2
            [text] = [text for text in done.stopped if "is paused" in text]
            assert "15 records are pending" in text
            assert pending(program) < MOST + PAGE
        program.sandbox.admin.clear_faults()
        until(lambda: program.sync().status == 0, 60)
        program.assert_in_step()
        assert len(program.profiles()) == N

    def test_a_spent_budget_is_the_same_and_the_feed_may_expire_meanwhile(self, program: Program) -> None:
        program.guardrails = {"engine_calls_per_day": 1 + MOST + PAGE}
        done, most = watched(program)
        assert (done.status, most < MOST + PAGE, complete(program)) == (2, True, False)
        program.sandbox.admin.expire()
        program.sandbox.admin.change("contact", 3, jobtitle="Changed meanwhile")
        program.guardrails = {}
        assert program.sync().status == 0
        program.assert_in_step()

    def test_a_replay_that_fills_the_backlog_pauses_and_goes_on_with_the_next_sync(self, program: Program) -> None:
        assert program.sync().status == 0
        runtime = program.runtime()
        with closing(runtime):
            runtime.ledger.replays.replay_everything("contact", resend=True)
        orchestra = Orchestra(program, dg.DagsterInstance.ephemeral())
        run = orchestra.materialize(CONTACT)
        assert not run.success
        assert "is paused" in str(run.check("ready", CONTACT).description)
        orchestra.runtime.close()
        done, most = watched(program)
        assert (done.status, done.document["engine_calls"]) == (0, calls(update=N))
        assert most < MOST + PAGE


class TestARunThatStays:
    @pytest.fixture
    def orchestra(self, program: Program, monkeypatch: pytest.MonkeyPatch) -> Orchestra:
        monkeypatch.setattr(sensors, "HOLD_SECONDS", 0.0)
        program.runs = {"linger_seconds": 2}
        return Orchestra(program, dg.DagsterInstance.ephemeral())

    def test_it_captures_and_sends_in_turns(self, orchestra: Orchestra) -> None:
        [request] = orchestra.asked("d365_changes")
        run = orchestra.execute(request)
        assert run.success
        assert all(run.checks.values())
        orchestra.program.assert_in_step()
        orchestra.runtime.close()

    def test_it_fails_with_a_finding_while_campaign_takes_nothing_and_later_runs_go_on(
        self, orchestra: Orchestra
    ) -> None:
        admin = orchestra.program.sandbox.admin
        refuse_inserts(orchestra.program)
        [request] = orchestra.asked("d365_changes")
        run = orchestra.execute(request)
        assert not run.success
        assert "is paused" in str(run.check("ready", CONTACT).description)
        assert pending(orchestra.program) < MOST + PAGE
        admin.clear_faults()
        orchestra.later("d365_changes", minutes=10)
        [request] = orchestra.asked("d365_changes")
        run = orchestra.execute(request)
        assert run.success
        assert run.check("ready", CONTACT).passed
        orchestra.program.assert_in_step()
        orchestra.runtime.close()


def test_killed_at_any_moment_it_goes_on_and_sends_nothing_twice(program: Program) -> None:
    admin = program.sandbox.admin
    admin.latency("campaign", 60)
    program.guardrails = {"concurrency": 2}
    for stop_at in (9, 31):
        process = start_module(limited_sync.__name__, ["sync"], program.env)
        until(lambda stop_at=stop_at: admin.engine_calls()["insert"] >= stop_at, 120)
        process.kill()
        process.wait()
        assert pending(program) < MOST + PAGE
    admin.latency("campaign", 0)
    assert watched(program)[0].status == 0
    program.assert_in_step()
    assert len(program.profiles()) == N
