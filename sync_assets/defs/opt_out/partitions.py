"""Dynamic partitions of the assets that process an export file: one for each file. `opt_out/changes` has none."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from sqlalchemy import exc

from sync_assets.defs.opt_out.asset_keys import CHANGES
from sync_assets.defs.partitions import TABLE_TAG, under_way_tag
from sync_assets.errors import SyncAssetsError

opt_out_files = dg.DynamicPartitionsDefinition(name="opt_out_files")

WORK = "opt-outs"
"""Used instead of a table in the tags of opt-out runs (`defs/partitions.py`); the sensors request one at a time."""
_WITHOUT_FILE = ("(profiles)@", "(changes)@")
"""Prefixes of partition keys that earlier versions added for work without a file."""


def add_partition(instance: dg.DagsterInstance, partition: str) -> None:
    """Add a partition to the instance if it is missing.

    On SQLite, Dagster checks and inserts in two steps; another `sync` or a sensor may add the partition in between.
    """
    try:
        instance.add_dynamic_partitions(str(opt_out_files.name), [partition])
    except exc.IntegrityError:
        if not instance.has_dynamic_partition(str(opt_out_files.name), partition):
            raise


def without_file(partitions: Sequence[str]) -> list[str]:
    """Return the partitions that an earlier version added for work without a file."""
    return [partition for partition in partitions if partition.startswith(_WITHOUT_FILE)]


def require_file(partition: str) -> None:
    """Raise SyncAssetsError if an earlier version added the partition for work without a file."""
    if without_file([partition]):
        raise SyncAssetsError(
            f"The partition {partition} comes from an earlier version and stands for no file.",
            f"Materialise {CHANGES.to_user_string()} instead; the sensor opt_out_file removes such partitions.",
        )


def run_tags() -> dict[str, str]:
    """Return the tags of a run of opt-outs."""
    return {TABLE_TAG: WORK, under_way_tag(WORK): "yes"}
