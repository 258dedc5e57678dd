"""Prepare a page of Dynamics 365 rows for the ledger: deduplicate, filter and transform them, in that order. Pure.

This is the part of capture that needs a processor only, so that a page is prepared while the one before is stored.

Invariant: if a page of changes has a row several times, only the newest one counts, also for the filter.
"""

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from operator import or_
from types import MappingProxyType

import polars as pl

from sync_assets.dataverse import page_parser
from sync_assets.dataverse.metadata import ColumnType
from sync_assets.dataverse.page_parser import Page, PageParser
from sync_assets.ledger.model import ANY_ATTRIBUTE
from sync_assets.ledger.prepared_page import FILLED, ROW_VERSION, UNGUARDED, ColumnGuard, LedgerPage
from sync_assets.ledger.rules.merged_contacts import MergedOptOut
from sync_assets.mapping.filters import filter_rows
from sync_assets.mapping.mapping_changes import rows_under_earlier_mapping
from sync_assets.mapping.merged_contacts import merged_opt_outs, with_opt_outs
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.mapping.transform import convert, last_of_each, opted_out, replace_values, written_attributes
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
        merged: Those of them that were merged into another contact; None if these are not carried.
        own_opt_outs: Of the opt-outs that others bring to a row, those that it has itself: (id, attribute).
        older, next_link, delta_link: As in `dataverse.page_parser.Page`.
        unknown_codes: Option numbers without a label, by column.
    """

    read: int
    rows: LedgerPage
    deleted: list[str]
    both_ways: bool
    left: dict[str, int | None]
    opt_outs: pl.DataFrame | None
    older: int
    unknown_codes: dict[str, list[int]]
    next_link: str | None
    delta_link: str | None
    merged: Sequence[MergedOptOut] | None = None
    own_opt_outs: Sequence[tuple[str, str]] = ()


def prepare_page(
    page: Page,
    mapping: TableMapping,
    earlier: Sequence[TableMapping | None] = (),
    guard: ColumnGuard = UNGUARDED,
    brought: Mapping[str, Collection[str]] = MappingProxyType({}),
    refused: Sequence[str] = (),
) -> PreparedPage:
    """Prepare a parsed page. earlier, guard, refused: as in CaptureContext.

    brought: by attribute, the ids of rows to which merged contacts bring their opt-outs.
    """
    latest = last_of_each(page.rows, mapping)
    opt_outs, own = opted_out(latest, mapping), list[tuple[str, str]]()
    if brought and opt_outs is not None:
        for name, ids in brought.items():
            own += [(id_, name) for id_ in opt_outs.filter(pl.col(name))["id"] if id_ in ids]
        latest = with_opt_outs(latest, mapping, brought)
        opt_outs = opted_out(latest, mapping)
    passed, dropped = filter_rows(latest, mapping.row_filter)
    rows = convert(replace_values(passed, mapping), mapping, refused)
    rows = rows.with_columns(passed[page_parser.ROW_VERSION].alias(ROW_VERSION))
    if guard.bits:
        rows = rows.with_columns(_filled(passed, columns_by_attribute(mapping), guard.bits))
    key = mapping.table_key.select_name
    left = dropped.select(pl.col(key).str.to_lowercase(), page_parser.ROW_VERSION)
    return PreparedPage(
        read=page.rows.height + page.older,
        rows=LedgerPage(
            rows,
            mapping.link_specs,
            [_under(passed, version, mapping) for version in earlier],
            written_attributes(mapping).keys(),
            guard,
        ),
        deleted=page.deleted,
        both_ways=not set(page.deleted).isdisjoint(latest[key].str.to_lowercase() if page.deleted else ()),
        left=dict(left.rows()),
        opt_outs=opt_outs,
        older=page.older,
        unknown_codes=unknown_codes(passed, mapping),
        next_link=page.next_link,
        delta_link=page.delta_link,
        merged=None if opt_outs is None else merged_opt_outs(latest, opt_outs, mapping),
        own_opt_outs=own,
    )


def _under(
    rows: pl.DataFrame, earlier: TableMapping | None, mapping: TableMapping
) -> tuple[pl.DataFrame | None, Set[str]]:
    """Return the rows under an earlier mapping, and the attributes that it writes, as LedgerPage takes them."""
    if earlier is None:
        return None, {ANY_ATTRIBUTE}
    return rows_under_earlier_mapping(rows, earlier, mapping), written_attributes(earlier).keys()


def columns_by_attribute(mapping: TableMapping) -> dict[str, str]:
    """Return the columns that are read for Campaign's attributes, as selected; of opt-outs in each direction, too."""
    opt_outs = {opt_out.attribute: opt_out.column.select_name for opt_out in mapping.opt_outs}
    mapped = {field.attribute.path: field.column.select_name for field in (*mapping.fields, *mapping.links)}
    return opt_outs | mapped


def guarded_attributes(mapping: TableMapping) -> dict[str, bool]:
    """Return the attributes that become empty with their column: True if by updates, not by inserts only."""
    fields = {field.attribute.path: field.apply_updates for field in mapping.fields if not field.keep_if_empty}
    return fields | {link.attribute: link.apply_updates for link in mapping.link_specs}


def _filled(rows: pl.DataFrame, columns: Mapping[str, str], bits: Mapping[str, int]) -> pl.Series:
    """Return for each row the bits of the attributes whose column has a value."""
    filled: list[pl.Expr] = []
    types = rows.schema  # Polars makes it anew each time
    for name, column in columns.items():
        value = pl.col(column)
        has_value = (value != "").fill_null(value=False) if types[column] == pl.String else value.is_not_null()
        filled.append(has_value.cast(pl.Int64) * bits[name])
    return rows.select(pl.reduce(or_, filled).alias(FILLED)).to_series()


def selected(mapping: TableMapping, earlier: Sequence[TableMapping | None] = ()) -> dict[str, ColumnType]:
    """Return the columns of a read, with their types: those of the mapping, and of earlier ones."""
    types: dict[str, ColumnType] = {}
    for version in (*earlier, mapping):
        types.update(version.column_types if version else {})
    return dict(sorted(types.items()))


def parser(mapping: TableMapping, earlier: Sequence[TableMapping | None] = ()) -> PageParser:
    """Return a parser of pages with the columns that a mapping selects, and earlier ones."""
    return PageParser(selected(mapping, earlier), table=mapping.table, key=mapping.table_key.select_name)
