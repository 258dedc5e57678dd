"""The IO manager of Parquet parts, in real runs of real assets and by itself. What it keeps: see test_writer.py."""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from sync_assets.defs.opt_out.io_manager import ParquetParts
from sync_assets.errors import SyncAssetsError
from sync_assets.parquet.locations import LocalFolder, S3Bucket
from sync_assets.parquet.store import Parts, Store
from sync_assets_tests.support.s3 import s3_with_bucket

EXPORT = ["campaign", "opt_out_export"]
FILE = "Abmeldungen 'März'.csv.gz@2026-11-24T04:00:00Z"
BUCKET = "acme-sync"
by_file = dg.DynamicPartitionsDefinition(name="opt_out_files")
fixed = dg.StaticPartitionsDefinition([FILE, "other", "third"])


def table(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"id": ids}, schema={"id": pl.Int64})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(LocalFolder(tmp_path))


def output(run: str) -> dg.OutputContext:
    return dg.build_output_context(asset_key=EXPORT, run_id=run, partition_key=FILE, asset_partitions_def=fixed)


def write(store: Store, run: str, *tables: pl.DataFrame) -> dg.OutputContext:
    context = output(run)
    ParquetParts(lambda: store).handle_output(context, iter(tables))
    return context


def seen(store: Store) -> list[int]:
    return [id_ for frame in Parts(store, EXPORT, [FILE]) for id_ in frame["id"]]


class TestKeeping:
    def test_a_run_replaces_the_former_one(self, store: Store) -> None:
        write(store, "a", table(1, 2), table(3))
        write(store, "b", table(4))
        assert seen(store) == [4]
        assert store.parts(EXPORT, FILE) == ["b-00001"]

    def test_none_leaves_what_stood_there(self, store: Store) -> None:
        write(store, "a", table(1))
        nothing = output("b")
        ParquetParts(lambda: store).handle_output(nothing, None)
        assert seen(store) == [1]
        assert nothing.get_logged_metadata() == {}

    def test_the_store_is_opened_by_the_first_run_that_needs_it(self, tmp_path: Path) -> None:
        opened: list[Store] = []

        def opens() -> Store:
            opened.append(Store(LocalFolder(tmp_path)))
            return opened[-1]

        manager = ParquetParts(opens)
        assert opened == []
        for run in ("a", "b"):
            manager.handle_output(output(run), [table(1)])
        assert len(opened) == 1


class TestMetadata:
    def test_a_run_tells_where_and_how_much_and_nothing_of_the_content(self, store: Store) -> None:
        told = write(store, "b", table(40, 50), table(60).cast(pl.Int8)).get_logged_metadata()
        folder = Path(store.url(EXPORT, FILE))
        assert {name: value.value for name, value in told.items()} == {  # pyright: ignore[reportAttributeAccessIssue]
            "path": str(folder),
            "dagster/partition_row_count": 3,
            "rows_written": 3,
            "parts": 2,
            "bytes": sum(path.stat().st_size for path in folder.glob("*.parquet")),
        }

    def test_on_s3_it_tells_the_address(self) -> None:
        with s3_with_bucket(BUCKET) as client:
            told = write(Store(S3Bucket(BUCKET, "sync", client)), "run", table(1)).get_logged_metadata()
        address = told["dagster/uri"].value
        assert isinstance(address, str)
        assert address.startswith("s3://acme-sync/sync/campaign/opt_out_export/")
        assert "path" not in told


