"""Answer requests for parts of a row: `contacts(<id>)/firstname`, `/firstname/$value`, `/<lookup>`, `/<lookup>/$ref`.

https://learn.microsoft.com/power-apps/developer/data-platform/webapi/retrieve-entity-using-web-api and
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/associate-disassociate-entities-using-web-api
"""

from __future__ import annotations

from typing import Any

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse import writing
from sync_assets.sandbox.dataverse.call import Call, json_answer, no_content
from sync_assets.sandbox.dataverse.columns import Column, Target
from sync_assets.sandbox.dataverse.errors import bad_payload, no_such_property, not_allowed, not_built
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.dataverse.records import entity_id, existing
from sync_assets.sandbox.dataverse.store import Store


def part(call: Call, store: Store, key: str, names: list[str]) -> Answer:
    """Answer a request for a part of a row. names: segments of the path after the row. Raises DataverseError."""
    row_id = existing(call, store, key)
    call.touches("read" if call.method == "GET" else "update", row_id)
    name, behind = names[0], names[1:]
    if (pair := writing.navigation(store, name)) is not None:
        if behind == ["$ref"]:
            return _reference(call, store, row_id, name, *pair)
        if behind:
            raise not_built(f"The path {'/'.join(names)}")
        if call.method != "GET":
            raise not_allowed(f"The method {call.method} is not allowed for a navigation property without $ref.")
        return _related(call, store, row_id, *pair)
    column = next((column for column in store.columns.values() if column.json_name == name), None)
    if column is None:
        raise no_such_property(name, store.table.name)
    if behind == ["$value"] and call.method == "GET":
        value = call.org.row(store, row_id)[store.position[column.name]]
        plain = (b"content-type", b"text/plain")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return no_content() if value is None else Answer(200, [plain, (b"odata-version", b"4.0")], text.encode())
    if behind:
        raise not_built(f"The path {'/'.join(names)}")
    return _property(call, store, row_id, column)


def _property(call: Call, store: Store, row_id: str, column: Column) -> Answer:
    """Answer GET, PUT or DELETE of one column."""
    name = column.json_name
    match call.method:
        case "GET":
            value = call.org.row(store, row_id)[store.position[column.name]]
            if value is None:
                return no_content()
            context = f"{call.org.api}/$metadata#{store.table.set_name}({row_id})/{name}"
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
    type_at = store.position.get(f"{column.name}type")
    if type_at is not None and row[type_at] != target.table:
        return None
    return row[store.position[column.name]]


def _related(call: Call, store: Store, row_id: str, column: Column, target: Target) -> Answer:
    found = _target_id(call, store, row_id, column, target)
    other = call.org.store(target.table)
    if found is None or found not in other.rows:
        return no_content()
    projection = Projection(other, call.org, call.options.get("$select"), call.prefer)
    context = f"{call.org.api}/$metadata#{other.table.set_name}{projection.context}/$entity"
    return json_answer({"@odata.context": context, **projection.show(call.org.row(other, found))})


def _reference(call: Call, store: Store, row_id: str, name: str, column: Column, target: Target) -> Answer:
    """Answer GET, PUT or DELETE of `$ref`, the link itself."""
    before = _target_id(call, store, row_id, column, target)
    match call.method:
        case "GET":
            if before is None:
                return no_content()
            address = f"{call.org.api}/{call.org.store(target.table).table.set_name}({before})"
            return json_answer({"@odata.context": f"{call.org.api}/$metadata#$ref", "@odata.id": address})
        case "PUT":
            body = call.json()
            reference = body.get("@odata.id") if isinstance(body, dict) else None
            if not isinstance(reference, str):
                raise bad_payload("The request body must be a JSON object with '@odata.id', the address of a row.")
            call.org.update(store, row_id, {f"{name}@odata.bind": reference}, call.headers.get("if-match"))
        case "DELETE":
            if before is not None:
                call.org.update(store, row_id, {f"{name}@odata.bind": None}, call.headers.get("if-match"))
        case _:
            raise not_allowed(f"The method {call.method} is not allowed for a reference.")
    return no_content(entity_id(call, store, row_id))
