"""Write a stream of frames as the parts of a partition, which become visible together after the last one.

Invariant: a kill at any moment leaves readers with the former parts or all new ones. Leftovers are swept later
(store.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import polars as pl

from sync_assets.parquet.store import Part, Store, StoreError

ROWS_OF_A_PART = 50_000
_WHOLE = "all"
"""Name of the manifest of a partition that each run replaces."""


def write_parts(
    store: Store, asset: Sequence[str], partition: str, run: str, frames: Iterable[pl.DataFrame]
) -> list[Part]:
    """Write parts `<run>-00001`… and publish them in place of all former ones. One part is in memory at a time.

    Two concurrent runs do not interfere: the parts of the last one to end are visible.

    Args:
        store: the store.
        asset: key of the asset.
        partition: key of the partition.
        run: name of the run, the prefix of its parts.
        frames: the rows.

    Raises:
        StoreError: a part could not be written. Readers then see the former parts; so they do if `frames` raises.
    """
    written = _write(store, asset, partition, run, in_parts(frames, ROWS_OF_A_PART))
    former = store.published(asset, partition)  # read only now: another run may have ended meanwhile
    store.publish(asset, partition, _WHOLE, written)
    store.remove(asset, partition, *(part.name for part in former.get(_WHOLE, ())))
    store.sweep(asset, partition)
    return written


def _write(store: Store, asset: Sequence[str], partition: str, run: str, frames: Iterable[pl.DataFrame]) -> list[Part]:
    """Write parts in addition to the existing ones; delete them if it fails."""
    # A repeated run must not overwrite its published parts, so the numbers continue.
    there = [name.rpartition("-") for name in store.parts(asset, partition)]
    numbers = [int(number) for of, _, number in there if of == run and number.isdecimal()]
    written: list[Part] = []
    try:
        for number, frame in enumerate(frames, max(numbers, default=0) + 1):
            written.append(store.write(asset, partition, f"{run}-{number:05}", frame))
    except BaseException:
        with suppress(StoreError):  # leftovers do no harm, and the first error must be raised
            store.remove(asset, partition, *(part.name for part in written))
        raise
    return written


def in_parts(frames: Iterable[pl.DataFrame], most: int) -> Iterator[pl.DataFrame]:
    """Combine and split frames to as few frames as possible of at most `most` rows, in the same order.

    Frames with different columns or types are not combined. If no frame has a row, one empty frame is yielded, for its
    columns.
    """
    held: list[pl.DataFrame] = []
    columns: pl.DataFrame | None = None
    for frame in [frames] if isinstance(frames, pl.DataFrame) else frames:
        if not isinstance(frame, pl.DataFrame):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"Only Polars data frames can be kept, no {type(frame).__name__}.")
        if columns is None:
            columns = frame.clear()
        for piece in frame.iter_slices(most):
            rows = sum(one.height for one in held)
            if held and (rows + piece.height > most or piece.schema != held[0].schema):
                yield pl.concat(held)
                held = []
            held.append(piece)
    if held:
        yield pl.concat(held)
    elif columns is not None:  # there was no row: once filled, `held` is never empty here
        yield columns
