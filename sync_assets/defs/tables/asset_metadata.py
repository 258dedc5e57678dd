"""What an asset's page shows besides the numbers of its runs: columns and where they go, links, code, owners.

Here: for the assets of a table, from the mapping and what a run learned of both systems; and what all assets share.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import Config, FieldMapping, TableConfig
from sync_assets.dataverse.metadata import Table
from sync_assets.defs.tables import check_results
from sync_assets.push.target import carried
from sync_assets.runtime.context import Runtime

SCHEMA, LINEAGE, REFERENCES = "dagster/column_schema", "dagster/column_lineage", "dagster/code_references"
"""Metadata that Dagster's UI knows."""
TYPES = "attribute_types"
NO_TYPE = ""
"""Of a definition's columns: the configuration does not have their types, a run's result does."""
COLUMNS_VERSION = "columns_version"
"""In the result of each run. The columns themselves are in those by which they changed."""
LOOK_BACK, AT_ONCE = 100, 10
"""Events among which the last version is looked for: a run that stays reports each minute."""
KEY = dg.TableColumnConstraints(nullable=False, unique=True)
KINDS = ("insert", "update", "delete", "read")
DAYS = 14


def d365_key(config: TableConfig) -> dg.AssetKey:
    return dg.AssetKey(["d365", config.table])


def campaign_key(config: TableConfig) -> dg.AssetKey:
    return dg.AssetKey(["campaign", config.resource])


# --- Columns ----------------------------------------------------------------------------------------------------------


def d365_schema(config: Config, table: TableConfig, found: Table | None = None) -> dg.TableSchema:
    """The mapped columns and where they go. found: what Dynamics 365 says of the table."""
    told = {name: f"to {table.resource}.{field.to}{_how(field)}" for name, field in table.fields.items()}
    told |= {
        link.field: f"to {table.resource}.{link.to}, the {config.table(link.table).resource} of this {table.table}"
        for link in table.links
    }
    told |= {
        name: f"to {table.resource}.{one.to} of new records; then by opt_out/changes"
        for name, one in carried(config, table.table).items()
        if name not in told
    }
    if found is None:
        return dg.TableSchema([dg.TableColumn(name, NO_TYPE, description=text) for name, text in told.items()])
    told = {found.key: f"to {table.resource}.{table.key}"} | told
    return dg.TableSchema(
        [
            dg.TableColumn(name, column.type, description=text, constraints=KEY if name == found.key else None)
            for name, text in told.items()
            if (column := found.columns.get(name))
        ]
    )


def campaign_schema(config: Config, table: TableConfig) -> dg.TableSchema:
    """The mapped attributes and where they come from. Of definitions alone: of columns that a run's result has as well
    the UI shows the names in small letters."""
    told = {table.key: f"the id of the {table.table} in Dynamics 365"}
    told |= {field.to: f"from {table.table}.{name}{_how(field)}" for name, field in table.fields.items()}
    for link in table.links:
        parent = config.table(link.table)
        told[link.to] = f"from {table.table}.{link.field}: the {parent.resource} by its {parent.key}"
    for name, one in carried(config, table.table).items():
        told.setdefault(one.to, f"from {table.table}.{name} for new records; then by opt_out/changes")
    return dg.TableSchema(
        [
            dg.TableColumn(name, NO_TYPE, description=text, constraints=KEY if name == table.key else None)
            for name, text in told.items()
        ]
    )


def campaign_types(config: Config, table: TableConfig, found: Resource) -> dg.MetadataValue:
    """The types of the mapped attributes, from what Campaign says of the resource."""
    names = (column.name for column in campaign_schema(config, table).columns)
    return check_results.table(
        ("attribute", "type"), [(name, one.type) for name in names if (one := found.attributes.get(name))]
    )


