"""Dataverse's part of the admin interface: state, changes as other users make them, switches.

Nothing here is an engine call, and nothing stands in the journal.
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
    """Routes below /d365; each takes and gives JSON.

    - `GET dump?table=contact`: all rows as the Web API shows them, hidden ones too
    - `POST load {"contacts": N}`: N more sample contacts with orders and lines; gives their ids by table
    - `POST create {"table", "rows": [{...}]}`, `POST change {"table", "ids" | "count", "set": {...}}`,
      `POST delete {"table", "ids" | "count"}`: writes by another user; `count`: that many rows, lowest ids first.
      Each gives `{"ids": [...]}`. A lookup may stand under its logical name, `{"new_contactid": "<id>" | null}`,
      and as in the Web API the row that it names must exist
    - `POST hide {"table", "ids"}`: takes rows out of what the caller's role may see
    - `POST expire {"table"}`: all delta tokens so far are expired
    - `POST tracking {"table", "enabled"}`: change tracking on or off
    - `POST metadata {"table", "column", "set": {...} | "remove": true}`: changes, adds or removes a column;
      `{"table"}` alone: some change that touches no column
    - `GET|POST settings`: see `switches.Switches`
    """

    async def dump(request: Request) -> Response:
        store = org.store(request.query_params.get("table", "contact"))
        show = Projection(store, org, None, Preferences()).show
        return json_response([show(store.rows[row_id]) for row_id in store.ids()])

    def load(told: dict[str, Any]) -> Any:
        return load_sample(org, int(told.get("contacts", 0)))

    def create(told: dict[str, Any]) -> Any:
        store = _store(org, told)
        with org.transaction():
            return {"ids": [org.create(store, _bound(org, store, row)) for row in told.get("rows", [])]}

    def change(told: dict[str, Any]) -> Any:
        store = _store(org, told)
        ids = _ids(store, told)
        with org.transaction():
            for row_id in ids:
                org.update(store, row_id, _bound(org, store, told.get("set", {})))
        return {"ids": ids}

    def delete(told: dict[str, Any]) -> Any:
        store = _store(org, told)
        ids = _ids(store, told)
        with org.transaction():
            for row_id in ids:
                org.delete(store, row_id)
        return {"ids": ids}

    def hide(told: dict[str, Any]) -> Any:
        store = _store(org, told)
        ids = _ids(store, told)
        org.hide(store, ids)
        return {"ids": ids}

    def expire(told: dict[str, Any]) -> Any:
        org.expire_tokens(_store(org, told))
        return {}

    def tracking(told: dict[str, Any]) -> Any:
        _store(org, told).change_tracking = bool(told.get("enabled", True))
        org.metadata_version += 1
        return {}

    def metadata(told: dict[str, Any]) -> Any:
        store = _store(org, told)
        if "column" not in told:
            org.metadata_changed(store)
        else:
            values = None if told.get("remove") else told.get("set", {})
            if values is not None and "options" in values:
                values["options"] = {int(code): text for code, text in values["options"].items()}
            try:
                org.change_column(store, told["column"], values)
            except TypeError as error:  # a field that columns do not have
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
    """Dataverse's own refusals become the admin interface's."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except DataverseError as error:
            raise BadRequest(error.message) from None

    return guarded


def _store(org: Organization, told: dict[str, Any]) -> Store:
    return org.store(told.get("table", "contact"))


def _bound(org: Organization, store: Store, values: dict[str, Any]) -> dict[str, Any]:
    """The values as the Web API wants them: a lookup named by the id of a row becomes a navigation property."""
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


def _ids(store: Store, told: dict[str, Any]) -> list[str]:
    if "ids" in told:
        return [str(row_id).lower() for row_id in told["ids"]]
    if not isinstance(told.get("count"), int):
        raise BadRequest('"ids" or "count" is missing')
    return list(islice(store.ids(), told["count"]))
