"""Admin routes of the Campaign emulator: changes that a marketer makes in the UI, and dumps and settings for tests.

Invariant: these requests are no engine calls, and are not in the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_assets.sandbox.campaign import export
from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.campaign.errors import CampaignError
from sync_assets.sandbox.campaign.settings import BadSettings
from sync_assets.sandbox.campaign.store import Record, Table
from sync_assets.sandbox.campaign.view import View
from sync_assets.sandbox.campaign.workflows import STATUSES


def routes(campaign: Campaign) -> list[Route]:
    """Return the routes below /campaign. Bodies and answers are JSON; an error is 400 with `{"error"}`.

    - `GET dump?resource=profile`: all records, also hidden ones (`"_visible": false`)
    - `GET|POST settings`: see `settings.Settings`
    - `POST profiles [{...}, ...]`: insert profiles directly; returns their PKeys
    - `POST records {"resource", "records": [...]}`: the same for any resource
    - `POST change {"resource", "keys": [..] | "pkeys": [..], "set": {...}, "raw": {...}}`: change records as a
      marketer does; `raw` also sets read-only attributes such as change times
    - `POST delete {"resource", "keys" | "pkeys"}`: here and in `change`, a key that several records have selects all
    - `POST export {...}`: see `export.ExportOptions`; returns `{"file": name or null}`
    - `POST workflows {"id", "status"}`: set a status, for example that of an export stopped by an error
    """

    def dump(parameters: dict[str, Any]) -> Any:
        table = _table(campaign, parameters)
        view = _view(campaign, table)
        return [
            {**view.show(record, _BASE), "_visible": campaign.visible(table, record)}
            for record in table.records.values()
        ]

    def settings(parameters: dict[str, Any]) -> Any:
        campaign.configure(parameters)
        return msgspec.to_builtins(campaign.settings)

    def insert(parameters: dict[str, Any]) -> Any:
        view = _view(campaign, _table(campaign, parameters))
        return {"pkeys": [campaign.insert(view, body).pkey for body in parameters.get("records", [])]}

    def change(parameters: dict[str, Any]) -> Any:
        table = _table(campaign, parameters)
        view = _view(campaign, table)
        raw = parameters.get("raw", {})
        if unknown := raw.keys() - view.fields.keys():
            raise BadSettings(f"{table.resource.name} has no attributes {', '.join(sorted(unknown))}")
        records = _records(table, parameters)
        for record in records:
            campaign.update(view, record, parameters.get("set", {}))
            table.change(record, dict(raw), {})
        return {"changed": len(records)}

    def delete(parameters: dict[str, Any]) -> Any:
        table = _table(campaign, parameters)
        records = _records(table, parameters)
        for record in records:
            if record.serial in table.records:
                campaign.delete(table, record)
        return {"deleted": len(records)}

    def write_export(parameters: dict[str, Any]) -> Any:
        file = export.write(campaign, parameters)
        return {"file": file.name if file is not None else None}

    def workflows(parameters: dict[str, Any]) -> Any:
        workflow = campaign.workflows.find(str(parameters.get("id")))
        if parameters.get("status") not in STATUSES:
            raise BadSettings(f"status must be one of {', '.join(STATUSES)}")
        campaign.workflows.set_status(workflow, parameters["status"])
        return {"id": workflow.id, "status": workflow.status}

    return [
        Route("/campaign/dump", _answer(dump), methods=["GET"]),
        Route("/campaign/settings", _answer(settings), methods=["GET", "POST"]),
        Route("/campaign/profiles", _answer(insert), methods=["POST"]),
        Route("/campaign/records", _answer(insert), methods=["POST"]),
        Route("/campaign/change", _answer(change), methods=["POST"]),
        Route("/campaign/delete", _answer(delete), methods=["POST"]),
        Route("/campaign/export", _answer(write_export), methods=["POST"]),
        Route("/campaign/workflows", _answer(workflows), methods=["POST"]),
    ]


_BASE = "https://localhost/campaign"


def _answer(action: Callable[[dict[str, Any]], Any]) -> Callable[[Request], Any]:
    """Return an endpoint that passes query and body to an action. A list as the body means `{"records": [...]}`."""

    async def endpoint(request: Request) -> Response:
        parameters: dict[str, Any] = dict(request.query_params)
        if body := await request.body():
            try:
                given = msgspec.json.decode(body)
            except msgspec.DecodeError as error:
                return JSONResponse({"error": f"not JSON: {error}"}, 400)
            parameters |= given if isinstance(given, dict) else {"records": given}
        try:
            result = action(parameters)
        except (BadSettings, CampaignError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(msgspec.json.encode(result), media_type="application/json")

    return endpoint


def _table(campaign: Campaign, parameters: dict[str, Any]) -> Table:
    name = parameters.get("resource", "profile")
    if name not in campaign.tables:
        raise BadSettings(f"there is no resource {name!r}; one of: {', '.join(campaign.tables)}")
    return campaign.tables[name]


def _view(campaign: Campaign, table: Table) -> View:
    return campaign.views[table.resource.apis[-1], table.resource.name]


def _records(table: Table, parameters: dict[str, Any]) -> list[Record]:
    if "pkeys" in parameters:
        wanted = set(parameters["pkeys"])
        found = [record for record in table.records.values() if record.pkey in wanted]
    else:
        wanted = set(parameters.get("keys", []))
        found = [record for key in wanted for record in table.with_key(key)]
    known = {record.pkey if "pkeys" in parameters else table.key_of(record) for record in found}
    if len(known) != len(wanted):
        raise BadSettings(f"{len(wanted - known)} of {len(wanted)} records of {table.resource.name} were not found")
    return found
