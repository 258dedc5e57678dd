"""Names of Dagster's own that history.py uses: these tests fail where Dagster moves one of them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import event, exc

from sync_assets.cli.instance import PACKAGED
from sync_assets.defs import history
from sync_assets.defs.history import (
    COMPLETED_STATUSES,
    KEPT_EVENT_TYPES,
    RUNLESS_RUN_ID,
    forget_planned,
    sql_storage,
    unwrapped,
    without_run,
)


def test_types_of_events_and_answers_of_checks_are_called_as_before() -> None:
    assert {dg.DagsterEventType(name).value for name in KEPT_EVENT_TYPES} == set(KEPT_EVENT_TYPES)
    assert {AssetCheckExecutionRecordStatus(name).value for name in COMPLETED_STATUSES} == set(COMPLETED_STATUSES)
    assert set(AssetCheckExecutionRecordStatus) == {
        AssetCheckExecutionRecordStatus(one) for one in ("PLANNED", *COMPLETED_STATUSES)
    }
    assert RUNLESS_RUN_ID == ""


EVENT = {"id", "run_id", "event", "dagster_event_type", "timestamp", "asset_key", "partition"}
ANSWER = {"id", "asset_key", "check_name", "run_id", "execution_status"}
COMPLETED_STATUSES_AT = {"evaluation_event_timestamp", "evaluation_event_storage_id"}


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("SqlEventLogStorageTable", EVENT),
        ("AssetEventTagsTable", {"event_id"}),
        ("AssetCheckExecutionsTable", ANSWER | COMPLETED_STATUSES_AT),
    ],
)
def test_tables_have_their_columns_and_every_time_is_utc_without_a_zone(table: str, columns: set[str]) -> None:
    result: sa.Table = getattr(history, table)
    assert columns <= set(result.columns.keys())
    assert not any(getattr(column.type, "timezone", False) for column in result.columns)


def test_a_stored_event_is_one_of_no_run_once_its_run_is_taken_out() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("rows"))
        [entry] = instance.all_logs(RUNLESS_RUN_ID)
    text = dg.serialize_value(entry._replace(run_id="gone"))
    assert json.loads(text)["run_id"] == "gone"
    assert dg.deserialize_value(without_run(text)) == entry


@pytest.mark.parametrize("configured", [{}, {"storage": "\nstorage:\n  sqlite:\n    base_dir: elsewhere\n"}])
def test_sqlite_has_one_database_a_run_and_three_that_runs_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(PACKAGED, tmp_path / "dagster.yaml")
    with (tmp_path / "dagster.yaml").open("a") as file:
        file.write(configured.get("storage", ""))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        storage = sql_storage(instance)
        assert isinstance(storage, SqliteEventLogStorage)
        for name in ("run_storage", "schedule_storage"):
            assert hasattr(unwrapped(getattr(instance, name), name), "connect")
        instance.report_runless_asset_event(dg.AssetMaterialization("rows"))
        files = {file.name for file in history.StoredEvents(instance, ()).shared_files()}
        assert files == {"index.db", "runs.db", "schedules.db", ".db"}
        assert all(file.exists() for file in history.StoredEvents(instance, ()).shared_files())
        assert Path(storage.path_for_shard("some-run")).name == "some-run.db"


def test_planned_checks_of_a_run_of_a_day_are_forgotten_and_their_results_kept() -> None:
    key = dg.AssetCheckKey(dg.AssetKey("rows"), "ready")

    @dg.asset(
        partitions_def=dg.DailyPartitionsDefinition("2026-11-24"),
        check_specs=[dg.AssetCheckSpec("ready", asset="rows")],
    )
    def rows() -> Iterator[Any]:
        yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="ready")])

    with dg.DagsterInstance.ephemeral() as instance:

        def statuses() -> list[str]:
            result = instance.event_log_storage.get_asset_check_execution_history(key, limit=9)
            return sorted(one.status.value for one in result)

        first, second = (dg.materialize([rows], instance=instance, partition_key="2026-11-24").run_id for _ in range(2))
        assert statuses() == ["PLANNED"] * 2 + ["SUCCEEDED"] * 2  # Dagster stores both
        forget_planned(instance, first, [key])
        assert statuses() == ["PLANNED"] + ["SUCCEEDED"] * 2
        event.listen(sa.Engine, "before_cursor_execute", locked)
        try:
            forget_planned(instance, second, [key])
        finally:
            event.remove(sa.Engine, "before_cursor_execute", locked)
        assert statuses() == ["PLANNED"] + ["SUCCEEDED"] * 2


def locked(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if statement.startswith("DELETE FROM asset_check_executions"):
        raise exc.OperationalError(statement, None, Exception("database is locked"))


def test_ticks_of_the_local_instance_are_purged_by_their_retention(tmp_path: Path) -> None:
    from dagster._core.definitions.run_request import InstigatorType

    shutil.copy(PACKAGED, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for kind in (InstigatorType.SENSOR, InstigatorType.SCHEDULE):
            days = {status.value: days for status, days in instance.get_tick_retention_settings(kind).items()}
            assert all(days[status] > 0 for status in ("SKIPPED", "SUCCESS", "FAILURE"))
