"""Admin routes of the Campaign emulator: changes that a marketer makes in the UI, and dumps and settings for tests.

Invariant: these requests are no engine calls, and are not in the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_assets.sandbox.admin import BadRequest, body_of, json_response
from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.campaign.errors import CampaignError
from sync_assets.sandbox.campaign.imports.import_workflows import Imports
from sync_assets.sandbox.campaign.settings import BadSettings
from sync_assets.sandbox.campaign.store import Record, Table
from sync_assets.sandbox.campaign.view import View
from sync_assets.sandbox.campaign.workflows import STATUSES


class ResourceBody(msgspec.Struct, forbid_unknown_fields=True):
    resource: str = "profile"


class Insert(ResourceBody, kw_only=True):
    records: list[dict[str, Any]]


class RecordSelection(ResourceBody):
    keys: list[str] | None = None
    pkeys: list[str] | None = None
    count: int | None = None


class Change(RecordSelection):
    set: dict[str, Any] = {}
    raw: dict[str, Any] = {}


class Workflow(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    status: str


class ImportRun(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    repeat: int | None = None


def routes(campaign: Campaign, imports: Imports) -> list[Route]:
    """Return the routes below /campaign. Bodies and answers are JSON; an error is 400 with `{"error"}`.

    - `GET dump?resource=profile`: all records, also hidden ones (`"_visible": false`)
    - `GET|POST settings`: see `settings.Settings`
    - `POST profiles [{...}, ...]`: insert profiles directly; returns their PKeys
    - `POST records {"resource", "records": [...]}`: the same for any resource
    - `POST change {"resource", "keys": [..] | "pkeys": [..] | "count", "set": {...}, "raw": {...}}`: change records as
      a marketer does; `raw` also sets read-only attributes such as change times
    - `POST delete {"resource", "keys" | "pkeys" | "count"}`: here and in `change`, a key that several records have
      selects all, and `count` the first records with a key. Both return `{"keys": [...]}`
    - `POST export {...}`: see `export.ExportOptions`; returns `{"file": name or null}`
    - `POST workflows {"id", "status"}`: set a status, for example that of an export stopped by an error
    - `GET imports`: the import workflows by id, each with its settings, status, queued commands, runs and copies
    - `POST imports {"id", ...}`: change one, or create it; see `imports.import_run.ImportWorkflow`; returns it
    - `POST imports/run {"id", "repeat"}`: begin a run at once, as a person does; with the number of an earlier run in
      `repeat` it imports the copies that the activity keeps of that run, whether the files were deleted or not
    """

    def dump(body: ResourceBody) -> Any:
        table = _table(campaign, body.resource)
        view = _view(campaign, table)
        return [
            {**view.show(record, _BASE), "_visible": campaign.visible(table, record)}
            for record in table.records.values()
        ]

    def settings(values: dict[str, Any]) -> Any:
        campaign.configure(values)
        return msgspec.to_builtins(campaign.settings)

    def insert(body: Insert) -> Any:
        view = _view(campaign, _table(campaign, body.resource))
        return {"pkeys": [campaign.insert(view, record).pkey for record in body.records]}

    def change(body: Change) -> Any:
        table = _table(campaign, body.resource)
        view = _view(campaign, table)
        if unknown := body.raw.keys() - view.fields.keys():
            raise BadSettings(f"{table.resource.name} has no attributes {', '.join(sorted(unknown))}")
        records = _records(table, body)
        for record in records:
            campaign.update(view, record, body.set)
            table.change(record, dict(body.raw), {})
        return {"keys": [table.key_of(record) for record in records]}

    def delete(body: RecordSelection) -> Any:
        table = _table(campaign, body.resource)
        records = _records(table, body)
        keys = [table.key_of(record) for record in records]
        for record in records:
            if record.serial in table.records:
                campaign.delete(table, record)
        return {"keys": keys}

    def write_export(values: dict[str, Any]) -> Any:
        file = campaign.export.write(values)
        return {"file": file.name if file is not None else None}

    def workflows(body: Workflow) -> Any:
        workflow = campaign.workflows.find(body.id)
        if body.status not in STATUSES:
            raise BadSettings(f"status must be one of {', '.join(STATUSES)}")
        campaign.workflows.set_status(workflow, body.status)
        return {"id": workflow.id, "status": workflow.status}

    def configure_import(values: dict[str, Any]) -> Any:
        return imports.configure(values) if values else imports.shown()

    def run_import(body: ImportRun) -> Any:
        imports.run(body.id, body.repeat)
        return {}

    return [
        Route("/campaign/dump", _answer(dump, ResourceBody), methods=["GET"]),
        Route("/campaign/settings", _answer(settings), methods=["GET", "POST"]),
        Route("/campaign/profiles", _answer(insert, Insert), methods=["POST"]),
        Route("/campaign/records", _answer(insert, Insert), methods=["POST"]),
        Route("/campaign/change", _answer(change, Change), methods=["POST"]),
        Route("/campaign/delete", _answer(delete, RecordSelection), methods=["POST"]),
        Route("/campaign/export", _answer(write_export), methods=["POST"]),
        Route("/campaign/workflows", _answer(workflows, Workflow), methods=["POST"]),
        Route("/campaign/imports", _answer(configure_import), methods=["GET", "POST"]),
        Route("/campaign/imports/run", _answer(run_import, ImportRun), methods=["POST"]),
    ]


_BASE = "https://localhost/campaign"


def _answer(action: Callable[[Any], Any], shape: type[msgspec.Struct] | None = None) -> Callable[[Request], Any]:
    """Return an endpoint that passes query and body to an action, as `shape` if it has one.

    A list as the body means `{"records": [...]}`.
    """

    async def endpoint(request: Request) -> Response:
        parameters: dict[str, Any] = dict(request.query_params)
        if body := await request.body():
            try:
                given = msgspec.json.decode(body)
            except msgspec.DecodeError as error:
                return json_response({"error": f"not JSON: {error}"}, 400)
            parameters |= given if isinstance(given, dict) else {"records": given}
        try:
            result = action(parameters if shape is None else body_of(shape, parameters))
        except (BadRequest, BadSettings, CampaignError) as error:
            return json_response({"error": str(error)}, 400)
        return Response(msgspec.json.encode(result), media_type="application/json")

    return endpoint


def _table(campaign: Campaign, name: str) -> Table:
    if name not in campaign.tables:
        raise BadSettings(f"there is no resource {name!r}; one of: {', '.join(campaign.tables)}")
    return campaign.tables[name]


def _view(campaign: Campaign, table: Table) -> View:
    return campaign.views[table.resource.apis[-1], table.resource.name]


def _records(table: Table, body: RecordSelection) -> list[Record]:
    if body.pkeys is not None:
        ids = set(body.pkeys)
        records = [record for record in table.records.values() if record.pkey in ids]
    elif body.keys is not None:
        ids = set(body.keys)
        records = [record for key in ids for record in table.with_key(key)]
    elif body.count is not None:
        return list(islice(filter(table.key_of, table.records.values()), body.count))
    else:
        raise BadSettings('"keys", "pkeys" or "count" is missing')
    existing = {record.pkey if body.pkeys is not None else table.key_of(record) for record in records}
    if len(existing) != len(ids):
        raise BadSettings(f"{len(ids - existing)} of {len(ids)} records of {table.resource.name} were not found")
    return records
