"""Admin routes of the Dataverse emulator: dumps, changes by other users, switches.

Invariant: these requests are no engine calls, and are not in the journal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from typing import Annotated, Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_assets.sandbox.admin import BadRequest, body_of, json_body, json_response
from sync_assets.sandbox.dataverse.call import Preferences
from sync_assets.sandbox.dataverse.errors import DataverseError
from sync_assets.sandbox.dataverse.organization import Organization
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.dataverse.sample import load_sample
from sync_assets.sandbox.dataverse.store import Store

Number = Annotated[int, msgspec.Meta(ge=0)]
T = TypeVar("T", bound=msgspec.Struct)


class Load(msgspec.Struct, forbid_unknown_fields=True):
    contacts: Number


class TableBody(msgspec.Struct, forbid_unknown_fields=True):
    table: str = "contact"


class Create(TableBody, kw_only=True):
    rows: list[dict[str, Any]]


class RowSelection(TableBody):
    ids: list[str] | None = None
    count: Number | None = None


class Change(RowSelection):
    set: dict[str, Any] = {}


class Merge(TableBody, kw_only=True):
    target: str
    subordinate: str
    set: dict[str, Any] = {}


class Tracking(TableBody):
    enabled: bool = True


class Metadata(TableBody):
    column: str | None = None
    set: dict[str, Any] = {}
    remove: bool = False


def routes(org: Organization) -> list[Route]:
    """Return the routes below /d365. Bodies and answers are JSON.

    - `GET dump?table=contact`: all rows as the Web API shows them, also hidden ones
    - `POST load {"contacts": N}`: add N sample contacts with orders and order lines; returns their ids by table
    - `POST create {"table", "rows": [{...}]}`, `POST change {"table", "ids" | "count", "set": {...}}`,
      `POST delete {"table", "ids" | "count"}`: writes by another user; `count`: number of rows, lowest ids first. Each
      returns `{"ids": [...]}`. A lookup may have its logical name, `{"new_contactid": "<id>" | null}`; as in the Web
      API, its row must exist. Numbers, choices and booleans may be texts, as in `"true"`
    - `POST merge {"table", "target", "subordinate", "set": {...}}`: a merge by another user, `set` in the target
    - `POST hide {"table", "ids"}`: hide rows from the caller's role
    - `POST expire {"table"}`: let all delta tokens of the table expire
    - `POST restore`: go back to the state before the last write of each changed row, as a restored backup does
    - `POST tracking {"table", "enabled"}`: switch change tracking on or off
    - `POST metadata {"table", "column", "set": {...} | "remove": true}`: change, add or remove a column;
      `{"table"}` alone: a metadata change without an effect on columns
    - `GET|POST settings`: see `switches.Switches`
    """

    async def dump(request: Request) -> Response:
        store = org.store(request.query_params.get("table", "contact"))
        show = Projection(store, org, None, Preferences()).show
        return json_response([show(store.rows[row_id]) for row_id in store.ids()])

    def load(body: Load) -> Any:
        return load_sample(org, body.contacts)

    def create(body: Create) -> Any:
        store = org.store(body.table)
        with org.transaction():
            return {"ids": [org.create(store, _bound(org, store, row)) for row in body.rows]}

    def change(body: Change) -> Any:
        store = org.store(body.table)
        ids = _ids(store, body)
        with org.transaction():
            for row_id in ids:
                org.update(store, row_id, _bound(org, store, body.set))
        return {"ids": ids}

    def delete(body: RowSelection) -> Any:
        store = org.store(body.table)
        ids = _ids(store, body)
        with org.transaction():
            for row_id in ids:
                org.delete(store, row_id)
        return {"ids": ids}

    def merge(body: Merge) -> Any:
        store = org.store(body.table)
        org.merge(store, body.target.lower(), body.subordinate.lower(), _bound(org, store, body.set))
        return {}

    def hide(body: RowSelection) -> Any:
        store = org.store(body.table)
        ids = _ids(store, body)
        org.hide(store, ids)
        return {"ids": ids}

    def expire(body: TableBody) -> Any:
        org.expire_tokens(org.store(body.table))
        return {}

    def restore(body: TableBody) -> Any:
        org.restore()
        return {}

    def tracking(body: Tracking) -> Any:
        org.store(body.table).change_tracking = body.enabled
        org.metadata_version += 1
        return {}

    def metadata(body: Metadata) -> Any:
        store = org.store(body.table)
        if body.column is None:
            org.metadata_changed(store)
        else:
            values = None if body.remove else dict(body.set)
            if values is not None and "options" in values:
                values["options"] = {int(code): text for code, text in values["options"].items()}
            try:
                org.change_column(store, body.column, values)
            except TypeError as error:  # a field that `Column` does not have
                raise BadRequest(str(error)) from None
        return {}

    async def settings(request: Request) -> Response:
        try:
            org.switches.change(await json_body(request) if request.method == "POST" else {})
        except msgspec.ValidationError as error:
            raise BadRequest(str(error)) from None
        return json_response(org.switches)

    actions = {
        "load": _posted(load, Load), "create": _posted(create, Create), "change": _posted(change, Change),
        "delete": _posted(delete, RowSelection), "merge": _posted(merge, Merge), "hide": _posted(hide, RowSelection),
        "expire": _posted(expire, TableBody), "restore": _posted(restore, TableBody),
        "tracking": _posted(tracking, Tracking), "metadata": _posted(metadata, Metadata),
    }  # fmt: skip
    return [
        Route("/d365/dump", _guarded(dump)),
        Route("/d365/settings", settings, methods=["GET", "POST"]),
        *(Route(f"/d365/{name}", _guarded(action), methods=["POST"]) for name, action in actions.items()),
    ]


Endpoint = Callable[[Request], Awaitable[Response]]


def _posted(action: Callable[[T], Any], shape: type[T]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return json_response(action(body_of(shape, await json_body(request))))

    return endpoint


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with Dataverse's errors converted into errors of the admin interface."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except DataverseError as error:
            raise BadRequest(error.message) from None

    return guarded


_NOT_TEXT = {"Boolean", "Integer", "BigInt", "Decimal", "Money", "Double", "Picklist", "State", "Status"}


def _bound(org: Organization, store: Store, values: dict[str, Any]) -> dict[str, Any]:
    """Return values as the Web API accepts them: numbers from texts, and for a lookup its navigation property."""
    bound: dict[str, Any] = {}
    for name, value in values.items():
        column = store.columns.get(name)
        if column is None or not column.is_lookup:
            bound[name] = value
            if column and column.type in _NOT_TEXT and isinstance(value, str):
                with suppress(msgspec.DecodeError):  # the organization refuses the text
                    bound[name] = msgspec.json.decode(value)
            continue
        stores = [org.store(target.table) for target in column.targets]
        position = next((n for n, other in enumerate(stores) if str(value).lower() in other.rows), 0)
        reference = None if value is None else f"/{stores[position].table.set_name}({value})"
        bound[f"{column.targets[position].navigation}@odata.bind"] = reference
    return bound


def _ids(store: Store, body: RowSelection) -> list[str]:
    if body.ids is not None:
        return [row_id.lower() for row_id in body.ids]
    if body.count is None:
        raise BadRequest('"ids" or "count" is missing')
    return list(islice(store.ids(), body.count))
