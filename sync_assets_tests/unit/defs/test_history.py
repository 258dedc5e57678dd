"""A history that stays small: what `prune_history` deletes, what it keeps, and that Dagster can work meanwhile."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from sync_assets.defs.history import FAILED_FACTOR, prune_history
from sync_assets_tests.support.past_history import (
    AUDIT,
    OWNED,
    READY,
    RECORDS,
    ROWS,
    THEIRS,
    Past,
    empty_past,
    moment,
    partition,
)

KEEP = 3
"""`keep_days` of these tests."""


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    with empty_past(tmp_path) as past:
        yield past


def events_of(instance: dg.DagsterInstance, key: dg.AssetKey, day: int) -> list[dg.EventLogRecord]:
    wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition(day)])
    return list(instance.fetch_materializations(wanted, limit=100).records)


def test_the_last_event_of_a_partition_stays_without_its_run_as_it_was(past: Past) -> None:
    run_id = past.run(moment(0, 1))
    [before, _] = events_of(past.instance, ROWS, 0)
    assert prune_history(past.instance, OWNED, KEEP, moment(KEEP + 1))["success"] == 1
    [after] = events_of(past.instance, ROWS, 0)
    assert (before.run_id, after.run_id) == (run_id, "")
    assert (after.storage_id, after.timestamp) == (before.storage_id, before.timestamp)
    assert after.asset_materialization == before.asset_materialization
    assert not prune_history(past.instance, OWNED, KEEP, moment(KEEP + 2))["events"]


def test_young_events_and_those_of_a_staying_run_are_kept(past: Past) -> None:
    failed = past.run(moment(0, 1), dg.DagsterRunStatus.FAILURE)
    past.run(moment(0, 2))
    young = past.run(moment(KEEP, 1))
    past.report(moment(KEEP, 2), dg.AssetMaterialization(ROWS, partition=partition(0)))
    deleted = prune_history(past.instance, OWNED, KEEP, moment(KEEP + 1))
    assert set(past.instance.get_run_ids()) == {failed, young}
    assert (deleted["success"], deleted["failure"]) == (1, 0)
    assert {record.run_id for record in events_of(past.instance, ROWS, 0)} == {failed, ""}
    assert past.instance.all_logs(failed)
    deleted = prune_history(past.instance, OWNED, KEEP, moment(KEEP * FAILED_FACTOR + 1))
    assert deleted["failure"] == 1


def stored_of_others(past: Past, ours: Collection[str] = ()) -> Counter[str]:
    """Count what another project, and another installation of this one, have on the instance."""
    instance, storage = past.instance, past.instance.event_log_storage
    check = dg.AssetCheckKey(THEIRS, READY.name)
    runs = [run.run_id for run in instance.get_runs() if run.run_id not in ours]
    without_run = [one for one in instance.all_logs("") if one.dagster_event and one.dagster_event.asset_key == THEIRS]
    return Counter(
        runs=len(runs),
        events=sum(len(instance.all_logs(run)) for run in runs),
        materializations=len(instance.fetch_materializations(THEIRS, limit=1000).records),
        checks=len(storage.get_asset_check_execution_history(check, limit=1000)),
        without_run=len(without_run),
    )


def test_the_runs_events_and_check_results_of_others_on_the_instance_stay(past: Past) -> None:
    for day in range(2):
        for status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE):
            past.run(moment(day, 1), status, "theirs", theirs=True)
            past.run(moment(day, 1), status, "ours", theirs=True)  # in our code location
            past.run(moment(day, 1), status, theirs=True)
        past.run(moment(day, 1), location="other installation")
        past.run(moment(day, 1), location="ours", ledger="that of another installation in our code location")
        past.run(moment(day, 1), ledger="that of another installation's command line")
        past.report(moment(day, 2), dg.AssetMaterialization(THEIRS, partition=partition(0)))
        past.report(moment(day, 2), dg.AssetCheckEvaluation(THEIRS, READY.name, passed=True))
    before = stored_of_others(past)
    ours = {past.run(moment(0, 1)), past.run(moment(0, 1), location="ours")}
    deleted = prune_history(past.instance, replace(OWNED, location="ours"), KEEP, moment(1000))
    assert deleted["success"] == 2
    assert stored_of_others(past, ours) == before
    assert min(before.values()) >= 2


def test_a_database_whose_run_was_deleted_by_hand_is_removed(past: Past, tmp_path: Path) -> None:
    gone, there = past.run(moment(0)), past.run(moment(1))
    past.instance.delete_run(gone)
    file, other = (tmp_path / "history" / "runs" / f"{one}.db" for one in (gone, there))
    assert file.exists()
    prune_history(past.instance, OWNED, 10_000, moment(1000))
    assert (file.exists(), other.exists()) == (False, True)


def test_output_of_a_deleted_run_is_deleted_with_it(past: Past, tmp_path: Path) -> None:
    run_id = past.run(moment(0))
    folder = tmp_path / "storage" / run_id / "compute_logs"
    folder.mkdir(parents=True)
    (folder / "sync.err").write_text("said")
    prune_history(past.instance, OWNED, KEEP, moment(KEEP + 1))
    assert not folder.exists()


def test_of_an_asset_without_partitions_the_last_of_a_day_is_kept_and_of_long_ago_only_the_last_of_all(
    past: Past,
) -> None:
    for at in (moment(0), moment(1), moment(10, 1), moment(10, 2), moment(11)):
        past.report(at, dg.AssetMaterialization(AUDIT))
    for at in (moment(0), moment(1)):
        past.report(at, dg.AssetMaterialization(RECORDS))
    deleted = prune_history(past.instance, OWNED, KEEP, moment(KEEP * FAILED_FACTOR + 5))
    assert deleted["events"] == 4

    def days(key: dg.AssetKey) -> list[float]:
        return [one.timestamp for one in past.instance.fetch_materializations(key, limit=10).records]

    assert days(AUDIT) == [moment(11).timestamp(), moment(10, 2).timestamp()]
    assert days(RECORDS) == [moment(1).timestamp()]
