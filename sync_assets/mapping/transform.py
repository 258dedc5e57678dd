"""Transform rows as Dataverse sends them into payloads for Campaign, with their hashes. Pure, on Polars frames.

Whole columns at a time: Polars writes the JSON of a row once, and the hash is computed from that same text. The hashes
are the only loop over rows. Forms of values: docs/dev/references/campaign.md 1.
"""

import json
from collections.abc import Collection
from hashlib import blake2b

import polars as pl

from sync_assets.campaign.metadata import Attribute
from sync_assets.dataverse.metadata import Column
from sync_assets.dataverse.page_parser import ROW_VERSION
from sync_assets.ledger.prepared_page import INSERT_ONLY_HASH, REFUSABLE
from sync_assets.mapping.configured_values import is_option
from sync_assets.mapping.conversion_expressions import converted, plain_times, refusal_reason
from sync_assets.mapping.conversions import empty_value
from sync_assets.mapping.exact_numbers import canonical
from sync_assets.mapping.filters import filter_rows
from sync_assets.mapping.refusable import hashed, refusable, short_hashes
from sync_assets.mapping.table_mapping import FORM_VERSION, Field, LinkField, TableMapping

_PERSON = f"sync_assets {FORM_VERSION}".encode()
_JOINER = "\u200d"

VALUE_TYPES: dict[str, pl.DataType] = {"boolean": pl.Boolean(), "integer": pl.Int64()}
"""Attribute type -> Polars type of converted values; all other attribute types are texts."""


Tree = dict[str, "Attribute | Tree"]
"""The members of a payload by name; groups such as `location` are nested."""


