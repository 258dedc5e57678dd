"""A `sync` with nothing to do makes no Dagster run; whatever is to be done, or to be told, makes one."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_assets.cli import sync as quiet
from sync_assets.cli.instance import dagster_instance
from sync_assets.ledger import Ledger
from sync_assets.runtime.workers import killed_runs
from sync_assets_tests.support.ledgers import session_of
from sync_assets_tests.support.past_history import Past, moment
from sync_assets_tests.support.program import Program, calls

N = 50


def runs(program: Program) -> int:
    if program._instance:
        return program._instance.get_runs_count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", program.env["DAGSTER_HOME"])
        with dagster_instance() as instance:
            return instance.get_runs_count()


def stored(program: Program) -> int:
    """Bytes of Dagster's history."""
    return sum(path.stat().st_size for path in Path(program.env["DAGSTER_HOME"]).rglob("*") if path.is_file())


@pytest.fixture
def synced(program: Program) -> Program:
    program.dagster = True  # what runs it makes is what these tests are about
    program.table = {**program.table, "apply_deletes": True}
    assert program.sync().status == 0
    return program


@pytest.fixture
def kept(program: Program) -> Program:
    """The same with Dagster's history on disk."""
    program.on_disk = True
    assert program.sync().status == 0
    return program


def test_a_second_sync_makes_no_run_and_next_to_no_history(kept: Program) -> None:
    before, size = runs(kept), stored(kept)
    done = kept.sync()
    assert (done.status, done.problems, done.stopped) == (0, [], [])
    assert done.document["engine_calls"] == calls()
    assert done.document["tables"]["contact"]["synced"] == N
    assert runs(kept) == before
    assert stored(kept) - size < 20_000


def test_sync_deletes_once_a_day_the_old_runs_of_the_command_line(program: Program) -> None:
    program.dagster = program.on_disk = True
    program.make_ledger()
    with closing(program.runtime()) as runtime:
        ours = runtime.ledger.systems.identity()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", program.env["DAGSTER_HOME"])
        with dagster_instance() as instance:
            past = Past(instance)
            past.run(moment(0), ledger=ours)
            others = {
                past.run(moment(0), theirs=True),
                past.run(moment(0), ledger="another"),
                past.run(moment(0), location="sync_assets.definitions"),
            }
            assert program.sync().status == 0
            recent = set(instance.get_run_ids()) - others
            assert len(recent) == 1
            assert recent.isdisjoint(past.runs)
            missed = past.run(moment(0), ledger=ours)
            changed(program)
            assert program.sync().status == 0
            assert {missed, *recent, *others} < set(instance.get_run_ids())
            assert len(instance.get_run_ids()) == 6
            patch.setattr("sync_assets.defs.history.today", lambda: "2999-01-01")
            patch.setattr(instance.run_storage.__class__, "get_run_ids", lambda *_, **__: 1 / 0)
            program.sandbox.admin.change("contact", 1, jobtitle="Once more")
            done = program.sync()
    assert (done.status, done.ended_early) == (0, False)
    assert any("Old runs were not deleted, which is tried again tomorrow" in line for line in done.stopped)


def changed(program: Program) -> None:
    program.sandbox.admin.change("contact", 1, jobtitle="Changed")


def made(program: Program) -> None:
    program.sandbox.admin.create("contact", {"lastname": "New", "emailaddress1": "new@example.org"})


def deleted(program: Program) -> None:
    program.sandbox.admin.delete("contact", 1)


def mapped_otherwise(program: Program) -> None:
    program.table = {**program.table, "fields": {**program.table["fields"], "fax": "fax"}}


def filtered(program: Program) -> None:
    program.table = {**program.table, "filters": {"rules": [{"field": "lastname", "is": "ne", "value": "no one"}]}}


def failed(program: Program) -> None:
    """The next run makes the failed check pass."""
    program.sandbox.admin.post("/d365/tracking", {"table": "contact", "enabled": False})
    assert program.sync().status == 1
    program.sandbox.admin.post("/d365/tracking", {"table": "contact", "enabled": True})


def retried(program: Program) -> None:
    """The record is pending, and Dynamics 365 has nothing new."""
    admin, error = program.sandbox.admin, "RST-360011 An error has occurred.\nThe value of jobtitle is not valid"
    admin.fault("campaign", "status", status=500, body=error, method="PATCH")
    admin.change("contact", 1, jobtitle="Refused")
    assert program.sync().status == 2
    before = runs(program)
    assert program.sync().status == 2  # it stands rejected, which needs no run
    assert runs(program) == before
    admin.clear_faults()
    assert program.json("retry", "contact")[1]["retried"] == 1


WORK: list[Callable[[Program], None]] = [changed, made, deleted, mapped_otherwise, filtered, failed, retried]


def test_a_change_or_an_earlier_failure_makes_a_run(synced: Program) -> None:
    for work in WORK:
        work(synced)
        before = runs(synced)
        assert synced.sync().status == 0, work.__name__
        assert runs(synced) > before, work.__name__
        synced.assert_in_step()


def test_after_an_hour_a_run_confirms_that_the_data_is_fresh(synced: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    before = runs(synced)
    monkeypatch.setattr(quiet, "CONFIRM", quiet.CONFIRM * 0)
    assert synced.sync().status == 0
    assert runs(synced) > before


def test_dagster_is_not_even_loaded(synced: Program) -> None:
    code = (
        "import sys; from sync_assets.cli.main import main; sys.argv = ['sync-assets', 'sync', '--json']\n"
        "try: main()\n"
        "finally: print('dagster' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **synced.env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "False"


def test_a_run_that_was_killed_is_ended_though_nothing_is_to_be_done(synced: Program) -> None:
    runtime = synced.runtime()
    earlier = datetime.now(UTC) - timedelta(minutes=2)
    with Ledger.open(runtime.settings.ledger_url, clock=lambda: earlier) as then:
        then.runs.begin("a-run", session_of(then, "elsewhere:1:2"))
    assert [run.run_id for run in killed_runs(runtime.ledger)] == ["a-run"]
    assert synced.sync().status == 0
    assert killed_runs(runtime.ledger) == []
    runtime.close()
