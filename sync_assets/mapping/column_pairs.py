"""Pair each mapped column with its attribute, with the text that describes each of them by the other."""

from collections.abc import Container, Iterator
from typing import NamedTuple

from sync_assets.config.models import Config, FieldMapping, TableConfig


class ColumnPair(NamedTuple):
    """A mapped column and its attribute, with the texts that the description of each adds about the other.

    parent: the table that a link leads to.
    """

    column: str
    attribute: str
    column_note: str
    attribute_note: str
    parent: TableConfig | None = None


def column_pairs(config: Config, table: TableConfig) -> Iterator[ColumnPair]:
    """Yield the pairs of fields, links, then opt-outs. The first pair of a column or an attribute describes it."""
    for name, field in table.fields.items():
        yield ColumnPair(name, field.to, _how(field), _how(field))
    for link in table.links:
        parent = config.table(link.table)
        column_note = f", the {parent.resource} of this {table.table}"
        yield ColumnPair(link.field, link.to, column_note, f": the {parent.resource} by its {parent.key}", parent)
    for name, opt_out in config.opt_outs_of_new_records(table.table).items():
        column_note = " of new records; then by opt_out/changes"
        yield ColumnPair(name, opt_out.to, column_note, " for new records; then by opt_out/changes")


def key_column(table: TableConfig) -> str:
    """Return the key of contacts and custom tables (docs/dev/references/dataverse.md 0); only activities differ."""
    return f"{table.table}id"


def _how(field: FieldMapping) -> str:
    """Return the options of a mapped field as a suffix of its description."""
    once = "" if field.apply_updates else "; on first load and replay only"
    kept = "; an empty value leaves Campaign's" if field.keep_if_empty else ""
    return once + kept + ("; cut to its length" if field.truncate else "")


def column_descriptions(config: Config, table: TableConfig, known: Container[str]) -> dict[str, str]:
    """Return the description of each mapped column of Dynamics 365: where it is written to. known: names of the
    columns with a known type; the key column is left out if it is not among them.
    """
    key = key_column(table)
    texts = {key: f"to {table.resource}.{table.key}"} if key in known else {}
    for pair in column_pairs(config, table):
        texts.setdefault(pair.column, f"to {table.resource}.{pair.attribute}{pair.column_note}")
    return texts


def attribute_descriptions(config: Config, table: TableConfig) -> dict[str, str]:
    """Return the description of each mapped attribute of Campaign: where it comes from."""
    texts = {table.key: f"the id of the {table.table} in Dynamics 365"}
    for pair in column_pairs(config, table):
        texts.setdefault(pair.attribute, f"from {table.table}.{pair.column}{pair.attribute_note}")
    return texts
