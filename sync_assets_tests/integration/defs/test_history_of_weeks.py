"""Dagster's history after days of daily pruning, on SQLite and PostgreSQL."""

from pathlib import Path

import dagster as dg
import yaml

from sync_assets.defs.history import prune_history
from sync_assets_tests.support.past_history import AUDIT, OWNED, READY, RECORDS, ROWS, Past, moment, partition
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.unit.defs.test_history import KEEP, events_of


def a_day(past: Past, day: int) -> None:
    """As many runs and reports as it takes to see whether something stays."""
    past.run(moment(day, 9))
    past.report(moment(day, 10), dg.AssetMaterialization(ROWS, partition=partition(day)))
    past.report(moment(day, 10), dg.AssetCheckEvaluation(READY.asset_key, READY.name, passed=True))
    if day % 10 == 0:
        past.run(moment(day, 20), dg.DagsterRunStatus.FAILURE)
    past.report(moment(day, 21), dg.AssetMaterialization(AUDIT))


def answers(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> list[str]:
    """What a check answered, the latest first."""
    return [one.status.value for one in instance.event_log_storage.get_asset_check_execution_history(check, limit=1000)]


def test_in_postgresql_events_are_deleted_and_partitions_stay_filled(tmp_path: Path, postgres: PostgresServer) -> None:
    with postgres.database() as url:
        storage = {"storage": {"postgres": {"postgres_url": url.replace("+psycopg:", "+psycopg2:")}}}
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(storage))
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            past = Past(instance)
            for day in range(6):
                a_day(past, day)
                prune_history(instance, OWNED, KEEP, moment(day + 1, 3))
            for key in (ROWS, RECORDS):
                assert instance.get_materialized_partitions(key) == {partition(day) for day in range(6)}
                assert [len(events_of(instance, key, day)) for day in (1, 2)] == [1, 1]
            assert answers(instance, READY)[0] == "SUCCEEDED"
            kept = [run_id for run_id in past.runs if instance.get_run_by_id(run_id)]
            assert kept == [past.runs[1], *past.runs[-3:]]  # the failed one, and what is not older than three days
