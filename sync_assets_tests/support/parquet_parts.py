"""Write parts of a few rows into a store of Parquet tables, and list its rows and files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from sync_assets.parquet.store import Parts, Store, encoded

EXPORT = ["campaign", "opt_out_export"]
KEY = "optout_24.csv@2026-11-24T04:00:00Z"
BUCKET = "acme-sync"
LATER = datetime.now(UTC) + timedelta(days=1)


def table(*ids: int) -> pl.DataFrame:
    return pl.DataFrame({"id": ids}, schema={"id": pl.Int64})


def publish(store: Store, partition: str, manifest: str, *parts: str) -> None:
    """Parts of one row each, whose id is the number of the part."""
    written = [store.write(EXPORT, partition, part, table(int(part.rpartition("-")[2]))) for part in parts]
    store.publish(EXPORT, partition, manifest, written)


def seen(store: Store, partition: str = KEY) -> list[int]:
    return [id_ for frame in Parts(store, EXPORT, [partition]) for id_ in frame["id"]]


def files(store: Store, partition: str = KEY) -> list[str]:
    """All that lies in the folder of a partition."""
    found = store._place.files("/".join([*EXPORT, encoded(partition)]))  # pyright: ignore[reportPrivateUsage]
    return sorted(file.name for file in found)
