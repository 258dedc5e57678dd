"""The keys of the opt-out assets."""

# No `from __future__ import annotations`, as in the modules whose annotations Dagster reads at run time.

import dagster as dg

from sync_assets.config.models import Config

EXPORT = dg.AssetKey(["campaign", "opt_out_export"])
DECISIONS = dg.AssetKey(["opt_out", "decisions"])
CHANGES = dg.AssetKey(["opt_out", "changes"])
CONTACT_OPT_OUT = dg.AssetKey(["d365", "contact_opt_out"])
PROFILE_OPT_OUT = dg.AssetKey(["campaign", "profile_opt_out"])


def file_chain(config: Config) -> list[dg.AssetKey]:
    """Return the assets that a run of an export file materialises, in order."""
    keys = [EXPORT, DECISIONS, CONTACT_OPT_OUT]
    return [*keys, PROFILE_OPT_OUT] if config.opt_out.direction == "bidirectional" else keys
