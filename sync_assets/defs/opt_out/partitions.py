"""Dynamic partitions of the assets that process an export file: one for each file. `opt_out/changes` has none."""

from __future__ import annotations

import dagster as dg
from sqlalchemy import exc

from sync_assets.defs.partitions import TABLE_TAG, under_way_tag

opt_out_files = dg.DynamicPartitionsDefinition(name="opt_out_files")

WORK = "opt-outs"
"""Used instead of a table in the tags of opt-out runs (`defs/partitions.py`); the sensors request one at a time."""


def add_partition(instance: dg.DagsterInstance, partition: str) -> None:
    """Add a partition to the instance if it is missing.

    On SQLite, Dagster checks and inserts in two steps; another `sync` or a sensor may add the partition in between.
    """
    try:
        instance.add_dynamic_partitions(str(opt_out_files.name), [partition])
    except exc.IntegrityError:
        if not instance.has_dynamic_partition(str(opt_out_files.name), partition):
            raise


def run_tags() -> dict[str, str]:
    """Return the tags of a run of opt-outs."""
    return {TABLE_TAG: WORK, under_way_tag(WORK): "yes"}
