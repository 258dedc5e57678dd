"""The keys of the opt-out assets."""

# No `from __future__ import annotations`: kept like the modules that Dagster looks into.

import dagster as dg

from sync_assets.config.models import Config
from sync_assets.opt_out import tables

EXPORT = dg.AssetKey(tables.EXPORT)
DECISIONS = dg.AssetKey(tables.DECISIONS)
CHANGES = dg.AssetKey(["opt_out", "changes"])
CONTACT_OPT_OUT = dg.AssetKey(["d365", "contact_opt_out"])
PROFILE_OPT_OUT = dg.AssetKey(["campaign", "profile_opt_out"])
PARQUET = "opt_out_parquet"
"""The IO manager."""


def file_chain(config: Config) -> list[dg.AssetKey]:
    """The assets that a run of a file materialises, in their order."""
    keys = [EXPORT, DECISIONS, CONTACT_OPT_OUT]
    return [*keys, PROFILE_OPT_OUT] if config.opt_out.direction == "bidirectional" else keys
