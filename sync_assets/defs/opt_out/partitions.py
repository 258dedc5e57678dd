"""Partitions of the assets that follow an opt-out file: one for each file. What needs no file is unpartitioned."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from sqlalchemy import exc

from sync_assets.defs.opt_out.asset_keys import CHANGES
from sync_assets.defs.partitions import TABLE_TAG, under_way_tag
from sync_assets.errors import SyncAssetsError

opt_out_files = dg.DynamicPartitionsDefinition(name="opt_out_files")

WORK = "opt-outs"
"""In the place of a table in the tags of runs (partitions.py): one of them at a time."""
_WITHOUT_FILE = ("(profiles)@", "(changes)@")
"""How the keys begin that earlier versions added to the set for work that needs no file."""


def add_partition(instance: dg.DagsterInstance, partition: str) -> None:
    """Make a partition known to Dagster, unless it is.

    On SQLite Dagster looks and then inserts, in two steps between which another `sync` or a sensor may have added it.
    """
    try:
        instance.add_dynamic_partitions(str(opt_out_files.name), [partition])
    except exc.IntegrityError:
        if not instance.has_dynamic_partition(str(opt_out_files.name), partition):
            raise


def without_file(partitions: Sequence[str]) -> list[str]:
    """Those of the partitions that an earlier version added and that stand for no file."""
    return [partition for partition in partitions if partition.startswith(_WITHOUT_FILE)]


def require_file(partition: str) -> None:
    """Raise SyncAssetsError if an earlier version added the partition and it stands for no file."""
    if without_file([partition]):
        raise SyncAssetsError(
            f"The partition {partition} comes from an earlier version and stands for no file.",
            f"Materialise {CHANGES.to_user_string()} instead; the sensor opt_out_file removes such partitions.",
        )


def run_tags() -> dict[str, str]:
    return {TABLE_TAG: WORK, under_way_tag(WORK): "yes"}
