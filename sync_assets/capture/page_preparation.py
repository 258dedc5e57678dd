"""Prepare a page of Dynamics 365 rows for the ledger: deduplicate, filter and transform them, in that order. Pure.

This is the part of capture that needs a processor only, so that a page is prepared while the one before is stored.
Before that, a repeated full read (after the feed expired, or for a replay) leaves rows unread whose bytes and mapping
are the same as at their last capture: parsing and transforming them would be three quarters of its work.

Invariant: if a page of changes has a row several times, only the newest one counts, also for the filter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from sync_assets.dataverse import page_parser
from sync_assets.dataverse.metadata import ColumnType
from sync_assets.dataverse.page_parser import AT_ONCE, Head, Page, PageParser, row_hashes
from sync_assets.ledger.prepared_page import ROW_HASH, ROW_VERSION, LedgerPage
from sync_assets.mapping.filters import filter_rows
from sync_assets.mapping.mapping_changes import rows_under_earlier_mapping
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.mapping.transform import convert, last_of_each, opted_out, replace_values, written_attributes
from sync_assets.mapping.unlabelled_options import unknown_codes

SameRows = Callable[[Sequence[str], Sequence[int]], Sequence[int]]
"""Returns, for ids and row hashes, the indexes of rows that the ledger has with this hash (Captures.same_rows)."""
UnchangedRows = Sequence[tuple[str, int]]
"""(id in lower case, row hash) of each row left unread."""


class UnchangedRowFilter:
    """Splits the rows of a page into rows to read and unchanged rows, which `same_rows` finds in the ledger."""

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


@dataclass(frozen=True, slots=True)
class PreparedPage:
    """A page of rows, transformed, ready for the ledger.

    Attributes:
        read: Number of rows that Dynamics 365 sent.
        rows: As Ledger.captures.save_page takes them.
        deleted: Ids of tombstones.
        both_ways: True if an id is both a row and a tombstone.
        left: Versions of rows that the filter excludes, by id.
        opt_outs: Of all rows, also of those in `left`; see `mapping.transform.opted_out`.
        unchanged: (id, row hash) of rows that are unchanged since their last capture.
        older, next_link, delta_link: As in `dataverse.page_parser.Page`.
        unknown_codes: Option numbers without a label, by column.
    """

    read: int
    rows: LedgerPage
    deleted: list[str]
    both_ways: bool
    left: dict[str, int | None]
    opt_outs: pl.DataFrame | None
    unchanged: Sequence[tuple[str, int]]
    older: int
    unknown_codes: dict[str, list[int]]
    next_link: str | None
    delta_link: str | None


def prepare_page(
    page: Page, mapping: TableMapping, unchanged: UnchangedRows = (), earlier: Sequence[TableMapping] = ()
) -> PreparedPage:
    """Prepare a parsed page.

    unchanged: (id, row hash) of its rows that were left unread. earlier: mappings under which records may have been
    acknowledged.
    """
    latest = last_of_each(page.rows, mapping)
    passed, dropped = filter_rows(latest, mapping.row_filter)
    rows = convert(replace_values(passed, mapping), mapping)
    unknown = unknown_codes(passed, mapping)
    # Rows of a page with unknown codes are stored without a hash: a later full read then reads them again, and reports
    # the codes again.
    if not unknown:
        rows = rows.with_columns(passed[page_parser.ROW_HASH].alias(ROW_HASH))
    rows = rows.with_columns(passed[page_parser.ROW_VERSION].alias(ROW_VERSION))
    key = mapping.table_key.select_name
    left = dropped.select(pl.col(key).str.to_lowercase(), page_parser.ROW_VERSION)
    return PreparedPage(
        read=page.rows.height + len(unchanged) + page.older,
        rows=LedgerPage(
            rows,
            mapping.link_specs,
            [rows_under_earlier_mapping(passed, earlier_mapping, mapping) for earlier_mapping in earlier],
            written_attributes(mapping).keys(),
        ),
        deleted=page.deleted,
        both_ways=not set(page.deleted).isdisjoint(latest[key].str.to_lowercase() if page.deleted else ()),
        left=dict(left.rows()),
        opt_outs=opted_out(latest, mapping),
        unchanged=unchanged,
        older=page.older,
        unknown_codes=unknown,
        next_link=page.next_link,
        delta_link=page.delta_link,
    )


def selected(mapping: TableMapping, earlier: Sequence[TableMapping] = ()) -> dict[str, ColumnType]:
    """Return the columns of a read, with their types: those of the mapping, and of earlier ones."""
    types: dict[str, ColumnType] = {}
    for version in (*earlier, mapping):
        types.update(version.column_types)
    return dict(sorted(types.items()))


def parser(mapping: TableMapping, earlier: Sequence[TableMapping] = ()) -> PageParser:
    """Return a parser of pages with the columns that a mapping selects, and earlier ones."""
    return PageParser(
        selected(mapping, earlier),
        table=mapping.table,
        key=mapping.table_key.select_name,
        fingerprint=mapping.fingerprint,
    )