def transform(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    """Filter, replace and convert `rows`: one output row for each row that passes the filter, in their order.

    Of each id one row counts (`last_of_each`; a feed may repeat a row, docs/dev/references/dataverse.md 8). To get the
    rows that do not pass, call `filters.filter_rows` first.

    Returns:
        A frame with these columns:
        id: lower case.
        payload: JSON of an insert, without the empty values of fields with `keep_if_empty`.
        update_payload: JSON of an update; null if all fields and links apply updates, as both are the same then.
        hash: 16 bytes, of the JSON of an update and the links that apply updates.
        validation_error: null, or its text; contains no personal data.
        insert_only_hash: 64 bits, of the fields and links that do not apply updates; only if there are any.
        refusable: 64 bits, of the fields that Campaign may refuse in updates (refusable.py); only if there are any.
        For each link, a column with the name of its attribute: the parent's id in lower case, or null. A link of style
            join is also in the payload, as a plain attribute; one of style key is added to the request when it is sent.
    """
    passed, _ = filter_rows(last_of_each(rows, mapping), mapping.row_filter)
    return convert(replace_values(passed, mapping), mapping)


def replaced_name(attribute: str) -> str:
    """Return the name of the column with replaced values; no column of Dynamics 365 can have that name."""
    return f"replaced {attribute}"


def replace_values(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    """Return `rows` with one more column of replaced values for every field that has replacements.

    Where that column is null nothing was replaced, and the conversion applies.
    """
    replaced = [
        _replaced(rows[field.column.select_name], field).alias(replaced_name(field.attribute.path))
        for field in mapping.fields
        if field.replacements
    ]
    return rows.with_columns(replaced)


def _replaced(values: pl.Series, field: Field) -> pl.Series:
    """Return the replaced values of a column, else null. Of several choices only null is replaced here."""
    type_ = VALUE_TYPES.get(field.attribute.type, pl.String())
    known = {value: to for value, to in field.replacements.items() if value is not None}
    replaced = pl.Series([None], dtype=type_).new_from_index(0, values.len())
    if known and field.conversion != "choices":
        comparable = _comparable(values, field.column)
        replaced = comparable.replace_strict(list(known), list(known.values()), default=None, return_dtype=type_)
    if None in field.replacements:
        of_null = pl.Series([field.replacements[None]], dtype=type_).new_from_index(0, values.len())
        replaced = replaced.zip_with(values.is_not_null(), of_null)
    return replaced


def _comparable(values: pl.Series, column: Column) -> pl.Series:
    """Return values in the form of `column_value`; several choices, as `1,9`, are null: a replacement names one."""
    if is_option(column) or column.type in ("integer", "bigint"):
        return values.cast(pl.Int64, strict=column.type != "multiselect")
    if column.type in ("decimal", "money", "double"):
        return canonical(values.to_frame()).to_series()
    return values if column.type in ("date", "datetime") else values.str.to_lowercase()


def convert(rows: pl.DataFrame, mapping: TableMapping, refused: Collection[str] = ()) -> pl.DataFrame:
    """Convert filtered rows with their replaced values to payloads: the second half of `transform`.

    refused: the attributes that Campaign was found to refuse in updates.
    """
    values, errors = converted_values(rows, mapping)
    done = payloads(values, errors, mapping)
    updated = {field.attribute.path: field.attribute for field in mapping.fields if field.apply_updates}
    if not (paths := refusable(updated, refused)):
        return done
    text = json_of(members_of([mapping.key, *(updated[path] for path in paths)]), optional_attributes(mapping))
    texts = values.select(text.cast(pl.Binary)).to_series().to_list()
    return done.with_columns(pl.Series(REFUSABLE, hashed(texts, paths), pl.Int64))


def converted_values(rows: pl.DataFrame, mapping: TableMapping) -> tuple[pl.DataFrame, pl.Series]:
    """Convert filtered rows with their replaced values; return a column for each attribute, and validation errors.

    The columns are named after the attributes' paths: the key, the fields with Campaign's empty value for null, and the
    links with the parent's id or null.
    """
    exact = _exact(rows, mapping)
    plain = plain_times(rows, mapping.fields)
    values = exact.select(
        _id(mapping),
        *(_value(field, rows.columns, plain) for field in mapping.fields),
        *(_parent(link) for link in mapping.links),
    )
    values, refusals = _fitting(values, rows, mapping)
    return values, _joined(refusals, rows.height)


def payloads(values: pl.DataFrame, validation_errors: pl.Series, mapping: TableMapping) -> pl.DataFrame:
    """Write converted values as JSON, with their hashes: the columns of `transform`."""
    optional = optional_attributes(mapping)
    forms = [json_of(_tree(mapping, updates_only=False), optional).alias("payload")]
    if mapping.insert_only:
        forms.append(json_of(_tree(mapping, updates_only=True), optional).alias("update_payload"))
    else:
        forms.append(pl.lit(None, pl.String).alias("update_payload"))
    paths = [link.attribute.path for link in mapping.links]
    written = values.select(pl.col(mapping.key.path).alias("id"), *forms, *paths)
    linked = [_linked(link) for link in mapping.links]
    form = pl.concat_str(pl.coalesce("update_payload", "payload"), *(linked if mapping.apply_updates else ()))
    hashed = written.select(form.cast(pl.Binary)).to_series().to_list()
    hashes = [blake2b(form, digest_size=16, person=_PERSON).digest() for form in hashed]
    done = written.with_columns(pl.Series("hash", hashes, dtype=pl.Binary), validation_errors).select(
        "id", "payload", "update_payload", "hash", "validation_error", *paths
    )
    if not mapping.insert_only:
        return done
    tree = members_of([field.attribute for field in mapping.fields if not field.apply_updates])
    once = [json_of(tree, optional)] if tree else []
    once += () if mapping.apply_updates else linked
    texts = values.select(pl.concat_str(once).cast(pl.Binary)).to_series().to_list()
    return done.with_columns(pl.Series(INSERT_ONLY_HASH, short_hashes(texts, _PERSON), pl.Int64))


def opted_out(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame | None:
    """Return the opt-outs in `rows`: id (lower case), and a Boolean column for each attribute, True for opted out.

    Null where the row has no value, or a number that is neither 0 nor 1. Of each id one row counts (`last_of_each`).
    None if the mapping carries no opt-outs.
    """
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
    """Return of each id the row with the highest version, the last one without versions. Call it before any filter.

    An earlier row may pass a filter that the last one does not, and the reverse. In nearly all pages ids are unique,
    which counting them shows faster.
    """
    id_ = pl.col(mapping.table_key.select_name).str.to_lowercase()
    if rows.select(id_.n_unique()).item() == rows.height:
        return rows
    if ROW_VERSION in rows.columns:
        rows = rows.sort(ROW_VERSION, nulls_last=False, maintain_order=True)
    return rows.filter(id_.is_last_distinct())


def _id(mapping: TableMapping) -> pl.Expr:
    return pl.col(mapping.table_key.select_name).str.to_lowercase().alias(mapping.key.path)


def _parent(field: LinkField) -> pl.Expr:
    return pl.col(field.column.select_name).str.to_lowercase().alias(field.attribute.path)


def _linked(field: LinkField) -> pl.Expr:
    """Return the text that a link adds to the hashed form: a record with another parent must get another hash."""
    return pl.concat_str(pl.lit(f"\n{field.attribute.path}:"), pl.col(field.attribute.path).fill_null(""))


def _exact(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    """Make numbers with a fraction canonical, and replace NUL in texts, which no database of Campaign's stores."""
    mapped = {field.column.select_name: field.column.type for field in mapping.fields}
    numbers = [name for name, type_ in mapped.items() if type_ in ("decimal", "money", "double")]
    types = rows.schema  # Polars makes it anew each time
    texts = [name for name in mapped if name not in numbers and types[name] == pl.String]
    contain_nul = rows.select(pl.col(texts).str.contains("\0", literal=True).any()).row(0) if texts else ()
    with_nul = [name for name, any_ in zip(texts, contain_nul, strict=True) if any_]
    cleaned = pl.col(with_nul).str.replace_all("\0", "\ufffd", literal=True)
    return rows.with_columns(*canonical(rows.select(numbers)), cleaned)


def _value(field: Field, columns: Collection[str], plain: Collection[str]) -> pl.Expr:
    """Return the field's value for Campaign; null both for no value and for a value that does not fit."""
    value = converted(field, plain)
    replaced = replaced_name(field.attribute.path)
    if replaced in columns:
        value = pl.coalesce(pl.col(replaced), value)
    return value.alias(field.attribute.path)


def _fitting(values: pl.DataFrame, rows: pl.DataFrame, mapping: TableMapping) -> tuple[pl.DataFrame, list[pl.Series]]:
    """Cut texts, fill nulls with Campaign's empty value (not with `keep_if_empty`), and collect validation errors.

    Returns `values` so changed, and one column of error texts for each field that has any. Columns are tested as a
    whole first, since nearly all pages have no errors.
    """
    texts = [field.attribute for field in mapping.fields if field.attribute.type == "string"]
    limits = {attribute.path: attribute.length for attribute in texts if attribute.length is not None}
    longest = values.select(pl.col(list(limits)).str.len_chars().max()).row(0) if limits else ()
    too_long = {path for (path, limit), most in zip(limits.items(), longest, strict=True) if (most or 0) > limit}
    refusals: list[pl.Series] = []
    changed: list[pl.Expr] = []
    for field in mapping.fields:
        path, value, source = field.attribute.path, values[field.attribute.path], rows[field.column.select_name]
        if value.null_count() and (field.replacements or value.null_count() > source.null_count()):
            failed = source.is_not_null() & value.is_null()
            if failed.any():
                refusals.append(_where(failed, pl.lit(f"{path}: {refusal_reason(field)}")))
        if path in too_long and not field.truncate:
            lengths, limit = value.str.len_chars(), limits[path]
            error_text = pl.concat_str(pl.lit(f"{path}: "), pl.lit(lengths), pl.lit(f" characters, at most {limit}"))
            refusals.append(_where(lengths > limit, error_text))
        sent = pl.col(path) if field.keep_if_empty else pl.col(path).fill_null(empty_value(field.attribute))
        cut = path in too_long and field.truncate
        if cut:
            sent = _cut(sent, limits[path])
        if field.keep_if_empty and value.dtype == pl.String:
            changed.append(pl.when(sent != "").then(sent))
        elif cut or value.null_count():
            changed.append(sent)
    return values.with_columns(changed), refusals


def _where(condition: pl.Series, text: pl.Expr) -> pl.Series:
    return pl.select(pl.when(condition).then(text)).to_series()


def _cut(text: pl.Expr, limit: int) -> pl.Expr:
    """Cut texts. A zero-width joiner at the end goes as well: the character that it joins was cut off."""
    return pl.when(text.str.len_chars() > limit).then(text.str.head(limit).str.strip_chars_end(_JOINER)).otherwise(text)


def _joined(refusals: list[pl.Series], height: int) -> pl.Series:
    if not refusals:
        return pl.Series("validation_error", [None], dtype=pl.String).new_from_index(0, height)
    columns = [validation_error.alias(str(n)) for n, validation_error in enumerate(refusals)]
    joined = pl.concat_str(pl.all(), separator="; ", ignore_nulls=True)
    return pl.DataFrame(columns).select(pl.when(joined != "").then(joined).alias("validation_error")).to_series()


def _tree(mapping: TableMapping, *, updates_only: bool) -> Tree:
    """Return the members of a payload as a tree.

    The key is in both forms: an update is addressed by it, so it repeats the present value; Campaign refuses only
    another value (docs/dev/references/campaign.md 5, "changed business key").
    """
    return members_of([mapping.key, *written_attributes(mapping, updates_only=updates_only).values()])


def written_attributes(mapping: TableMapping, *, updates_only: bool = False) -> dict[str, Attribute]:
    """Return the attributes that a payload holds besides the key, by path."""
    attributes = [field.attribute for field in mapping.fields if field.apply_updates or not updates_only]
    if mapping.apply_updates or not updates_only:
        attributes += [field.attribute for field in mapping.links if field.link.style == "join"]
    return {attribute.path: attribute for attribute in attributes}


def optional_attributes(mapping: TableMapping) -> set[str]:
    """Return the attributes, by path, that a row leaves out if they are empty."""
    return {field.attribute.path for field in mapping.fields if field.keep_if_empty}


def members_of(attributes: Collection[Attribute]) -> Tree:
    """Return attributes as a tree by the parts of their paths, sorted by path."""
    tree: Tree = {}
    for attribute in sorted(attributes, key=lambda attribute: attribute.path):
        *groups, name = attribute.path.split(".")
        place = tree
        for group in groups:
            inner = place.setdefault(group, {})
            assert isinstance(inner, dict)  # the compiler refuses a mapping to an attribute that has sub-fields
            place = inner
        place[name] = attribute
    return tree


def json_of(tree: Tree, optional: Collection[str]) -> pl.Expr:
    """Return one JSON object per row: by Polars, but numbers with a fraction are appended as their exact text.

    optional: paths of the attributes that a row leaves out if their value is null, appended as well. So does a group of
    which nothing is left.
    """
    native, appended = _members(tree, optional)
    if not appended:
        return pl.struct(native).struct.json_encode()
    parts = [pl.struct(native).struct.json_encode().str.strip_suffix("}") if native else pl.lit("{")]
    for n, (name, text) in enumerate(appended):
        member = [pl.lit(f"{',' if native or optional or n else ''}{json.dumps(name)}:"), text]
        parts += [pl.concat_str(member)] if optional else member
    whole = pl.concat_str([*parts, pl.lit("}")], ignore_nulls=bool(optional))
    return whole if native or not optional else whole.str.replace("{,", "{", literal=True)


def _members(tree: Tree, optional: Collection[str]) -> tuple[list[pl.Expr], list[tuple[str, pl.Expr]]]:
    """Return the members that Polars writes, and by name the text of the others, null to leave one out."""
    native: list[pl.Expr] = []
    appended: list[tuple[str, pl.Expr]] = []
    for name, member in tree.items():
        if isinstance(member, dict):
            inner, inner_appended = _members(member, optional)
            if inner_appended:
                text = json_of(member, optional)
                appended.append((name, text.replace("{}", None) if optional else text))
            else:
                native.append(pl.struct(inner).alias(name))
        elif member.type == "float":
            appended.append((name, pl.col(member.path)))
        elif member.path in optional:
            value = pl.col(member.path)
            text = pl.struct(value.alias("")).struct.json_encode().str.slice(len('{"":')).str.strip_suffix("}")
            appended.append((name, pl.when(value.is_not_null()).then(text)))
        else:
            native.append(pl.col(member.path).fill_null(empty_value(member)).alias(name))
    return native, appended
