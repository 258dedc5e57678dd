"""Each name of Dagster's that is not public, asked of a real instance: a Dagster that moves one fails here."""

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.execution import compute_logs
from dagster._core.storage import sql

import sync_assets
from sync_assets.defs.dagster_internals import answered_since, evaluation, failed_ticks, freshness, latest_answers
from sync_assets.launching.dagster_patches import detach_copies_of_output, find_migrations_by_path
from sync_assets_tests.support.orchestra import shown

ASSET = dg.AssetKey(["d365", "contact"])
CHECK = dg.AssetCheckKey(ASSET, "ready")
PACKAGE = Path(sync_assets.__file__).parent


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, *, passed: bool, dies: bool = False) -> None:
    @dg.asset(key=ASSET, check_specs=[dg.AssetCheckSpec("ready", asset=ASSET)])
    def contact() -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        if dies:
            raise RuntimeError
        yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=passed, check_name="ready")])

    dg.materialize([contact], instance=instance, raise_on_error=False)


def test_the_latest_answer_of_a_check_is_read_with_its_run(instance: dg.DagsterInstance) -> None:
    assert latest_answers(instance, [CHECK]) == {}
    run(instance, passed=True)
    run(instance, passed=False)
    answer = latest_answers(instance, [CHECK])[CHECK]
    assert (answer.key, answer.status.value) == (CHECK, "FAILED")
    assert answer.run_id in {one.run_id for one in instance.get_runs()}
    assert answer.event
    assert datetime.now(UTC).timestamp() - answer.event.timestamp < 60
    assert answer.evaluation
    assert not answer.evaluation.passed


def test_of_a_run_that_died_over_a_check_the_answer_before_it_counts(instance: dg.DagsterInstance) -> None:
    run(instance, passed=False)
    run(instance, passed=True, dies=True)
    assert latest_answers(instance, [CHECK])[CHECK].status.value == "FAILED"


def test_a_check_is_answered_since_a_run_if_a_later_one_or_a_report_without_a_run_did(
    instance: dg.DagsterInstance,
) -> None:
    assert answered_since(instance, [CHECK], "a run") == set()
    run(instance, passed=True)
    [first] = instance.get_runs()
    assert answered_since(instance, [CHECK], first.run_id) == set()
    run(instance, passed=True, dies=True)
    assert answered_since(instance, [CHECK], first.run_id) == set()
    run(instance, passed=True)
    assert answered_since(instance, [CHECK], first.run_id) == {CHECK}
    instance.report_runless_asset_event(dg.AssetCheckEvaluation(ASSET, "ready", passed=True, metadata={}))
    assert answered_since(instance, [CHECK], instance.get_runs(limit=1)[0].run_id) == {CHECK}


def test_a_result_without_a_run_is_about_the_last_materialisation(instance: dg.DagsterInstance) -> None:
    """Of the same second: SQLite's time of the result would be before it."""
    result = dg.AssetCheckResult(passed=False, asset_key=ASSET, check_name="ready")
    assert evaluation(instance, result).target_materialization_data is None
    run(instance, passed=True)
    instance.report_runless_asset_event(evaluation(instance, result))
    assert shown(instance, CHECK) == "FAILED"


def test_late_assets_are_reported_with_the_moment(instance: dg.DagsterInstance) -> None:
    now = datetime.now(UTC)
    assert freshness(instance, [ASSET]) == {}
    for state, result in ((FreshnessState.WARN, "warning"), (FreshnessState.FAIL, "late")):
        change = FreshnessStateChange(
            key=ASSET, new_state=state, previous_state=FreshnessState.PASS, state_change_timestamp=now.timestamp()
        )
        instance._report_runless_asset_event(change)
        state_now, since = freshness(instance, [ASSET])[ASSET]
        assert state_now == result
        assert abs(since - now) < timedelta(minutes=1)


def test_an_instance_without_sensors_has_no_ticks(instance: dg.DagsterInstance) -> None:
    assert failed_ticks(instance, ["d365_changes"]) == {}


def test_no_other_module_imports_private_names_of_dagster() -> None:
    private = re.compile(r"^\s*(?:from|import) dagster\._", re.MULTILINE)
    modules = {path.name for path in PACKAGE.rglob("*.py") if private.search(path.read_text(encoding="utf-8"))}
    assert modules == {"dagster_internals.py", "history.py", "dagster_patches.py"}


def test_the_migrations_of_sqlite_are_found_by_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "ALEMBIC_SCRIPTS_LOCATION", sql.ALEMBIC_SCRIPTS_LOCATION)
    find_migrations_by_path()
    assert (Path(sql.ALEMBIC_SCRIPTS_LOCATION.replace("%%", "%")) / "env.py").is_file()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as opened:
        assert opened.get_run_records() == []


def test_the_processes_that_copy_a_runs_output_are_in_sessions_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a terminal reaches all processes of its session's foreground group."""
    monkeypatch.setattr(compute_logs, "subprocess", subprocess)
    detach_copies_of_output()
    (tmp_path / "output").write_text("")
    with compute_logs.execute_posix_tail(str(tmp_path / "output"), None) as pids:
        assert [os.getsid(pid) for pid in pids] == [*pids]
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
