"""Rows as Dataverse sent them -> what Campaign should hold of them, with its hash. Pure, on Polars frames.

Whole columns at a time; the JSON of a row is written once, by Polars, and is at the same time what is hashed. The only
loop over rows is the hash itself. Forms of values: campaign-standard-api.md section 1.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import date
from hashlib import blake2b

import polars as pl

from sync_assets.campaign.metadata import Attribute
from sync_assets.dataverse.page_parser import frame_type
from sync_assets.ledger.prepared_page import INSERT_ONLY_HASH
from sync_assets.mapping.conversion_expressions import converted, plain_times, refusal_reason
from sync_assets.mapping.conversions import empty_value
from sync_assets.mapping.exact_numbers import canonical
from sync_assets.mapping.filters import filter_rows
from sync_assets.mapping.replacements import replace, replaced_name
from sync_assets.mapping.table_mapping import FORM_VERSION, MODIFIED, Field, LinkField, TableMapping

FIRST_DAY = date(2000, 1, 1)
"""Rows last modified earlier count as of this day, so that partitions have a beginning."""

_PERSON = f"sync_assets {FORM_VERSION}".encode()
_JOINER = "\u200d"

Tree = dict[str, "Attribute | Tree"]
"""The members of a payload by name, groups such as `location` nested."""


def frame_schema(mapping: TableMapping) -> dict[str, pl.DataType]:
    """The columns that `transform` expects: booleans, whole numbers and options typed; all else text as sent, numbers
    with a fraction and times included (they are exact that way)."""
    return {name: frame_type(type_) for name, type_ in mapping.column_types.items()}


def transform(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    """Filters, replaces and converts `rows`: one row for each that passes, in their order, but only the last one
    where an id stands twice (a feed may repeat a row, dataverse-web-api.md section 8). Who has to know which rows do
    not pass asks `filters.filter_rows` first.

    Out: id (lower case), day (UTC date of modifiedon, not before FIRST_DAY), payload (JSON of an insert),
    update_payload (JSON of an update; null where every field applies updates, then both are the same), hash (16 bytes,
    of the update form and the links), refusal (null, or why the row cannot be sent; holds no personal data), and for
    each link a column under its attribute's name (the parent's id in lower case, or null). A link of style join is also
    in the payload, as the plain attribute that it is; one of style key is put there when it is sent. Where a field does
    not apply updates there is insert_only_hash, too: 64 bits of those fields.
    """
    passed, _ = filter_rows(last_of_each(rows, mapping), mapping.row_filter)
    return convert(replace(passed, mapping), mapping)


def convert(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    """The second half of `transform`: from rows with their replaced values to payloads."""
    exact = _exact(rows, mapping)
    plain = plain_times(rows, mapping.fields)
    values = exact.select(
        _id(mapping),
        *(_value(field, rows.columns, plain) for field in mapping.fields),
        *(_parent(link) for link in mapping.links),
    )
    values, refusals = _fitting(values, rows, mapping)
    forms = [_json(_tree(mapping, updates_only=False)).alias("payload")]
    if any(not field.apply_updates for field in mapping.fields):
        forms.append(_json(_tree(mapping, updates_only=True)).alias("update_payload"))
    else:
        forms.append(pl.lit(None, pl.String).alias("update_payload"))
    paths = [link.attribute.path for link in mapping.links]
    written = values.select(pl.col(mapping.key.path).alias("id"), *forms, *paths)
    form = pl.concat_str(pl.coalesce("update_payload", "payload"), *(_linked(link) for link in mapping.links))
    hashed = written.select(form.cast(pl.Binary)).to_series().to_list()
    hashes = [blake2b(form, digest_size=16, person=_PERSON).digest() for form in hashed]
    done = written.with_columns(
        last_changed(rows), pl.Series("hash", hashes, dtype=pl.Binary), _joined(refusals, rows.height)
    ).select("id", "day", "payload", "update_payload", "hash", "refusal", *paths)
    not_updated = [field.attribute for field in mapping.fields if not field.apply_updates]
    if not not_updated:
        return done
    texts = values.select(_json(_members_of(not_updated)).cast(pl.Binary)).to_series().to_list()
    short = [
        int.from_bytes(blake2b(text, digest_size=8, person=_PERSON).digest(), "big", signed=True) for text in texts
    ]
    return done.with_columns(pl.Series(INSERT_ONLY_HASH, short, pl.Int64))


def opted_out(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame | None:
    """What rows say of opt-outs: id (lower case), and for each attribute a Boolean, True for opted out (null where the
    row says nothing: no value, or a number that is neither 0 nor 1). Of an id that stands twice the last row counts.
    None if the mapping carries none."""
    if not mapping.opt_outs:
        return None
    key = mapping.table_key.select_name
    values: list[pl.Expr] = []
    for field in mapping.opt_outs:
        value = pl.col(field.column.select_name)
        understood = pl.when(value.cast(pl.Int64).is_in([0, 1])).then(value.cast(pl.Boolean))
        values.append((~understood if field.inverted else understood).alias(field.attribute))
    return last_of_each(rows, mapping).select(pl.col(key).str.to_lowercase().alias("id"), *values)


def last_of_each(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    """The last row of each id, in their order. To be taken before any filter: an earlier row may pass one that the last
    row does not, or the other way round. Nearly always that is all rows, which counting tells sooner."""
    ids = rows[mapping.table_key.select_name].str.to_lowercase()
    return rows if ids.n_unique() == rows.height else rows.filter(ids.is_last_distinct())


def _id(mapping: TableMapping) -> pl.Expr:
    return pl.col(mapping.table_key.select_name).str.to_lowercase().alias(mapping.key.path)


def _parent(field: LinkField) -> pl.Expr:
    return pl.col(field.column.select_name).str.to_lowercase().alias(field.attribute.path)


def _linked(field: LinkField) -> pl.Expr:
    """What a link adds to the form that is hashed: another parent is another state."""
    return pl.concat_str(pl.lit(f"\n{field.attribute.path}:"), pl.col(field.attribute.path).fill_null(""))


def last_changed(rows: pl.DataFrame) -> pl.Series:
    """The UTC days of `modifiedon`, not before FIRST_DAY, which also stands for what is no time."""
    day = pl.col(MODIFIED).str.head(10).str.to_date("%Y-%m-%d", strict=False).fill_null(FIRST_DAY)
    return rows.select(pl.max_horizontal(day, pl.lit(FIRST_DAY)).alias("day")).to_series()


def _exact(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    """Numbers with a fraction in their one spelling, and no NUL in texts, which no database of Campaign's takes."""
    mapped = {field.column.select_name: field.column.type for field in mapping.fields}
    numbers = [name for name, type_ in mapped.items() if type_ in ("decimal", "money", "double")]
    texts = [name for name in mapped if name not in numbers and rows.schema[name] == pl.String]
    found = rows.select(pl.col(texts).str.contains("\0", literal=True).any()).row(0) if texts else ()
    with_nul = [name for name, any_ in zip(texts, found, strict=True) if any_]
    cleaned = pl.col(with_nul).str.replace_all("\0", "\ufffd", literal=True)
    return rows.with_columns(*canonical(rows.select(numbers)), cleaned)


