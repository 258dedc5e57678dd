"""Single rows: create, read, change, delete, and single properties (reference/dataverse-web-api.md 3.1)."""

from __future__ import annotations

from typing import Any

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse import writing
from sync_assets.sandbox.dataverse.call import Call, applied, json_answer, no_content
from sync_assets.sandbox.dataverse.columns import Column
from sync_assets.sandbox.dataverse.errors import DataverseError, exists, no_such_property, no_such_row, not_allowed
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.dataverse.store import Store


def create(call: Call, store: Store) -> Answer:
    row_id = call.org.create(store, call.json())
    call.touches("insert", row_id)
    return _written(call, store, row_id, created=True)


def retrieve(call: Call, store: Store, key: str) -> Answer:
    row_id = _existing(call, store, key)
    call.touches("read", row_id)
    row = call.org.row(store, row_id)
    etag = call.org.etag(store, row)
    if call.headers.get("if-none-match", "") == etag and call.prefer.annotations is None:
        return Answer(304, [(b"etag", etag.encode()), (b"odata-version", b"4.0")], b"")
    return json_answer(
        _document(call, store, row_id),
        (b"etag", etag.encode()),
        *applied(f'odata.include-annotations="{call.prefer.annotations}"' if call.prefer.annotations else None),
    )


def change(call: Call, store: Store, key: str) -> Answer:
    """PATCH: an update with If-Match, a create with If-None-Match, else whatever is needed (upsert)."""
    row_id, named = call.org.resolve(store, key)
    if_match, only_create = call.headers.get("if-match"), call.headers.get("if-none-match", "").strip() == "*"
    if row_id is not None and row_id in store.rows:
        if only_create:
            raise exists()
        call.touches("update", row_id)
        call.org.update(store, row_id, call.json(), if_match)
        return _written(call, store, row_id, created=False)
    if if_match is not None:
        raise no_such_row(store.table.name, row_id or key)
    row_id = call.org.create(store, call.json(), named if row_id is None else {store.table.key: row_id})
    call.touches("insert", row_id)
    return _written(call, store, row_id, created=True)


def delete(call: Call, store: Store, key: str) -> Answer:
    row_id = _existing(call, store, key)
    call.touches("delete", row_id)
    call.org.delete(store, row_id, call.headers.get("if-match"))
    return no_content()


def single_property(call: Call, store: Store, key: str, name: str) -> Answer:
    """GET, PUT, DELETE of `contacts(<id>)/donotemail`."""
    row_id = _existing(call, store, key)
    column = _column(store, name)
    match call.method:
        case "GET":
            call.touches("read", row_id)
            value = call.org.row(store, row_id)[store.position[column.name]]
            if value is None:
                return no_content()
            context = f"{call.org.api}/$metadata#{store.table.set_name}({row_id})/{name}"
            return json_answer({"@odata.context": context, "value": value})
        case "PUT":
            call.touches("update", row_id)
            body = call.json()
            written: dict[str, Any] = {name: body.get("value") if isinstance(body, dict) else body}
        case "DELETE":
            call.touches("update", row_id)
            written = {name: None}
        case _:
            raise not_allowed(f"The method {call.method} is not allowed for a property.")
    call.org.update(store, row_id, written, call.headers.get("if-match"))
    return no_content(_entity_id(call, store, row_id))


def _column(store: Store, name: str) -> Column:
    for column in store.columns.values():
        if name == column.json_name:
            return column
    if (pair := writing.navigation(store, name)) is not None:
        return pair[0]
    raise no_such_property(name, store.table.name)


def _existing(call: Call, store: Store, key: str) -> str:
    row_id, _ = call.org.resolve(store, key)
    if row_id is None:
        raise DataverseError(
            404, "0x80060891", f"A record with the specified key values does not exist in {store.table.name} entity"
        )
    call.org.row(store, row_id)
    return row_id


def _document(call: Call, store: Store, row_id: str) -> dict[str, Any]:
    projection = Projection(store, call.org, call.options.get("$select"), call.prefer)
    context = f"{call.org.api}/$metadata#{store.table.set_name}{projection.context}/$entity"
    return {"@odata.context": context, **projection.show(call.org.row(store, row_id))}


def _written(call: Call, store: Store, row_id: str, *, created: bool) -> Answer:
    entity_id = _entity_id(call, store, row_id)
    location = [(b"location", entity_id[1])] if created else []
    if not call.prefer.representation:
        return no_content(entity_id, *location)
    return json_answer(
        _document(call, store, row_id),
        entity_id,
        *location,
        *applied("return=representation"),
        status=201 if created else 200,
    )


def _entity_id(call: Call, store: Store, row_id: str) -> tuple[bytes, bytes]:
    return b"odata-entityid", f"{call.org.api}/{store.table.set_name}({row_id})".encode()
