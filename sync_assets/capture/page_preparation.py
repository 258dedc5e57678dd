"""Prepare a page of Dynamics 365 rows for the ledger: deduplicate, filter and transform them, in that order. Pure.

This is the part of capture that needs a processor only, so that a page is prepared while the one before is stored.

Invariant: if a page of changes has a row several times, only the last one counts, also for the filter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from sync_assets.capture.unchanged_rows import UnchangedRows
from sync_assets.dataverse.page_parser import Page, PageParser
from sync_assets.ledger import LinkSpec
from sync_assets.ledger.prepared_page import ROW_HASH, LedgerPage
from sync_assets.mapping.filters import filter_rows
from sync_assets.mapping.replacements import replace
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.mapping.transform import convert, last_of_each, opted_out
from sync_assets.mapping.unlabelled_options import unknown_codes

_HASH = "row hash"  # cannot clash with a column of Dynamics 365, whose names have no spaces


@dataclass(frozen=True, slots=True)
class PreparedPage:
    """A page of rows, transformed, ready for the ledger.

    Attributes:
        read: Number of rows that Dynamics 365 sent.
        rows: As Ledger.captures.save_page takes them.
        deleted: Ids of tombstones.
        left: Ids of rows that the filter excludes.
        opt_outs: Of all rows, also of those in `left`; see `mapping.transform.opted_out`.
        unchanged: (id, row hash) of rows that are unchanged since their last capture, as `save_page` takes
            them.
        unknown_codes: Option numbers without a label, by column.
        next_link: As in `dataverse.page_parser.Page`.
        delta_link: As in `dataverse.page_parser.Page`.
    """

    read: int
    rows: LedgerPage
    deleted: list[str]
    left: list[str]
    opt_outs: pl.DataFrame | None
    unchanged: Sequence[tuple[str, int]]
    unknown_codes: dict[str, list[int]]
    next_link: str | None
    delta_link: str | None


MakePage = Callable[[pl.DataFrame, Sequence[LinkSpec]], LedgerPage]


def prepare_page(
    page: Page, mapping: TableMapping, unchanged: UnchangedRows = (), make_page: MakePage = LedgerPage
) -> PreparedPage:
    """Prepare a parsed page.

    Args:
        page: Its rows that are to be read.
        mapping: Of the table.
        unchanged: (id, row hash) of its other rows, which are unchanged since their last capture.
        make_page: Makes the ledger's page of the transformed rows.
    """
    found = last_of_each(_hashed(page), mapping)
    passed, dropped = filter_rows(found, mapping.row_filter)
    rows = convert(replace(passed, mapping), mapping)
    unknown = unknown_codes(passed, mapping)
    # Rows of a page with unknown codes are stored without a hash: a later full read then reads them again, and reports
    # the codes again.
    if _HASH in passed.columns and rows.height == passed.height and not unknown:
        rows = rows.with_columns(passed[_HASH].alias(ROW_HASH))
    return PreparedPage(
        read=page.rows.height + len(unchanged),
        rows=make_page(rows, mapping.link_specs),
        deleted=page.deleted,
        left=dropped[mapping.table_key.select_name].str.to_lowercase().to_list(),
        opt_outs=opted_out(found, mapping),
        unchanged=unchanged,
        unknown_codes=unknown,
        next_link=page.next_link,
        delta_link=page.delta_link,
    )


def _hashed(page: Page) -> pl.DataFrame:
    if not page.row_hashes:
        return page.rows
    return page.rows.with_columns(pl.Series(_HASH, page.row_hashes, pl.Int64))


def parser(mapping: TableMapping) -> PageParser:
    """Return a parser of pages with the columns that a mapping selects."""
    return PageParser(
        {name: mapping.column_types[name] for name in mapping.select},
        table=mapping.table,
        key=mapping.table_key.select_name,
    )
