"""Build the projection of a request's `$select` and `$expand`: rows with the rows that their lookups refer to.

https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/join-tables

A 501 answers what is not emulated: collections, owners (which have the type `principal`), references (`/$ref`), and
options of an expanded row other than `$select` and `$expand`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from sync_assets.sandbox.dataverse import privileges
from sync_assets.sandbox.dataverse.call import Call
from sync_assets.sandbox.dataverse.columns import Column, Target
from sync_assets.sandbox.dataverse.errors import bad_query, no_such_property, not_built
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.dataverse.relations import relations, target_of
from sync_assets.sandbox.dataverse.store import Row, Store
from sync_assets.sandbox.dataverse.writing import navigation


def projection(call: Call, store: Store, options: Mapping[str, str] | None = None) -> Projection:
    """Return the projection of a table's rows. Raises DataverseError.

    Args:
        call: The request.
        store: The table.
        options: `$select` and `$expand`; by default those of the request.
    """
    options = call.options if options is None else options
    result = Projection(store, call.org, options.get("$select"), call.prefer)
    for item in _split(options.get("$expand", ""), ","):
        _expand(call, store, result, item)
    return result


def _expand(call: Call, store: Store, projected: Projection, item: str) -> None:
    """Add the row of `<navigation property>` or `<navigation property>(<options>)` to a projection."""
    name, bracket, options = item.partition("(")
    if bracket and not options.endswith(")"):
        raise bad_query(f"Bad Request - Error in query syntax: '{item}'.")
    column, target = _single_valued(call, store, name)
    inner = {key.strip(): value for key, _, value in (part.partition("=") for part in _split(options[:-1], ";"))}
    for option in inner.keys() - {"$select", "$expand"}:
        raise not_built(f"The query option '{option}' of '$expand={name}'")
    other = call.org.store(target.table)
    privileges.demand(call, other, "Read")
    related = projection(call, other, inner)
    projected.add(name, related.context, partial(_related, store, column, target, other, related))


def _single_valued(call: Call, store: Store, name: str) -> tuple[Column, Target]:
    pair = navigation(store, name)
    known = relations(call.org.stores, call.org.switches)
    is_collection = any(relation.parent is store and relation.name == name for relation in known)
    if is_collection or "/" in name or (pair and pair[0].type == "Owner"):
        raise not_built(f"'$expand={name}'")
    if pair is None and name in store.columns:
        raise bad_query(
            f"Property '{name}' on type 'Microsoft.Dynamics.CRM.{store.table.name}' is not a navigation property or "
            "complex property. Only navigation properties can be expanded."
        )
    if pair is None:
        raise no_such_property(name, store.table.name)
    return pair


def _related(
    store: Store, column: Column, target: Target, other: Store, projected: Projection, row: Row
) -> dict[str, Any] | None:
    """Return the row that a lookup refers to, without its ETag as on Microsoft's page; None if there is none."""
    row_id = row[store.position[column.name]]
    if row_id is None or row_id in other.hidden or target_of(store, column, row) != target:
        return None
    target_row = other.rows.get(row_id)
    if target_row is None:
        return None
    return {name: value for name, value in projected.show(target_row).items() if name != "@odata.etag"}


def _split(text: str, separator: str) -> Iterator[str]:
    """Yield the parts between separators outside of parentheses, without blanks around them and empty ones."""
    part, depth = "", 0
    for character in text + separator:
        depth += (character == "(") - (character == ")")
        if character == separator and depth <= 0:
            if part := part.strip():
                yield part
            part = ""
        else:
            part += character
    if part:
        raise bad_query(f"Bad Request - Error in query syntax: '{text}'.")