def _value(field: Field, columns: Collection[str], plain: Collection[str]) -> pl.Expr:
    """The field's value in Campaign; null where there is none, and where there is one that does not fit."""
    value = converted(field, plain)
    replaced = replaced_name(field.attribute.path)
    if replaced in columns:
        value = pl.coalesce(pl.col(replaced), value)
    return value.alias(field.attribute.path)


def _fitting(values: pl.DataFrame, rows: pl.DataFrame, mapping: TableMapping) -> tuple[pl.DataFrame, list[pl.Series]]:
    """`values` with texts cut where the mapping says so and nulls as Campaign shows them, and a column of refusals for
    each field that has any. Columns are looked at as a whole first: nearly always nothing is to be refused."""
    limits = {f.attribute.path: f.attribute.length for f in mapping.fields if f.attribute.type == "string"}
    limits = {path: limit for path, limit in limits.items() if limit is not None}
    longest = values.select(pl.col(list(limits)).str.len_chars().max()).row(0) if limits else ()
    too_long = {path for (path, limit), most in zip(limits.items(), longest, strict=True) if (most or 0) > limit}
    refusals: list[pl.Series] = []
    changed: list[pl.Expr] = []
    for field in mapping.fields:
        path, value, source = field.attribute.path, values[field.attribute.path], rows[field.column.select_name]
        if value.null_count() and (field.replacement or value.null_count() > source.null_count()):
            failed = source.is_not_null() & value.is_null()
            if failed.any():
                refusals.append(_where(failed, pl.lit(f"{path}: {refusal_reason(field)}")))
        if path in too_long and not field.truncate:
            lengths, limit = value.str.len_chars(), limits[path]
            told = pl.concat_str(pl.lit(f"{path}: "), pl.lit(lengths), pl.lit(f" characters, at most {limit}"))
            refusals.append(_where(lengths > limit, told))
        filled = pl.col(path).fill_null(empty_value(field.attribute))
        if path in too_long and field.truncate:
            changed.append(_cut(filled, limits[path]))
        elif value.null_count():
            changed.append(filled)
    return values.with_columns(changed), refusals


