"""The audit: every decision as a row of Parquet, kept before the decision counts, browsable by file and by day."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime

import polars as pl

from sync_assets.opt_out.tables import DECISIONS
from sync_assets.parquet.store import Part, Store

PARTS_TOGETHER = 50
"""Parts that one manifest names: it is written anew with each of them, and a first file may have millions of rows."""


def folder_of_changes(moment: datetime) -> str:
    """Return where decisions that need no file are kept: in the place of a file's partition, one for each UTC day."""
    return f"(changes)@{moment.astimezone(UTC):%Y-%m-%d}"


class DecisionLog:
    """The decisions of one run, beside those that other runs left in the partition. Each frame is visible at once."""

    def __init__(self, store: Store, partition: str, run_id: str) -> None:
        self._store, self._partition = store, partition
        self._run_id = run_id
        self._begin()
        self.reasons: Counter[tuple[str, str]] = Counter()
        """(reason, side written or "") -> how many."""

    def _begin(self) -> None:
        """A manifest of its own: what several of them name adds up."""
        self._run = f"{self._run_id}-{uuid.uuid4().hex[:8]}"  # a step that is tried again keeps its run's id
        self._parts: list[Part] = []

    def keep(self, frame: pl.DataFrame) -> None:
        if not frame.height:
            return
        if len(self._parts) == PARTS_TOGETHER:
            self._begin()
        asset = DECISIONS
        name = f"{self._run}-{len(self._parts) + 1:05}"
        self._parts.append(self._store.write(asset, self._partition, name, frame))
        self._store.publish(asset, self._partition, self._run, self._parts)
        counted = frame.group_by("reason", "write").len()
        for reason, write, number in counted.iter_rows():
            self.reasons[reason, write or ""] += number

    @property
    def url(self) -> str:
        return self._store.url(DECISIONS, self._partition)
