"""Keeps a stream of frames as the parts of a partition: all of them are seen at once, when the last one is there.

Killed at any moment it leaves what readers saw before, or all that is new; the rest is swept later (store.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import polars as pl

from sync_assets.parquet.store import Part, Store, StoreError

ROWS_OF_A_PART = 50_000
_WHOLE = "all"
"""The one manifest of a partition whose content every run replaces."""


def write_parts(
    store: Store,
    asset: Sequence[str],
    partition: str,
    run: str,
    frames: Iterable[pl.DataFrame],
    *,
    append: bool = False,
    rows: int = ROWS_OF_A_PART,
) -> list[Part]:
    """Writes parts `<run>-00001`… of at most `rows` rows, one of them in memory, and makes them what is seen.

    They replace what stood in the partition. With `append` only what the same run has said before: what several runs
    say adds up. Two runs at once do no harm: the last one to end stands, or both with `append`. Raises StoreError, and
    whatever `frames` raises; readers then see what they saw before.
    """
    written = _write(store, asset, partition, run, in_parts(frames, rows))
    manifest = run if append else _WHOLE
    former = store.published(asset, partition)  # asked now: another run may have ended meanwhile
    store.publish(asset, partition, manifest, written)
    replaced = {manifest: former.get(manifest, [])} if append else former
    for name in replaced.keys() - {manifest}:
        store.withdraw(asset, partition, name)
    store.remove(asset, partition, *(part.name for parts in replaced.values() for part in parts))
    store.sweep(asset, partition)
    return written


def _write(store: Store, asset: Sequence[str], partition: str, run: str, frames: Iterable[pl.DataFrame]) -> list[Part]:
    """Parts beside those that stand there; none of them if it fails."""
    # The same run once more must not write over what it has published: its numbers go on.
    there = [name.rpartition("-") for name in store.parts(asset, partition)]
    numbers = [int(number) for of, _, number in there if of == run and number.isdecimal()]
    written: list[Part] = []
    try:
        for number, frame in enumerate(frames, max(numbers, default=0) + 1):
            written.append(store.write(asset, partition, f"{run}-{number:05}", frame))
    except BaseException:
        with suppress(StoreError):  # what is left is no harm, and what went wrong first is to be told
            store.remove(asset, partition, *(part.name for part in written))
        raise
    return written


def in_parts(frames: Iterable[pl.DataFrame], most: int) -> Iterator[pl.DataFrame]:
    """The same rows in the same order, in frames of at most `most` rows, few rather than many.

    Frames of different columns or types are not put together. If there are no rows at all but a frame, it is given: its
    columns are known then.
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
    elif columns is not None:  # there was no row: `held` is not empty again once it has been filled
        yield columns
