"""Names of Dagster's own that history.py uses: these tests fail where Dagster moves one of them."""

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from sync_assets.cli.instance import PACKAGED
from sync_assets.defs import history
from sync_assets.defs.history import COMPLETED_STATUSES, KEPT_EVENT_TYPES, RUNLESS_RUN_ID, sql_storage, without_run


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
        assert Path(storage.path_for_shard("some-run")).name == "some-run.db"


def test_ticks_of_the_local_instance_are_purged_by_their_retention(tmp_path: Path) -> None:
    from dagster._core.definitions.run_request import InstigatorType

    shutil.copy(PACKAGED, tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for kind in (InstigatorType.SENSOR, InstigatorType.SCHEDULE):
            days = {status.value: days for status, days in instance.get_tick_retention_settings(kind).items()}
            assert all(days[status] > 0 for status in ("SKIPPED", "SUCCESS", "FAILURE"))
