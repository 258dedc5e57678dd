"""The Dagster IO manager of the opt-out assets: streams of Polars frames, kept as Parquet parts of a partition.

Thin: how they are kept is said in writing.py, and where in store.py.
"""

# No `from __future__ import annotations`: Dagster looks at the type of `context` itself.

from collections.abc import Callable, Iterable
from functools import cached_property

import dagster as dg
import polars as pl

from sync_assets.errors import SyncAssetsError
from sync_assets.parquet.store import Parts, Store
from sync_assets.parquet.writer import ROWS_OF_A_PART, write_parts

_UNPARTITIONED = "all"


class ParquetParts(dg.IOManager):
    """Takes an iterable of Polars frames, gives `Parts`. `store`: opens the store when it is first needed.

    A run replaces what stood in its partition, with `append` only what it has said itself (see `write_parts`). An asset
    that streams yields `MaterializeResult(value=<generator>)`: Dagster takes a generator that is returned for its own.
    """

    def __init__(self, store: Callable[[], Store], *, append: bool = False, rows: int = ROWS_OF_A_PART) -> None:
        self._open = store
        self._append = append
        self._rows = rows

    @cached_property
    def _store(self) -> Store:
        return self._open()

    def handle_output(self, context: dg.OutputContext, obj: Iterable[pl.DataFrame] | None) -> None:
        """Writes part by part what the asset streams. None: nothing is written, what stands there stays.

        Metadata: where the partition stands, rows and bytes of all that is seen there, rows of this run; no content.
        """
        if obj is None:
            return
        asset, partition = context.asset_key.path, _partition_of(context)
        written = write_parts(self._store, asset, partition, context.run_id, obj, append=self._append, rows=self._rows)
        url, now = self._store.url(asset, partition), Parts(self._store, asset, [partition])
        context.add_output_metadata(
            {
                **({"dagster/uri": url} if "://" in url else {"path": dg.MetadataValue.path(url)}),
                "dagster/partition_row_count" if context.has_asset_partitions else "dagster/row_count": now.rows,
                "rows_written": sum(part.rows for part in written),
                "parts": len(now),
                "bytes": now.size,
            }
        )

    def load_input(self, context: dg.InputContext) -> Parts:
        """Of all partitions that the reader depends on, one after the other; empty if none was ever written."""
        partitions = context.asset_partition_keys if context.has_asset_partitions else [_UNPARTITIONED]
        return Parts(self._store, context.asset_key.path, list(partitions))


def _partition_of(context: dg.OutputContext) -> str:
    if not context.has_asset_partitions:
        return _UNPARTITIONED
    keys = context.asset_partition_keys
    if len(keys) != 1:
        raise SyncAssetsError(
            f"A run of {len(keys)} partitions of {context.asset_key.to_user_string()} cannot be kept: none knows which "
            "rows belong to which.",
            "Run each partition by itself.",
        )
    return keys[0]
