"""Define the assets `results/deliveries`, `results/decisions` and `results/daily`: Parquet files of each day.

A run also deletes files older than `results.keep_days`, and writes those anew of which an id went (`results/days.py`).
Invariant: a preview has neither ids nor values, since Dagster keeps it.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import dagster as dg

from sync_assets.checks.rules import Rows
from sync_assets.config.models import Config
from sync_assets.defs.asset_keys import DECISIONS, RESULTS, campaign_key, key_of
from sync_assets.defs.partitions import daily
from sync_assets.defs.resources import LEDGER, bound, resource_names
from sync_assets.defs.results import metadata
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import asset_metadata
from sync_assets.ledger.repositories.results import ResultName
from sync_assets.ledger.times import iso
from sync_assets.results.days import Written, folder, write_anew, write_day
from sync_assets.results.stores import Folder, Store, azure, s3
from sync_assets.results.tables import COLUMNS
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime

S3 = "s3"
"""The resource of dagster-aws, where `results.to` is an `s3://` URL."""
TEXTS: dict[ResultName, str] = {
    "deliveries": "Each request that Campaign acknowledged or rejected, and each row with a new validation error.",
    "decisions": "Each decision about an opt-out.",
    "daily": "Totals by table.",
}
HIDDEN = {"deliveries": ("id", "run"), "decisions": ("contact", "d365", "campaign", "value")}
"""Columns that a preview leaves out."""


def result_assets(runtime: Runtime, *, opt_outs: bool) -> list[dg.AssetsDefinition]:
    """Define the assets. opt_outs: the asset opt_out/decisions exists."""
    sent = [campaign_key(table, runtime) for table in runtime.config.in_link_order]
    decided = [dg.AssetDep(key_of(DECISIONS, runtime), partition_mapping=dg.AllPartitionMapping())]
    deps = {"deliveries": sent, "decisions": decided if opt_outs else [], "daily": [key_of(RESULTS[0], runtime)]}
    return [_asset(runtime, name, deps[name]) for name in TEXTS]


def result_resources(configuration: Configuration) -> dict[str, Any]:
    """Return the resource that the place of the results needs, by name."""
    results = configuration.config.results
    if not (results and results.to.startswith("s3://")):
        return {}
    from dagster_aws.s3 import S3Resource  # noqa: PLC0415 - each run loads the definitions anew

    return {configuration.installation.named(S3): S3Resource()}


def _asset(runtime: Runtime, name: ResultName, deps: Iterable[Any]) -> dg.AssetsDefinition:
    columns = [dg.TableColumn(column, kind, description=text) for column, (kind, text) in COLUMNS[name].items()]
    resources = resource_names(runtime, [LEDGER]) | result_resources(runtime).keys()

    spec = dg.AssetSpec(
        key_of(dg.AssetKey(["results", name]), runtime),
        deps=deps,
        group_name=runtime.installation.group("results"),
        kinds={"parquet", "polars"},
        owners=list(runtime.config.owners.report),
        description=f"{TEXTS[name]} A Parquet file for each UTC day; today's has the day so far.",
        metadata={
            asset_metadata.SCHEMA: dg.TableSchema(columns),
            **asset_metadata.code(runtime.config, write_day, "results"),
        },
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=50), warn_window=timedelta(hours=26)
        ),
        partitions_def=daily(runtime.config.runs.start_date),
    )

    @dg.multi_asset(
        name=runtime.installation.named(f"results_{name}"),
        specs=[spec],
        backfill_policy=dg.BackfillPolicy.single_run(),
        required_resource_keys=resources,
    )
    def result(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        results, days = runtime.config.results, [date.fromisoformat(key) for key in context.partition_keys]
        assert results
        with bound(runtime, context.resources, [LEDGER]) as run_runtime, failing("writing of results"):
            store, ledger = _store(run_runtime.config, context.resources, runtime), run_runtime.ledger
            files = [write_day(ledger, store, name, day, results.keep_days) for day in days]
            anew = write_anew(ledger, store, name, results.keep_days)
        return dg.MaterializeResult(metadata=_metadata(name, files, anew))

    return result


def _store(config: Config, resources: Any, configuration: Configuration) -> Store:
    root = folder(config)
    if root.startswith("s3://"):
        return s3(root, getattr(resources, configuration.installation.named(S3)))  # it attaches its client
    return azure(root) if root.startswith("abfss://") else Folder(root)


def _metadata(name: ResultName, files: list[Written], anew: list[date]) -> dict[str, Any]:
    last = files[-1]
    head = last.head.drop(HIDDEN.get(name, ()))
    moments = [[iso(value) if hasattr(value, "tzinfo") else value for value in row] for row in head.rows()]
    rows = [["" if value is None else value for value in row] for row in moments]
    numbers = {
        "dagster/partition_row_count": sum(file.rows for file in files),
        "bytes": sum(file.size for file in files),
        "days_written_anew": len(anew),
        "preview": Rows(tuple(head.columns), rows),
    }
    return {**metadata(numbers), "path": dg.MetadataValue.path(last.file)}
