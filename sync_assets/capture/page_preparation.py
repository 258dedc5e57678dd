"""Prepare a page of Dynamics 365 rows for the ledger: deduplicate, filter and transform them, in that order. Pure.

This is the part of capture that needs a processor only, so that a page is prepared while the one before is stored.

Invariant: if a page of changes has a row several times, only the newest one counts, also for the filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from sync_assets.capture.unchanged_rows import UnchangedRows
from sync_assets.dataverse import page_parser
from sync_assets.dataverse.page_parser import Page, PageParser
from sync_assets.ledger.prepared_page import ROW_HASH, ROW_VERSION, LedgerPage
from sync_assets.mapping.filters import filter_rows
from sync_assets.mapping.replacements import replace
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.mapping.transform import convert, last_of_each, opted_out
from sync_assets.mapping.unlabelled_options import unknown_codes


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
        unchanged: (id, row hash) of rows that are unchanged since their last capture, as `save_page` takes
            them.
        older: As in `dataverse.page_parser.Page`.
        unknown_codes: Option numbers without a label, by column.
        next_link: As in `dataverse.page_parser.Page`.
        delta_link: As in `dataverse.page_parser.Page`.
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


def prepare_page(page: Page, mapping: TableMapping, unchanged: UnchangedRows = ()) -> PreparedPage:
    """Prepare a parsed page.

    Args:
        page: Its rows that are to be read.
        mapping: Of the table.
        unchanged: (id, row hash) of its other rows, which are unchanged since their last capture.
    """
    found = last_of_each(page.rows, mapping)
    passed, dropped = filter_rows(found, mapping.row_filter)
    rows = convert(replace(passed, mapping), mapping)
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
        rows=LedgerPage(rows, mapping.link_specs),
        deleted=page.deleted,
        both_ways=not set(page.deleted).isdisjoint(found[key].str.to_lowercase() if page.deleted else ()),
        left=dict(left.rows()),
        opt_outs=opted_out(found, mapping),
        unchanged=unchanged,
        older=page.older,
        unknown_codes=unknown,
        next_link=page.next_link,
        delta_link=page.delta_link,
    )


def parser(mapping: TableMapping) -> PageParser:
    """Return a parser of pages with the columns that a mapping selects."""
    return PageParser(
        {name: mapping.column_types[name] for name in mapping.select},
        table=mapping.table,
        key=mapping.table_key.select_name,
        fingerprint=mapping.fingerprint,
    )
