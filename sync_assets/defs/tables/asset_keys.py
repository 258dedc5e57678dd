"""The keys of the assets of a mapped table."""

from __future__ import annotations

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.validation.findings import Side


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
