"""Build the metadata of assets that describes them: columns, lineage, links to both systems, code references.

Here: metadata of the table assets, from the mapping and the known types; and helpers that all assets share. The numbers
of a run are in `table_work.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from sync_assets.checks.known_types import KnownTypes
from sync_assets.config.models import Config, TableConfig
from sync_assets.defs.asset_keys import campaign_key, d365_key
from sync_assets.mapping.column_pairs import attribute_descriptions, column_descriptions, column_pairs, key_column
from sync_assets.runtime.configuration import Configuration

SCHEMA, LINEAGE, REFERENCES = "dagster/column_schema", "dagster/column_lineage", "dagster/code_references"
TABLE_NAME = "dagster/table_name"
"""Metadata keys that Dagster's UI displays in its own way. It links assets of one table name, in all installations."""
NO_TYPE = ""
"""Type of a column that is not known: neither `init` nor a run has stored it."""
KEY = dg.TableColumnConstraints(nullable=False, unique=True)


# --- Columns ----------------------------------------------------------------------------------------------------------


def d365_schema(config: Config, table: TableConfig, types: KnownTypes) -> dg.TableSchema:
    """Return the mapped columns of a Dynamics 365 table, described by the attribute each is written to."""
    known = types.get("d365", {})
    return _schema(column_descriptions(config, table, known), key_column(table), known)


def campaign_schema(config: Config, table: TableConfig, types: KnownTypes) -> dg.TableSchema:
    """Return the mapped attributes of a resource, described by the column each comes from."""
    return _schema(attribute_descriptions(config, table), table.key, types.get("campaign", {}))


def _schema(texts: Mapping[str, str], key: str, types: Mapping[str, str]) -> dg.TableSchema:
    """Return columns with their descriptions.

    Only for asset definitions: if a run's result had columns as well, the UI would show their names in lower case.
    """
    columns = [
        dg.TableColumn(name, types.get(name, NO_TYPE), description=text, constraints=KEY if name == key else None)
        for name, text in texts.items()
    ]
    return dg.TableSchema(columns)


def campaign_lineage(configuration: Configuration, table: TableConfig) -> dg.TableColumnLineage:
    """Return the Dynamics 365 columns that each attribute comes from; a link also depends on the parent's key."""
    source = d365_key(table, configuration)
    deps = {table.key: [dg.TableColumnDep(source, key_column(table))]}
    for pair in column_pairs(configuration.config, table):
        parent_key = (
            [dg.TableColumnDep(campaign_key(pair.parent, configuration), pair.parent.key)] if pair.parent else []
        )
        deps.setdefault(pair.attribute, [dg.TableColumnDep(source, pair.column), *parent_key])
    return dg.TableColumnLineage(deps)


# --- Links, code, owners ----------------------------------------------------------------------------------------------


def links(configuration: Configuration, table: TableConfig) -> dict[str, dg.MetadataValue]:
    """Return URLs of the table's record list in Dynamics 365 and of the resource in Campaign's API."""
    d365, campaign = configuration.settings.links()
    urls: dict[str, dg.MetadataValue] = {}
    if d365:
        urls["dynamics_365"] = dg.MetadataValue.url(f"{d365}/main.aspx?pagetype=entitylist&etn={table.table}")
    if campaign:
        urls["campaign"] = dg.MetadataValue.url(f"{campaign}/campaign/{table.api}/{table.resource}")
    return urls


def code(config: Config, function: Callable[..., Any], *place: int | str) -> Mapping[str, Any]:
    """Return code references to a function and to a line of the configuration file.

    Args:
        config: The whole configuration.
        function: The function that does the asset's work.
        place: Path of a configuration entry, as in `"tables", 0`; no reference to the file if empty or not found.
    """
    sources: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        if place and (location := config.line_of(*place)):
            sources.append(
                dg.LocalFileCodeReference(file_path=location[0], line_number=location[1], label="configuration")
            )
        where = function.__code__
        sources.append(
            dg.LocalFileCodeReference(
                file_path=where.co_filename, line_number=where.co_firstlineno, label=function.__name__
            )
        )
        return {REFERENCES: dg.CodeReferencesMetadataValue(code_references=sources)}


def table_code(config: Config, table: TableConfig, function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return code references to a function and to a table in the configuration file."""
    at = [table_config.table for table_config in config.tables].index(table.table)
    return code(config, function, "tables", at)


def page(
    config: Config,
    function: Callable[..., Any],
    columns: Sequence[dg.TableColumn],
    deps: Mapping[str, list[dg.TableColumnDep]],
) -> dict[str, Any]:
    """Return the metadata of an opt-out asset's definition: its columns, where they come from, and code references."""
    metadata: dict[str, Any] = {SCHEMA: dg.TableSchema(list(columns)), **code(config, function, "opt_out")}
    return metadata | ({LINEAGE: dg.TableColumnLineage(deps)} if deps else {})