def _where(condition: pl.Series, text: pl.Expr) -> pl.Series:
    return pl.select(pl.when(condition).then(text)).to_series()


def _cut(text: pl.Expr, limit: int) -> pl.Expr:
    """The first `limit` characters; a joiner to the next one goes with that."""
    return pl.when(text.str.len_chars() > limit).then(text.str.head(limit).str.strip_chars_end(_JOINER)).otherwise(text)


def _joined(refusals: list[pl.Series], height: int) -> pl.Series:
    """All refusals of a row in one text, null where there is none."""
    if not refusals:
        return pl.Series("refusal", [None], dtype=pl.String).new_from_index(0, height)
    columns = [refusal.alias(str(n)) for n, refusal in enumerate(refusals)]
    joined = pl.concat_str(pl.all(), separator="; ", ignore_nulls=True)
    return pl.DataFrame(columns).select(pl.when(joined != "").then(joined).alias("refusal")).to_series()


def _tree(mapping: TableMapping, *, updates_only: bool) -> Tree:
    """The members of a payload. The key is in both forms: an update is addressed by it, so that it repeats what is
    there; Campaign refuses only another value (campaign-standard-api.md section 5, "business key changed")."""
    attributes = [field.attribute for field in mapping.fields if field.apply_updates or not updates_only]
    attributes += [field.attribute for field in mapping.links if field.link.style == "join"]
    return _members_of([mapping.key, *attributes])


def _members_of(attributes: Collection[Attribute]) -> Tree:
    """Attributes by the parts of their paths, in their order."""
    tree: Tree = {}
    for attribute in sorted(attributes, key=lambda one: one.path):
        *groups, name = attribute.path.split(".")
        place = tree
        for group in groups:
            inner = place.setdefault(group, {})
            assert isinstance(inner, dict)  # the configuration refuses an attribute that holds another one
            place = inner
        place[name] = attribute
    return tree


def _json(tree: Tree) -> pl.Expr:
    """One JSON object per row. Polars writes it, except for numbers with a fraction, whose text is put behind."""
    native, exact = _members(tree)
    if not exact:
        return pl.struct(native).struct.json_encode()
    parts: list[pl.Expr] = [pl.lit("{")]
    if native:
        parts = [pl.struct(native).struct.json_encode().str.strip_suffix("}"), pl.lit(",")]
    for name, text in exact:
        parts += [pl.lit(f"{json.dumps(name)}:"), text, pl.lit(",")]
    return pl.concat_str([*parts[:-1], pl.lit("}")])


def _members(tree: Tree) -> tuple[list[pl.Expr], list[tuple[str, pl.Expr]]]:
    """The members that Polars can write, and by name the text of those that it cannot."""
    native: list[pl.Expr] = []
    exact: list[tuple[str, pl.Expr]] = []
    for name, member in tree.items():
        if isinstance(member, dict):
            inner, inner_exact = _members(member)
            if inner_exact:
                exact.append((name, _json(member)))
            else:
                native.append(pl.struct(inner).alias(name))
        elif member.type == "float":
            exact.append((name, pl.col(member.path)))
        else:
            native.append(pl.col(member.path).fill_null(empty_value(member)).alias(name))
    return native, exact
