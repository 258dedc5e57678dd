"""Read which contacts of a page were merged into others, and add the opt-outs that count for a master. Pure."""

from collections.abc import Collection, Mapping

import polars as pl

from sync_assets.ledger.rules.merged_contacts import MergedOptOut
from sync_assets.mapping.table_mapping import TableMapping


def with_opt_outs(rows: pl.DataFrame, mapping: TableMapping, opted_out: Mapping[str, Collection[str]]) -> pl.DataFrame:
    """Return `rows` with further opt-outs in their columns. opted_out: by attribute, ids in lower case."""
    id_, columns = pl.col(mapping.table_key.select_name).str.to_lowercase(), list[pl.Expr]()
    for field in mapping.opt_outs:
        name = field.column.select_name
        if ids := opted_out.get(field.attribute):
            value = pl.lit(int(not field.inverted)).cast(rows.schema[name])
            columns.append(pl.when(id_.is_in(list(ids))).then(value).otherwise(pl.col(name)).alias(name))
    return rows.with_columns(columns)


def merged_opt_outs(rows: pl.DataFrame, opt_outs: pl.DataFrame, mapping: TableMapping) -> list[MergedOptOut] | None:
    """Return the opt-outs of those of the rows that were merged into another one. opt_outs: of `opted_out`.

    None: opt-outs are not carried to masters.
    """
    if mapping.master is None:
        return None
    if rows[mapping.master.select_name].is_null().all():
        return []
    id_, master = mapping.table_key.select_name, mapping.master.select_name
    masters = dict(rows.select(pl.col(id_, master).str.to_lowercase()).filter(pl.col(master).is_not_null()).rows())
    names = opt_outs.columns[1:]
    return [
        MergedOptOut(one, name, masters[one], bool(value))
        for one, *values in opt_outs.filter(pl.col("id").is_in(list(masters))).rows()
        for name, value in zip(names, values, strict=True)
    ]
