"""Partitions of the opt-out assets: one for each file, one for each poll of profiles, one a day for changes in D365."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import dagster as dg
from sqlalchemy import exc

from sync_assets.partitions import TABLE_TAG, under_way_tag

opt_out_files = dg.DynamicPartitionsDefinition(name="opt_out_files")

PROFILES, CHANGES = "(profiles)", "(changes)"
"""What stands in the place of a file's name where there is none."""
WORK = "opt-outs"
"""In the place of a table in the tags of runs (partitions.py): one of them at a time."""


def profiles_partition(moment: datetime) -> str:
    """A poll of profiles through the API."""
    return f"{PROFILES}@{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def changes_partition(moment: datetime | None = None) -> str:
    """What is due without a file: changes in Dynamics 365, contacts released from a hold, retries; by UTC day."""
    return f"{CHANGES}@{(moment or datetime.now(UTC)).astimezone(UTC):%Y-%m-%d}"


def add_partition(instance: dg.DagsterInstance, partition: str) -> None:
    """Make a partition known to Dagster, unless it is.

    On SQLite Dagster looks and then inserts, in two steps between which another `sync` or a sensor may have added it.
    """
    try:
        instance.add_dynamic_partitions(str(opt_out_files.name), [partition])
    except exc.IntegrityError:
        if not instance.has_dynamic_partition(str(opt_out_files.name), partition):
            raise


def poll_of(partition: str) -> datetime | None:
    """When the poll of this partition began; None if it is none, or one that somebody made up in the UI."""
    name, _, moment = partition.rpartition("@")
    if name != PROFILES:
        return None
    with suppress(ValueError):
        return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return None


def run_tags() -> dict[str, str]:
    return {TABLE_TAG: WORK, under_way_tag(WORK): "yes"}
