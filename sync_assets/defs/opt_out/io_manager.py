"""Dagster IO manager of the opt-out assets: stores a stream of Polars frames as the Parquet parts of a partition.

A thin layer: parts are written in `parquet/writer.py`, and published and read in `parquet/store.py`.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Callable, Iterable
from functools import cached_property

import dagster as dg
import polars as pl

from sync_assets.errors import SyncAssetsError
from sync_assets.parquet.store import Parts, Store
from sync_assets.parquet.writer import write_parts


class ParquetParts(dg.IOManager):
    """Stores an iterable of Polars frames as the parts of the run's partition, in place of the former; loads `Parts`.

    A streaming asset must yield its generator inside a result: Dagster takes a returned generator for the generator of
    the asset's results.

    Args:
        store: Opens the store on first use.
    """

    def __init__(self, store: Callable[[], Store]) -> None:
        self._open = store

    @cached_property
    def _store(self) -> Store:
        return self._open()

    def handle_output(self, context: dg.OutputContext, obj: Iterable[pl.DataFrame] | None) -> None:
        """Write the asset's frames part by part. If `obj` is None, the partition is left as it is.

        Adds metadata: the partition's URL, its rows, parts and bytes, and the rows of this run. No content.
        """
        if obj is None:
            return
        asset, partition = context.asset_key.path, _partition_of(context)
        written = write_parts(self._store, asset, partition, context.run_id, obj)
        url, now = self._store.url(asset, partition), Parts(self._store, asset, [partition])
        context.add_output_metadata(
            {
                **({"dagster/uri": url} if "://" in url else {"path": dg.MetadataValue.path(url)}),
                "dagster/partition_row_count": now.rows,
                "rows_written": sum(part.rows for part in written),
                "parts": len(now),
                "bytes": now.size,
            }
        )

    def load_input(self, context: dg.InputContext) -> Parts:
        """Return the parts of all partitions that the reader depends on, in order; empty if none was written."""
        return Parts(self._store, context.asset_key.path, list(context.asset_partition_keys))


def _partition_of(context: dg.OutputContext) -> str:
    keys = context.asset_partition_keys
    if len(keys) != 1:
        raise SyncAssetsError(
            f"A run of {len(keys)} partitions of {context.asset_key.to_user_string()} cannot be kept: none knows which "
            "rows belong to which.",
            "Run each partition by itself.",
        )
    return keys[0]
