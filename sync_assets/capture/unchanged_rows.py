"""Rows that a full read brings as they were captured last: left unread, since nothing can follow from them.

A table is read in full once more when its feed has expired, or when somebody asks for it. Nearly all its rows are then
byte for byte what they were; to parse and transform them is three quarters of the work of such a read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec
import polars as pl

from sync_assets.dataverse.page_parser import AT_ONCE, Head, row_hashes
from sync_assets.mapping.table_mapping import MODIFIED, TableMapping
from sync_assets.mapping.transform import last_changed

SameRows = Callable[[Sequence[str], Sequence[int]], Sequence[int]]
"""Ids and row hashes -> the indexes of those that the ledger knows just so (Ledger.same_rows)."""


@dataclass(frozen=True, slots=True)
class UnchangedRows:
    """`rows`: (id in lower case, row hash). `days`: rows by the UTC day of their last change."""

    rows: Sequence[tuple[str, int]] = ()
    days: Counter[date] = field(default_factory=Counter[date])


class UnchangedRowFilter:
    """Parts the rows of pages into those that are to be read and those that need not be."""

    def __init__(self, mapping: TableMapping, same_rows: SameRows) -> None:
        names = {"id": mapping.table_key.select_name, "modified": MODIFIED}
        row = msgspec.defstruct("RowHead", [("id", str), ("modified", str | None)], rename=names, gc=False)
        self._row: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._same_rows = same_rows

    def part(self, head: Head) -> tuple[Head, UnchangedRows]:
        """The page with the rows that are to be read, and the others. All are to be if the page is not plainly one of
        different rows: what is wrong with it is for whoever parses it to say."""
        rows: list[Any] = []
        hashes: list[int] = []
        try:
            for at in range(0, len(head.value), AT_ONCE):
                raws = head.value[at : at + AT_ONCE]
                rows += self._row.decode_lines(b"\n".join(raws))
                hashes += row_hashes(raws)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return head, UnchangedRows()
        ids = [row.id.lower() for row in rows]
        if len(set(ids)) < len(ids):
            return head, UnchangedRows()  # the last one of an id counts, which may be either kind
        same = self._same_rows(ids, hashes)
        left = set(same)
        modified = pl.DataFrame({MODIFIED: [rows[index].modified for index in same]}, {MODIFIED: pl.String})
        days = Counter[date](last_changed(modified).to_list())
        to_read = [raw for index, raw in enumerate(head.value) if index not in left]
        return Head(to_read, head.next_link, head.delta_link), UnchangedRows(
            [(ids[at], hashes[at]) for at in same], days
        )
