"""The keys of all assets."""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

import dagster as dg

from sync_assets.checks.rules import Side
from sync_assets.config.models import Config, TableConfig

EXPORT = dg.AssetKey(["campaign", "opt_out_export"])
DECISIONS = dg.AssetKey(["opt_out", "decisions"])
CHANGES = dg.AssetKey(["opt_out", "changes"])
CONTACT_OPT_OUT = dg.AssetKey(["d365", "contact_opt_out"])
PROFILE_OPT_OUT = dg.AssetKey(["campaign", "profile_opt_out"])
REPORT = dg.AssetKey(["report", "daily_sync"])


def d365_key(config: TableConfig) -> dg.AssetKey:
    """Return the key of the asset that captures a table: d365/<table>."""
    return dg.AssetKey(["d365", config.table])


def campaign_key(config: TableConfig) -> dg.AssetKey:
    """Return the key of the asset that pushes a table: campaign/<resource>."""
    return dg.AssetKey(["campaign", config.resource])


def audit_key(config: TableConfig) -> dg.AssetKey:
    """Return the key of the resource's audit asset: campaign/<resource>_audit."""
    return dg.AssetKey(["campaign", f"{config.resource}_audit"])


def side_key(config: TableConfig, side: Side) -> dg.AssetKey:
    """Return the key of the table's asset on a side."""
    return d365_key(config) if side == "d365" else campaign_key(config)


def all_keys(config: Config) -> frozenset[dg.AssetKey]:
    """Return the keys of all assets, those of opt-outs also if they are disabled."""
    of_tables = [key(table) for table in config.tables for key in (d365_key, campaign_key, audit_key)]
    return frozenset([*of_tables, EXPORT, DECISIONS, CHANGES, CONTACT_OPT_OUT, PROFILE_OPT_OUT, REPORT])


def file_chain(config: Config) -> list[dg.AssetKey]:
    """Return the assets that a run of an export file materialises, in order."""
    keys = [EXPORT, DECISIONS, CONTACT_OPT_OUT]
    return [*keys, PROFILE_OPT_OUT] if config.opt_out.direction == "bidirectional" else keys
