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
from sync_assets.defs.dagster_internals import (
    evaluations,
    failed_ticks,
    freshness,
    last_materializations,
    latest_answers,
    shown_answers,
    slot_is_wanted,
)
from sync_assets.launching.dagster_patches import detach_copies_of_output, find_migrations_by_path
from sync_assets_tests.support.orchestra import job_origin, shown

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


def is_shown(instance: dg.DagsterInstance) -> bool:
    return CHECK in shown_answers(instance, [CHECK], last_materializations(instance, [ASSET]))


def answer(instance: dg.DagsterInstance, *, passed: bool) -> None:
    """Report a result without a run."""
    result = dg.AssetCheckResult(passed=passed, asset_key=ASSET, check_name="ready")
    instance.report_runless_asset_event(*evaluations(instance, [result]))


def test_an_answer_is_shown_unless_a_run_plans_another_or_the_asset_was_materialised_since(
    instance: dg.DagsterInstance,
) -> None:
    assert not is_shown(instance)
    run(instance, passed=True)
    assert is_shown(instance)
    run(instance, passed=True, dies=True)
    assert not is_shown(instance)
    answer(instance, passed=False)
    assert is_shown(instance)
    assert shown(instance, CHECK) == "FAILED"
    instance.report_runless_asset_event(dg.AssetMaterialization(ASSET))
    assert is_shown(instance)  # neither has a run
    dg.materialize([dg.asset(key=ASSET)(lambda: None)], instance=instance)
    assert (is_shown(instance), shown(instance, CHECK)) == (False, "not evaluated")


def test_a_result_without_a_run_is_about_the_last_materialisation(instance: dg.DagsterInstance) -> None:
    """Of the same second: SQLite's time of the result would be before it."""
    assert last_materializations(instance, [ASSET]) == {}
    run(instance, passed=True)
    assert last_materializations(instance, [ASSET])[ASSET].target.run_id == instance.get_runs()[0].run_id
    answer(instance, passed=False)
    assert shown(instance, CHECK) == "FAILED"


@pytest.mark.parametrize(
    ("slots", "active", "waiting", "wanted"),
    [(3, 3, 0, False), (3, 3, 1, True), (3, 2, 1, False), (-1, 9, 1, False)],
    ids=["no run waits", "one waits", "a slot is free", "no limit"],
)
def test_a_slot_is_wanted_if_all_are_taken_and_a_run_waits(
    tmp_path: Path, slots: int, active: int, waiting: int, wanted: bool
) -> None:
    queue = {"concurrency": {"runs": {"max_concurrent_runs": slots}}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=queue) as instance:
        for status, number in ((dg.DagsterRunStatus.STARTED, active), (dg.DagsterRunStatus.QUEUED, waiting)):
            for _ in range(number):
                instance.run_storage.add_run(dg.DagsterRun("sync", status=status, remote_job_origin=job_origin("ours")))
        assert slot_is_wanted(instance) is wanted


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