def campaign_lineage(config: Config, table: TableConfig) -> dg.TableColumnLineage:
    """Campaign attribute -> the columns of Dynamics 365 that it comes from; of links the parent's key as well."""
    source = d365_key(table)
    # Tables of contacts and custom entities name their key so (docs/references/dataverse.md 0); only activities do not.
    deps = {table.key: [dg.TableColumnDep(source, f"{table.table}id")]}
    deps |= {field.to: [dg.TableColumnDep(source, name)] for name, field in table.fields.items()}
    for link in table.links:
        parent = config.table(link.table)
        there = dg.TableColumnDep(campaign_key(parent), parent.key)
        deps[link.to] = [dg.TableColumnDep(source, link.field), there]
    for name, one in carried(config, table.table).items():
        deps.setdefault(one.to, [dg.TableColumnDep(source, name)])
    return dg.TableColumnLineage(deps)


def _how(field: FieldMapping) -> str:
    once = "" if field.apply_updates else "; on first load and replay only"
    return once + ("; cut to its length" if field.truncate else "")


def if_changed(instance: dg.DagsterInstance, key: dg.AssetKey, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run's result has of its asset's columns: their version, and them if it is a new one.

    Args:
        columns: Metadata by name, such as SCHEMA and LINEAGE. They are kilobytes, which each result would repeat.
    """
    text = "".join(dg.serialize_value(value) for value in columns.values())
    version = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return {COLUMNS_VERSION: version} | ({} if version == _last_version(instance, key) else dict(columns))


def _last_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> object:
    cursor: str | None = None
    for _ in range(LOOK_BACK // AT_ONCE):
        found = instance.fetch_materializations(key, limit=AT_ONCE, cursor=cursor)
        for record in found.records:
            noted = record.asset_materialization
            if noted and COLUMNS_VERSION in noted.metadata:
                return noted.metadata[COLUMNS_VERSION].value
        if not found.has_more:
            break
        cursor = found.cursor
    return None


# --- Links, code, owners ----------------------------------------------------------------------------------------------


def links(runtime: Runtime, table: TableConfig) -> dict[str, dg.MetadataValue]:
    """To the record lists of both systems: the page of Dynamics 365, and the list that Campaign's API serves."""
    d365, campaign = runtime.settings.links()
    found: dict[str, dg.MetadataValue] = {}
    if d365:
        found["dynamics_365"] = dg.MetadataValue.url(f"{d365}/main.aspx?pagetype=entitylist&etn={table.table}")
    if campaign:
        found["campaign"] = dg.MetadataValue.url(f"{campaign}/campaign/{table.api}/{table.resource}")
    return found


def code(config: Config, function: Callable[..., Any], *place: int | str) -> Mapping[str, Any]:
    """References to the line of the configuration at `place`, if any, and to the function that does the work."""
    sources: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        if place and (told := config.line_of(*place)):
            sources.append(dg.LocalFileCodeReference(file_path=told[0], line_number=told[1], label="configuration"))
        where = function.__code__
        sources.append(
            dg.LocalFileCodeReference(
                file_path=where.co_filename, line_number=where.co_firstlineno, label=function.__name__
            )
        )
        return {REFERENCES: dg.CodeReferencesMetadataValue(code_references=sources)}


def table_code(config: Config, table: TableConfig, function: Callable[..., Any]) -> Mapping[str, Any]:
    at = [one.table for one in config.tables].index(table.table)
    return code(config, function, "tables", at)


# --- Tables of numbers ------------------------------------------------------------------------------------------------


def calls_by_day(runtime: Runtime, now: datetime | None = None) -> dg.MetadataValue:
    """Engine calls of the last days, all tables together, by kind and against the day's budget."""
    today = (now or datetime.now(UTC)).date()
    by_day = runtime.ledger.engine_calls_by_day(today - timedelta(days=DAYS - 1), today)
    budget = runtime.config.guardrails.engine_calls_per_day
    rows: list[tuple[str | int, ...]] = []
    for day, calls in sorted(by_day.items(), reverse=True):
        total = sum(calls.values())
        share = (f"{total / budget:.0%}",) if budget else ()
        rows.append((day.isoformat(), *(calls.get(kind, 0) for kind in KINDS), total, *share))
    return check_results.table(("day", *KINDS, "all", *(("of budget",) if budget else ())), rows)
