"""Leave rows of a repeated full read unread whose bytes and mapping are the same as at their last capture.

A table is read in full again if its feed expired, or for a replay. Nearly all its rows are then unchanged; parsing and
transforming them would be three quarters of the work of such a read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sync_assets.dataverse.page_parser import AT_ONCE, Head, row_hashes
from sync_assets.mapping.table_mapping import TableMapping

SameRows = Callable[[Sequence[str], Sequence[int]], Sequence[int]]
"""Returns, for ids and row hashes, the indexes of rows that the ledger has with this hash (Captures.same_rows)."""
UnchangedRows = Sequence[tuple[str, int]]
"""(id in lower case, row hash) of each row left unread."""


class UnchangedRowFilter:
    """Splits the rows of a page into rows to read and unchanged rows.

    Args:
        mapping: Of the table.
        same_rows: Looks the rows up in the ledger.
    """

    def __init__(self, mapping: TableMapping, same_rows: SameRows) -> None:
        names = {"id": mapping.table_key.select_name}
        row = msgspec.defstruct("RowHead", [("id", str)], rename=names, gc=False)
        self._row: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._same_rows = same_rows
        self._fingerprint = mapping.fingerprint

    def part(self, head: Head) -> tuple[Head, UnchangedRows]:
        """Return the page with the rows to read only, and the unchanged rows.

        A page that is not valid, or that has an id twice, is returned whole: the parser reports what is wrong with it.
        """
        rows: list[Any] = []
        hashes: list[int] = []
        try:
            for at in range(0, len(head.value), AT_ONCE):
                raws = head.value[at : at + AT_ONCE]
                rows += self._row.decode_lines(b"\n".join(raws))
                hashes += row_hashes(raws, self._fingerprint)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return head, ()
        ids = [row.id.lower() for row in rows]
        if len(set(ids)) < len(ids):
            return head, ()  # the last row of an id counts, which may be changed or unchanged
        same = self._same_rows(ids, hashes)
        left = set(same)
        to_read = [raw for index, raw in enumerate(head.value) if index not in left]
        return Head(to_read, head.next_link, head.delta_link), [(ids[at], hashes[at]) for at in same]