class TestInDagster:
    """Real runs of real assets."""

    def test_rows_stream_from_asset_to_asset(self, store: Store) -> None:
        given_: list[Parts] = []

        @dg.asset(key=EXPORT, partitions_def=by_file, io_manager_key="parts")
        def export() -> Any:
            yield dg.MaterializeResult(value=(table(number) for number in range(3)))

        @dg.asset(
            key=["opt_out", "decisions"],
            partitions_def=by_file,
            ins={"rows": dg.AssetIn(dg.AssetKey(EXPORT))},
            io_manager_key="parts",
        )
        def decisions(rows: Parts) -> Any:
            given_.append(rows)
            return dg.MaterializeResult(value=(frame.with_columns(decided=True) for frame in rows))

        run = materialize(store, export, decisions)
        assert run.success
        assert (len(given_[0]), given_[0].rows) == (1, 3)
        [decided] = Parts(store, ["opt_out", "decisions"], [FILE])
        assert decided.columns == ["id", "decided"]
        events = run.get_asset_materialization_events()
        assert [event.materialization.metadata["dagster/partition_row_count"].value for event in events] == [3, 3]

    def test_a_partition_that_was_never_written_is_empty(self, store: Store) -> None:
        given_: list[Parts] = []
        export = dg.AssetSpec(EXPORT, partitions_def=by_file)

        @dg.asset(
            partitions_def=by_file,
            ins={"rows": dg.AssetIn(dg.AssetKey(EXPORT), input_manager_key="parts")},
        )
        def decisions(rows: Parts) -> dg.MaterializeResult:
            given_.append(rows)
            return dg.MaterializeResult()

        assert materialize(store, export, decisions).success
        assert (len(given_[0]), given_[0].rows, list(given_[0])) == (0, 0, [])

    def test_who_depends_on_all_partitions_gets_all(self, store: Store) -> None:
        @dg.asset(key=EXPORT, partitions_def=fixed, io_manager_key="parts")
        def export(context: dg.AssetExecutionContext) -> Any:
            yield dg.MaterializeResult(value=[table(len(context.partition_key))])

        @dg.asset(ins={"rows": dg.AssetIn(dg.AssetKey(EXPORT), input_manager_key="parts")})
        def report(rows: Parts) -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"rows": rows.rows})

        resources = {"parts": ParquetParts(lambda: store)}
        for partition in ("other", "third"):
            assert dg.materialize([export], partition_key=partition, resources=resources).success
        run = dg.materialize([export, report], selection=[report], resources=resources)
        [event] = run.get_asset_materialization_events()
        assert event.materialization.metadata["rows"].value == 2

    def test_a_run_of_several_partitions_is_refused_before_anything_is_written(self, store: Store) -> None:
        @dg.asset(key=EXPORT, partitions_def=fixed, io_manager_key="parts")
        def export(context: dg.AssetExecutionContext) -> Any:
            yield dg.MaterializeResult(value=[table(1)])

        tags = {"dagster/asset_partition_range_start": FILE, "dagster/asset_partition_range_end": "third"}
        with pytest.raises(SyncAssetsError, match="A run of 3 partitions of campaign/opt_out_export"):
            dg.materialize([export], tags=tags, resources={"parts": ParquetParts(lambda: store)})
        assert store.parts(EXPORT, "other") == []

    def test_an_error_of_the_stream_reaches_the_run_and_what_stood_there_stays(self, store: Store) -> None:
        write(store, "a", table(1))

        def fails() -> Iterator[pl.DataFrame]:
            yield table(2)
            raise dg.Failure("The file broke off.", allow_retries=False)

        @dg.asset(key=EXPORT, partitions_def=by_file, io_manager_key="parts")
        def export() -> Any:
            yield dg.MaterializeResult(value=fails())

        with pytest.raises(dg.Failure, match="broke off"):
            materialize(store, export)
        assert seen(store) == [1]

    def test_an_asset_may_tell_what_it_counted_while_it_streamed(self, store: Store) -> None:
        @dg.asset(
            key=EXPORT,
            partitions_def=by_file,
            io_manager_key="parts",
            check_specs=[dg.AssetCheckSpec("all_rows_are_valid", asset=EXPORT)],
        )
        def export(context: dg.AssetExecutionContext) -> Any:
            rejected: list[int] = []

            def rows() -> Iterator[pl.DataFrame]:
                yield table(1)
                rejected.append(2)
                context.add_asset_metadata({"rejected": len(rejected)}, partition_key=context.partition_key)

            yield dg.MaterializeResult(value=rows())
            yield dg.AssetCheckResult(check_name="all_rows_are_valid", passed=not rejected)

        run = materialize(store, export)
        [event] = run.get_asset_materialization_events()
        assert event.materialization.metadata["rejected"].value == 1
        assert event.materialization.metadata["dagster/partition_row_count"].value == 1
        assert [check.passed for check in run.get_asset_check_evaluations()] == [False]


def materialize(store: Store, *assets: Any) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("opt_out_files", [FILE])
        return dg.materialize(
            assets, partition_key=FILE, instance=instance, resources={"parts": ParquetParts(lambda: store)}
        )
