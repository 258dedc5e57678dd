"""Answer requests for parts of a row: a column, its `$value`, a lookup, its `$ref`, and the rows that refer to the row.

https://learn.microsoft.com/power-apps/developer/data-platform/webapi/retrieve-entity-using-web-api and
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/associate-disassociate-entities-using-web-api
"""

from __future__ import annotations

from typing import Any

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse import listing, privileges, tracking, writing
from sync_assets.sandbox.dataverse.call import Call, Segment, json_answer, no_content
from sync_assets.sandbox.dataverse.columns import Column, Target
from sync_assets.sandbox.dataverse.errors import (
    DataverseError,
    bad_payload,
    no_such_property,
    not_allowed,
    not_built,
)
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.dataverse.records import entity_id, existing
from sync_assets.sandbox.dataverse.relations import Relation, relations, target_of
from sync_assets.sandbox.dataverse.store import Store


def part(call: Call, store: Store, key: str, behind: list[Segment]) -> Answer:
    """Answer a request for a part of a row. behind: segments of the path after the row. Raises DataverseError."""
    row_id = existing(call, store, key)
    call.touches("read" if call.method == "GET" else "update", row_id)
    (name, inner), path = (behind[0].name, behind[0].key), [segment.name for segment in behind[1:]]
    for relation in relations(call.org.stores, call.org.switches):
        if relation.parent is store and relation.name == name:
            return _collection(call, relation, row_id, inner, path)
    pair = writing.navigation(store, name)
    column = store.column(name)
    if pair is None and column is None:
        raise no_such_property(name, store.table.name)
    if pair is not None and inner is None:
        if path == ["$ref"]:
            return _reference(call, store, row_id, name, *pair)
        if not path:
            if call.method != "GET":
                raise not_allowed(f"The method {call.method} is not allowed for a navigation property without $ref.")
            return _related(call, store, row_id, *pair)
    if column is not None and inner is None:
        if not path:
            return _property(call, store, row_id, column)
        if path == ["$value"] and call.method == "GET":
            return _plain_value(call.org.row(store, row_id)[store.position[column.name]])
    raise _no_path(behind)


def _no_path(behind: list[Segment]) -> DataverseError:
    names = (segment.name if segment.key is None else f"{segment.name}({segment.key})" for segment in behind)
    return not_built(f"The path '{'/'.join(names)}'")


def _plain_value(value: Any) -> Answer:
    plain = (b"content-type", b"text/plain")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return no_content() if value is None else Answer(200, [plain, (b"odata-version", b"4.0")], text.encode())


def _collection(call: Call, relation: Relation, row_id: str, inner: str | None, path: list[str]) -> Answer:
    """Answer a request for the rows that refer to this one, or for one of these references.

    inner: key of one of these rows. rest: names of the segments after the collection.
    """
    child = relation.child
    if call.method == "GET" and inner is None and path in ([], ["$count"]) and not tracking.is_tracked(call):
        privileges.demand(call, child, "Read")
        filter_, condition = call.options.get("$filter"), f"{relation.column.json_name} eq {row_id}"
        call.options["$filter"] = f"({filter_}) and {condition}" if filter_ else condition
        return listing.count(call, child) if path else listing.list_rows(call, child)
    if path == ["$ref"] and (call.method == "DELETE" or (call.method == "POST" and inner is None)):
        privileges.demand(call, child, "Write")
        adds = call.method == "POST"
        if inner is None:
            reference = _reference_in(call.json()) if adds else call.options.get("$id", "")
            child_id = call.org.resolve_reference(child.table.name, reference)
        else:
            child_id = existing(call, child, inner)
        linked = call.org.row(child, child_id)[child.position[relation.column.name]] == row_id
        if adds or linked:
            target = f"/{relation.parent.table.set_name}({row_id})" if adds else None
            call.org.update(child, child_id, {f"{relation.target.navigation}@odata.bind": target})
        return no_content()
    raise _no_path(call.segments[1:])


def _reference_in(body: Any) -> str:
    reference = body.get("@odata.id") if isinstance(body, dict) else None
    if not isinstance(reference, str):
        raise bad_payload("The request body must be a JSON object with '@odata.id', the address of a row.")
    return reference


def _property(call: Call, store: Store, row_id: str, column: Column) -> Answer:
    """Answer GET, PUT or DELETE of one column."""
    name = column.json_name
    match call.method:
        case "GET":
            value = call.org.row(store, row_id)[store.position[column.name]]
            if value is None:
                return no_content()
            context = f"{call.api}/$metadata#{store.table.set_name}({row_id})/{name}"
            return json_answer({"@odata.context": context, "value": value})
        case "PUT":
            body = call.json()
            written: dict[str, Any] = {name: body.get("value") if isinstance(body, dict) else body}
        case "DELETE":
            written = {name: None}
        case _:
            raise not_allowed(f"The method {call.method} is not allowed for a property.")
    call.org.update(store, row_id, written, call.headers.get("if-match"))
    return no_content(entity_id(call, store, row_id))


def _target_id(call: Call, store: Store, row_id: str, column: Column, target: Target) -> str | None:
    """Return the id of the row that a lookup refers to by this navigation property; it has one for each table."""
    row = call.org.row(store, row_id)
    return row[store.position[column.name]] if target_of(store, column, row) == target else None


def _related(call: Call, store: Store, row_id: str, column: Column, target: Target) -> Answer:
    target_id = _target_id(call, store, row_id, column, target)
    other = call.org.store(target.table)
    if target_id is None or target_id not in other.rows:
        return no_content()
    projection = Projection(other, call.org, call.options.get("$select"), call.prefer)
    context = f"{call.api}/$metadata#{other.table.set_name}{projection.context}/$entity"
    return json_answer({"@odata.context": context, **projection.show(call.org.row(other, target_id))})


def _reference(call: Call, store: Store, row_id: str, name: str, column: Column, target: Target) -> Answer:
    """Answer GET, PUT or DELETE of `$ref`, the link itself."""
    before = _target_id(call, store, row_id, column, target)
    match call.method:
        case "GET":
            if before is None:
                return no_content()
            address = f"{call.api}/{call.org.store(target.table).table.set_name}({before})"
            return json_answer({"@odata.context": f"{call.api}/$metadata#$ref", "@odata.id": address})
        case "PUT":
            written = {f"{name}@odata.bind": _reference_in(call.json())}
            call.org.update(store, row_id, written, call.headers.get("if-match"))
        case "DELETE":
            if before is not None:
                call.org.update(store, row_id, {f"{name}@odata.bind": None}, call.headers.get("if-match"))
        case _:
            raise not_allowed(f"The method {call.method} is not allowed for a reference.")
    return no_content(entity_id(call, store, row_id))
