"""Campaign's part of the admin interface: what a marketer does in the UI, what a tester needs to see and to switch.

Nothing here is an engine call, and nothing stands in the journal.
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
    """Routes below /campaign; each takes and gives JSON, mistakes are 400 with `{"error"}`.

    - `GET dump?resource=profile`: every record, hidden ones too (`"_visible": false`)
    - `GET|POST settings`: see `settings.Settings`
    - `POST profiles [{...}, ...]`: inserts profiles directly; gives their PKeys
    - `POST records {"resource", "records": [...]}`: the same for any resource
    - `POST change {"resource", "keys": [..] | "pkeys": [..], "set": {...}, "raw": {...}}`: changes records as a
      marketer would; `raw` also sets read-only attributes such as change times
    - `POST delete {"resource", "keys" | "pkeys"}`; here and in `change` a key that repeats names all its records
    - `POST export {...}`: see `export.ExportOptions`; gives `{"file": name or null}`
    - `POST workflows {"id", "status"}`: e.g. an export that stopped with an error
    """

    def dump(told: dict[str, Any]) -> Any:
        table = _table(campaign, told)
        view = _view(campaign, table)
        return [
            {**view.show(record, _BASE), "_visible": campaign.visible(table, record)}
            for record in table.records.values()
        ]

    def settings(told: dict[str, Any]) -> Any:
        campaign.configure(told)
        return msgspec.to_builtins(campaign.settings)

    def insert(told: dict[str, Any]) -> Any:
        view = _view(campaign, _table(campaign, told))
        return {"pkeys": [campaign.insert(view, body).pkey for body in told.get("records", [])]}

    def change(told: dict[str, Any]) -> Any:
        table = _table(campaign, told)
        view = _view(campaign, table)
        raw = told.get("raw", {})
        if unknown := raw.keys() - view.fields.keys():
            raise BadSettings(f"{table.resource.name} has no attributes {', '.join(sorted(unknown))}")
        records = _records(table, told)
        for record in records:
            campaign.update(view, record, told.get("set", {}))
            table.change(record, dict(raw), {})
        return {"changed": len(records)}

    def delete(told: dict[str, Any]) -> Any:
        table = _table(campaign, told)
        records = _records(table, told)
        for record in records:
            if record.serial in table.records:
                campaign.delete(table, record)
        return {"deleted": len(records)}

    def write_export(told: dict[str, Any]) -> Any:
        file = export.write(campaign, told)
        return {"file": file.name if file is not None else None}

    def workflows(told: dict[str, Any]) -> Any:
        workflow = campaign.workflows.find(str(told.get("id")))
        if told.get("status") not in STATUSES:
            raise BadSettings(f"status must be one of {', '.join(STATUSES)}")
        campaign.workflows.set_status(workflow, told["status"])
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
    """Reads parameters from the query and the body; a body that is a list stands for `{"records": [...]}`."""

    async def endpoint(request: Request) -> Response:
        told: dict[str, Any] = dict(request.query_params)
        if body := await request.body():
            try:
                given = msgspec.json.decode(body)
            except msgspec.DecodeError as error:
                return JSONResponse({"error": f"not JSON: {error}"}, 400)
            told |= given if isinstance(given, dict) else {"records": given}
        try:
            result = action(told)
        except (BadSettings, CampaignError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(msgspec.json.encode(result), media_type="application/json")

    return endpoint


def _table(campaign: Campaign, told: dict[str, Any]) -> Table:
    name = told.get("resource", "profile")
    if name not in campaign.tables:
        raise BadSettings(f"there is no resource {name!r}; one of: {', '.join(campaign.tables)}")
    return campaign.tables[name]


def _view(campaign: Campaign, table: Table) -> View:
    return campaign.views[table.resource.apis[-1], table.resource.name]


def _records(table: Table, told: dict[str, Any]) -> list[Record]:
    if "pkeys" in told:
        wanted = set(told["pkeys"])
        found = [record for record in table.records.values() if record.pkey in wanted]
    else:
        wanted = set(told.get("keys", []))
        found = [record for key in wanted for record in table.with_key(key)]
    known = {record.pkey if "pkeys" in told else table.key_of(record) for record in found}
    if len(known) != len(wanted):
        raise BadSettings(f"{len(wanted - known)} of {len(wanted)} records of {table.resource.name} were not found")
    return found
