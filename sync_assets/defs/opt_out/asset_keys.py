"""The keys of the opt-out assets (contract section 4), and whether there are any. Light: imported by all that asks."""

# No `from __future__ import annotations`: kept like the modules that Dagster looks into.

import dagster as dg

from sync_assets.config.models import Config
from sync_assets.config.opt_out import WRITES_D365

EXPORT = dg.AssetKey(["campaign", "opt_out_export"])
DECISIONS = dg.AssetKey(["opt_out", "decisions"])
CHANGES = dg.AssetKey(["opt_out", "changes"])
CONTACT_OPT_OUT = dg.AssetKey(["d365", "contact_opt_out"])
PROFILE_OPT_OUT = dg.AssetKey(["campaign", "profile_opt_out"])
REJECTED = ("campaign", "opt_out_rejected_rows")
"""Where rows that are not valid are kept, beside the assets."""
PARQUET = "opt_out_parquet"
"""The IO manager."""


def active(config: Config) -> bool:
    """Whether there are flows of opt-outs: not while they are disabled, and not in direction d365_to_campaign, where
    they are fields of the contact like any other."""
    return config.opt_out.direction in WRITES_D365


def attributes(config: Config) -> list[str]:
    """The mapped attributes of Campaign."""
    return [mapping.to for mapping in config.opt_out.mappings.values()]


def file_chain(config: Config) -> list[dg.AssetKey]:
    """The assets that a run of a file materialises, in their order."""
    keys = [EXPORT, DECISIONS, CONTACT_OPT_OUT]
    return [*keys, PROFILE_OPT_OUT] if config.opt_out.direction == "bidirectional" else keys
