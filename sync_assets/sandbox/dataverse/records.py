"""Answer requests for single rows: create, read, change, delete (docs/dev/references/dataverse.md 3.1)."""

from __future__ import annotations

from typing import Any

from sync_assets.sandbox.asgi import Answer
from sync_assets.sandbox.dataverse.call import Call, applied, json_answer, no_content
from sync_assets.sandbox.dataverse.errors import DataverseError, exists, no_such_row
from sync_assets.sandbox.dataverse.expand import projection
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.dataverse.store import Store


def create(call: Call, store: Store) -> Answer:
    projected = _returned(call, store)
    row_id = call.org.create(store, call.json())
    call.touches("insert", row_id)
    return _written(call, store, row_id, projected, created=True)


def retrieve(call: Call, store: Store, key: str) -> Answer:
    row_id = existing(call, store, key)
    call.touches("read", row_id)
    row = call.org.row(store, row_id)
    etag = call.org.etag(store, row)
    is_whole = call.prefer.annotations is not None or "$expand" in call.options
    if call.headers.get("if-none-match", "") == etag and not is_whole:
        return Answer(304, [(b"etag", etag.encode()), (b"odata-version", b"4.0")], b"")
    return json_answer(
        _document(call, store, row_id, projection(call, store)),
        (b"etag", etag.encode()),
        *applied(f'odata.include-annotations="{call.prefer.annotations}"' if call.prefer.annotations else None),
    )


def change(call: Call, store: Store, key: str) -> Answer:
    """Answer a PATCH: an update with If-Match, a create with If-None-Match, else an upsert."""
    projected = _returned(call, store)
    row_id, named = call.org.resolve(store, key)
    if_match, only_create = call.headers.get("if-match"), call.headers.get("if-none-match", "").strip() == "*"
    if row_id is not None and row_id in store.rows:
        if only_create:
            raise exists()
        call.touches("update", row_id)
        call.org.update(store, row_id, call.json(), if_match)
        return _written(call, store, row_id, projected, created=False)
    if if_match is not None:
        raise no_such_row(store.table.name, row_id or key)
    row_id = call.org.create(store, call.json(), named if row_id is None else {store.table.key: row_id})
    call.touches("insert", row_id)
    return _written(call, store, row_id, projected, created=True)


def delete(call: Call, store: Store, key: str) -> Answer:
    row_id = existing(call, store, key)
    call.touches("delete", row_id)
    call.org.delete(store, row_id, call.headers.get("if-match"))
    return no_content()


def existing(call: Call, store: Store, key: str) -> str:
    """Return the id of a visible row by its key. Raises DataverseError."""
    row_id, _ = call.org.resolve(store, key)
    if row_id is None:
        raise DataverseError(
            404, "0x80060891", f"A record with the specified key values does not exist in {store.table.name} entity"
        )
    call.org.row(store, row_id)
    return row_id


def _returned(call: Call, store: Store) -> Projection | None:
    """Return the projection of the row to write. Called before the write, so that an invalid option writes nothing."""
    return projection(call, store) if call.options or call.prefer.representation else None


def _document(call: Call, store: Store, row_id: str, projected: Projection) -> dict[str, Any]:
    context = f"{call.api}/$metadata#{store.table.set_name}{projected.context}/$entity"
    return {"@odata.context": context, **projected.show(call.org.row(store, row_id))}


def _written(call: Call, store: Store, row_id: str, projected: Projection | None, *, created: bool) -> Answer:
    address = entity_id(call, store, row_id)
    location = [(b"location", address[1])] if created else []
    if projected is None or not call.prefer.representation:
        return no_content(address, *location)
    return json_answer(
        _document(call, store, row_id, projected),
        *location,
        *applied("return=representation"),
        status=201 if created else 200,
    )


def entity_id(call: Call, store: Store, row_id: str) -> tuple[bytes, bytes]:
    return b"odata-entityid", f"{call.api}/{store.table.set_name}({row_id})".encode()
