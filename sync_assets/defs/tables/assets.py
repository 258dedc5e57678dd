"""Define the assets of the mapped tables: `d365/<table>` captures the change feed, `campaign/<resource>` pushes it.

Tables that are connected by links share one op. It works in link order, can run any subset of its assets, and ends when
nothing is due (`table_run.py`). Another run follows the changes, and materialises the assets, too (`defs/follower`).

Here: the definitions. Metadata of a run is in `table_work.py`, checks in `checks.py`, columns, links and code
references in `asset_metadata.py`.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from sync_assets.checks import known_types
from sync_assets.checks.known_types import KnownTypes
from sync_assets.checks.rules import SIDES, Side
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import campaign_key, d365_key, side_key
from sync_assets.defs.partitions import add_tags, daily
from sync_assets.defs.resources import OF_TABLES, bound, resource_names
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import asset_metadata
from sync_assets.defs.tables.checks import check_alone, table_checks
from sync_assets.defs.tables.table_run import TableRun
from sync_assets.flows import RunOutcome, capture_table, push_table
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime

FRESH = timedelta(hours=3)
"""Freshness limit. The follower materialises today's partition hourly, even without changes (follower/reports.py)."""
NAMED_TABLES = 3
"""Most tables of a group that the name of its step lists: the UI cuts long names."""


class TableRunConfig(dg.Config):
    force: bool = Field(False, description="send the rows of past days even if Campaign acknowledged the same values")


def table_assets(runtime: Runtime, outcome: RunOutcome | None = None) -> list[dg.AssetsDefinition]:
    """Return the assets of all mapped tables, one definition for each group of linked tables.

    Args:
        runtime: Of the definitions.
        outcome: Receives the result of a run, for a caller in the same process.
    """
    types = known_types.read(runtime.settings.beside)
    return [_group(tables, runtime, outcome, types) for tables in linked(runtime.config.in_link_order)]


def linked(tables: Sequence[TableConfig]) -> list[list[TableConfig]]:
    """Group tables that are connected by links, directly or through others. Keeps the link order within a group."""
    groups: list[list[TableConfig]] = []
    for config in tables:
        parents = {config.table, *(link.table for link in config.links)}
        near = [
            group
            for group in groups
            if any(table.table in parents or config.table in {link.table for link in table.links} for table in group)
        ]
        groups = [group for group in groups if group not in near]
        groups.append([*(table for group in near for table in group), config])
    return groups


def _group(
    tables: Sequence[TableConfig], runtime: Runtime, outcome: RunOutcome | None, types: Mapping[str, KnownTypes]
) -> dg.AssetsDefinition:
    """Define the assets of a group of linked tables, which share one op. types: those of columns, by table."""
    names = [config.table for config in tables]
    further = names[1:] if len(names) <= NAMED_TABLES else [f"{len(names) - 1}_more"]

    @dg.multi_asset(
        name=runtime.installation.named("_and_".join([f"sync_{names[0]}", *further])),
        specs=[_spec(config, side, runtime, types.get(config.table, {})) for config in tables for side in SIDES],
        check_specs=[spec for config in tables for spec in table_checks(config, runtime)],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        description=f"Captures and sends, in link order: {', '.join(names)}.",
        required_resource_keys=resource_names(runtime, OF_TABLES),
    )
    def sync_tables(context: dg.AssetExecutionContext, config: TableRunConfig) -> Iterator[Any]:
        keys = {*context.selected_asset_keys, *(check.asset_key for check in context.selected_asset_check_keys)}
        selected_tables = [
            table.table for table in tables if keys & {d365_key(table, runtime), campaign_key(table, runtime)}
        ]
        with bound(runtime, context.resources, OF_TABLES) as run_runtime:
            add_tags(context, run_runtime, *selected_tables)
            if context.selected_asset_keys:
                yield from TableRun(context, run_runtime, tables, outcome or RunOutcome(), force=config.force).results()
            else:
                with failing("check"):
                    yield from check_alone(run_runtime, tables, context.selected_asset_check_keys)

    return sync_tables


def _spec(config: TableConfig, side: Side, configuration: Configuration, types: KnownTypes) -> dg.AssetSpec:
    """Return the spec of the table's asset on a side."""
    key, metadata, deps = side_key(config, side, configuration), dict[str, Any](), list[dg.AssetKey]()
    if side == "d365":
        owners, kinds, flow = configuration.config.owners.d365, {"dynamics365", "polars"}, capture_table
        metadata[asset_metadata.SCHEMA] = asset_metadata.d365_schema(configuration.config, config, types)
        description = (
            f"Rows of the Dynamics 365 table {config.table}, by the day on which their change was captured. Today's "
            "partition follows the change feed; a past day reads the rows that were modified on that day again."
        )
    else:
        owners, kinds, flow = configuration.config.owners.campaign, {"adobecampaign"}, push_table
        metadata[asset_metadata.SCHEMA] = asset_metadata.campaign_schema(configuration.config, config, types)
        metadata[asset_metadata.LINEAGE] = asset_metadata.campaign_lineage(configuration, config)
        parents = [campaign_key(configuration.config.table(link.table), configuration) for link in config.links]
        deps = [d365_key(config, configuration), *dict.fromkeys(parents)]
        description = (
            f"Records of the Campaign resource {config.resource}, in step with {config.table}. A run sends the pending "
            "records."
        )
    return dg.AssetSpec(
        key,
        deps=deps,
        group_name=configuration.installation.group(side),
        partitions_def=daily(configuration.config.runs.start_date),
        kinds=kinds,
        description=description,
        owners=list(owners),
        metadata={
            asset_metadata.TABLE_NAME: ".".join(key.path),
            **metadata,
            **asset_metadata.table_code(configuration.config, config, flow),
        },
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=FRESH, warn_window=FRESH * 2 / 3),
        tags={"sync/pii": "true"},
    )
