"""A page of D365 rows, made ready for the ledger: parsed, each row taken once, filtered, transformed, in that order.
Pure; the work of capture that needs nothing but a processor, so that one page goes through it while the last one is
stored.

A page of changes may hold a row several times: the last one counts, and no other one meets the filter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from sync_assets.capture.unchanged_rows import UnchangedRows
from sync_assets.dataverse.page_parser import Page, PageParser
from sync_assets.ledger import LinkSpec
from sync_assets.ledger.prepared_page import ROW_HASH
from sync_assets.ledger.prepared_page import Page as LedgerPage
from sync_assets.mapping.filters import filter_rows
from sync_assets.mapping.replacements import replace
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.mapping.transform import convert, last_of_each, opted_out
from sync_assets.mapping.unlabelled_options import unknown_codes

_HASH = "row hash"  # no column of Dynamics 365 has a blank in its name


@dataclass(frozen=True, slots=True)
class PreparedPage:
    """`read`: how many rows D365 sent. `rows`, `unread`: as Ledger.save_page takes them. `deleted`: ids of tombstones,
    `left`: of rows outside of the filter. `opt_outs`: see transform.opted_out. `days`: rows by the UTC day of their
    last change. `unknown_codes`: column -> option numbers that nobody has named. Links as in d365.pages.Page."""

    read: int
    rows: LedgerPage
    deleted: list[str]
    left: list[str]
    opt_outs: pl.DataFrame | None
    days: Counter[date]
    unread: Sequence[tuple[str, int]]
    unknown_codes: dict[str, list[int]]
    next_link: str | None
    delta_link: str | None


MakePage = Callable[[pl.DataFrame, Sequence[LinkSpec]], LedgerPage]


def prepare_page(
    page: Page, mapping: TableMapping, unread: UnchangedRows | None = None, make_page: MakePage = LedgerPage
) -> PreparedPage:
    """What the ledger is to hold of a page. `unread`: its further rows, which it holds already."""
    unread = unread or UnchangedRows()
    passed, dropped = filter_rows(last_of_each(_hashed(page), mapping), mapping.row_filter)
    rows = convert(replace(passed, mapping), mapping)
    unknown = unknown_codes(passed, mapping)
    # Whoever reads them again is to be told of the codes again: such rows are never known.
    if _HASH in passed.columns and rows.height == passed.height and not unknown:
        rows = rows.with_columns(passed[_HASH].alias(ROW_HASH))
    return PreparedPage(
        read=page.rows.height + len(unread.rows),
        rows=make_page(rows, mapping.link_specs),
        deleted=page.deleted,
        left=dropped[mapping.table_key.select_name].str.to_lowercase().to_list(),
        opt_outs=opted_out(passed, mapping),
        days=Counter(dict(rows.group_by("day").len().iter_rows())) + unread.days,
        unread=unread.rows,
        unknown_codes=unknown,
        next_link=page.next_link,
        delta_link=page.delta_link,
    )


def _hashed(page: Page) -> pl.DataFrame:
    if not page.row_hashes:
        return page.rows
    return page.rows.with_columns(pl.Series(_HASH, page.row_hashes, pl.Int64))


def parser(mapping: TableMapping) -> PageParser:
    """Of pages with the columns that a mapping selects."""
    return PageParser({name: mapping.column_types[name] for name in mapping.select})
