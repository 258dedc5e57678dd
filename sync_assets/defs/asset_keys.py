"""The keys of all assets. The constants are those without the prefix of an installation, see `key_of`."""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

import dagster as dg

from sync_assets.checks.rules import Side
from sync_assets.config.models import TableConfig
from sync_assets.runtime.configuration import Configuration

EXPORT = dg.AssetKey(["campaign", "opt_out_export"])
DECISIONS = dg.AssetKey(["opt_out", "decisions"])
CHANGES = dg.AssetKey(["opt_out", "changes"])
CONTACT_OPT_OUT = dg.AssetKey(["d365", "contact_opt_out"])
PROFILE_OPT_OUT = dg.AssetKey(["campaign", "profile_opt_out"])
REPORT = dg.AssetKey(["report", "daily_sync"])
RESULTS = [dg.AssetKey(["results", name]) for name in ("deliveries", "decisions", "daily")]


def key_of(key: dg.AssetKey, configuration: Configuration) -> dg.AssetKey:
    """Return the key with the prefix of the installation."""
    return dg.AssetKey([*configuration.installation.key_prefix, *key.path])


def d365_key(config: TableConfig, configuration: Configuration) -> dg.AssetKey:
    """Return the key of the asset that captures a table: d365/<table>."""
    return key_of(dg.AssetKey(["d365", config.table]), configuration)


def campaign_key(config: TableConfig, configuration: Configuration) -> dg.AssetKey:
    """Return the key of the asset that pushes a table: campaign/<resource>."""
    return key_of(dg.AssetKey(["campaign", config.resource]), configuration)


def audit_key(config: TableConfig, configuration: Configuration) -> dg.AssetKey:
    """Return the key of the resource's audit asset: campaign/<resource>_audit."""
    return key_of(dg.AssetKey(["campaign", f"{config.resource}_audit"]), configuration)


def side_key(config: TableConfig, side: Side, configuration: Configuration) -> dg.AssetKey:
    """Return the key of the table's asset on a side."""
    return d365_key(config, configuration) if side == "d365" else campaign_key(config, configuration)


def all_keys(configuration: Configuration) -> frozenset[dg.AssetKey]:
    """Return the keys of all assets, those of opt-outs and results also if they are not configured."""
    tables = configuration.config.tables
    of_tables = [key(table, configuration) for table in tables for key in (d365_key, campaign_key, audit_key)]
    others = (EXPORT, DECISIONS, CHANGES, CONTACT_OPT_OUT, PROFILE_OPT_OUT, REPORT, *RESULTS)
    return frozenset([*of_tables, *(key_of(key, configuration) for key in others)])


def file_chain(configuration: Configuration) -> list[dg.AssetKey]:
    """Return the assets that a run of an export file materialises, in order."""
    further = [PROFILE_OPT_OUT] if configuration.config.opt_out.direction == "bidirectional" else []
    return [key_of(key, configuration) for key in (EXPORT, DECISIONS, CONTACT_OPT_OUT, *further)]
