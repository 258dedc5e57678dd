"""Store every opt-out decision as a row of Parquet (the audit), partitioned by export file and by day.

Invariant: a decision is in the audit before it is stored in the ledger.
"""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import UTC, datetime

import polars as pl

from sync_assets.opt_out.tables import DECISIONS
from sync_assets.parquet.store import Part, Store

PARTS_TOGETHER = 50
"""Most parts per manifest: it is rewritten with each of them, and a first file may have millions of rows."""


def folder_of_changes(moment: datetime) -> str:
    """Return the partition of decisions made without a file, one per UTC day, in place of a file's partition."""
    return f"(changes)@{moment.astimezone(UTC):%Y-%m-%d}"


class DecisionLog:
    """The decisions of one run in a partition, in addition to those of other runs. Each frame is visible at once."""

    def __init__(self, store: Store, partition: str, run_id: str) -> None:
        self._store, self._partition = store, partition
        self._run_id = run_id
        self._begin()
        self.reasons: Counter[tuple[str, str]] = Counter()
        """(reason, system to be written or "") -> number of decisions."""

    def _begin(self) -> None:
        """Begin a new manifest: the parts of all manifests of a partition are visible together."""
        self._run = f"{self._run_id}-{uuid.uuid4().hex[:8]}"  # a retried step keeps its run's id
        self._parts: list[Part] = []

    def keep(self, frame: pl.DataFrame) -> None:
        """Write and publish decisions, in the columns of pending_decisions.SCHEMA."""
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
