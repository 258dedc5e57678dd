"""Admin routes of the Dataverse emulator: dumps, changes by other users, switches.

Invariant: these requests are no engine calls, and are not in the journal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_assets.sandbox.admin import BadRequest, json_body, json_response
from sync_assets.sandbox.dataverse.call import Preferences
from sync_assets.sandbox.dataverse.errors import DataverseError
from sync_assets.sandbox.dataverse.organization import Organization
from sync_assets.sandbox.dataverse.projection import Projection
from sync_assets.sandbox.dataverse.sample import load_sample
from sync_assets.sandbox.dataverse.store import Store


def routes(org: Organization) -> list[Route]:
    """Return the routes below /d365. Bodies and answers are JSON.

    - `GET dump?table=contact`: all rows as the Web API shows them, also hidden ones
    - `POST load {"contacts": N}`: add N sample contacts with orders and order lines; returns their ids by table
    - `POST create {"table", "rows": [{...}]}`, `POST change {"table", "ids" | "count", "set": {...}}`,
      `POST delete {"table", "ids" | "count"}`: writes by another user; `count`: number of rows, lowest ids first. Each
      returns `{"ids": [...]}`. A lookup may have its logical name, `{"new_contactid": "<id>" | null}`; as in the Web
      API, its row must exist
    - `POST hide {"table", "ids"}`: hide rows from the caller's role
    - `POST expire {"table"}`: let all delta tokens of the table expire
    - `POST tracking {"table", "enabled"}`: switch change tracking on or off
    - `POST metadata {"table", "column", "set": {...} | "remove": true}`: change, add or remove a column;
      `{"table"}` alone: a metadata change without an effect on columns
    - `GET|POST settings`: see `switches.Switches`
    """

    async def dump(request: Request) -> Response:
        store = org.store(request.query_params.get("table", "contact"))
        show = Projection(store, org, None, Preferences()).show
        return json_response([show(store.rows[row_id]) for row_id in store.ids()])

    def load(body: dict[str, Any]) -> Any:
        return load_sample(org, int(body.get("contacts", 0)))

    def create(body: dict[str, Any]) -> Any:
        store = _store(org, body)
        with org.transaction():
            return {"ids": [org.create(store, _bound(org, store, row)) for row in body.get("rows", [])]}

    def change(body: dict[str, Any]) -> Any:
        store = _store(org, body)
        ids = _ids(store, body)
        with org.transaction():
            for row_id in ids:
                org.update(store, row_id, _bound(org, store, body.get("set", {})))
        return {"ids": ids}

    def delete(body: dict[str, Any]) -> Any:
        store = _store(org, body)
        ids = _ids(store, body)
        with org.transaction():
            for row_id in ids:
                org.delete(store, row_id)
        return {"ids": ids}

    def hide(body: dict[str, Any]) -> Any:
        store = _store(org, body)
        ids = _ids(store, body)
        org.hide(store, ids)
        return {"ids": ids}

    def expire(body: dict[str, Any]) -> Any:
        org.expire_tokens(_store(org, body))
        return {}

    def tracking(body: dict[str, Any]) -> Any:
        _store(org, body).change_tracking = bool(body.get("enabled", True))
        org.metadata_version += 1
        return {}

    def metadata(body: dict[str, Any]) -> Any:
        store = _store(org, body)
        if "column" not in body:
            org.metadata_changed(store)
        else:
            values = None if body.get("remove") else body.get("set", {})
            if values is not None and "options" in values:
                values["options"] = {int(code): text for code, text in values["options"].items()}
            try:
                org.change_column(store, body["column"], values)
            except TypeError as error:  # a field that `Column` does not have
                raise BadRequest(str(error)) from None
        return {}

    async def settings(request: Request) -> Response:
        try:
            org.switches.change(await json_body(request) if request.method == "POST" else {})
        except msgspec.ValidationError as error:
            raise BadRequest(str(error)) from None
        return json_response(org.switches)

    actions: dict[str, Callable[[dict[str, Any]], Any]] = {
        "load": load, "create": create, "change": change, "delete": delete, "hide": hide, "expire": expire,
        "tracking": tracking, "metadata": metadata,
    }  # fmt: skip
    return [
        Route("/d365/dump", _guarded(dump)),
        Route("/d365/settings", settings, methods=["GET", "POST"]),
        *(Route(f"/d365/{name}", _guarded(_posted(action)), methods=["POST"]) for name, action in actions.items()),
    ]


Endpoint = Callable[[Request], Awaitable[Response]]


def _posted(action: Callable[[dict[str, Any]], Any]) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return json_response(action(await json_body(request)))

    return endpoint


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with Dataverse's errors converted into errors of the admin interface."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except DataverseError as error:
            raise BadRequest(error.message) from None

    return guarded


def _store(org: Organization, body: dict[str, Any]) -> Store:
    return org.store(body.get("table", "contact"))


def _bound(org: Organization, store: Store, values: dict[str, Any]) -> dict[str, Any]:
    """Return values as the Web API accepts them: a lookup by the id of a row becomes a navigation property."""
    bound: dict[str, Any] = {}
    for name, value in values.items():
        column = store.columns.get(name)
        if column is None or not column.is_lookup:
            bound[name] = value
            continue
        stores = [org.store(target.table) for target in column.targets]
        found = next((n for n, other in enumerate(stores) if str(value).lower() in other.rows), 0)
        reference = None if value is None else f"/{stores[found].table.set_name}({value})"
        bound[f"{column.targets[found].navigation}@odata.bind"] = reference
    return bound


def _ids(store: Store, body: dict[str, Any]) -> list[str]:
    if "ids" in body:
        return [str(row_id).lower() for row_id in body["ids"]]
    if not isinstance(body.get("count"), int):
        raise BadRequest('"ids" or "count" is missing')
    return list(islice(store.ids(), body["count"]))
