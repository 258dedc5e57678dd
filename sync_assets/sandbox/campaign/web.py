"""ASGI app of Campaign's REST API: routes a request to the engine, and answers it.

Source: docs/dev/references/campaign.md 1, 4, 5, 12.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sync_assets.sandbox.asgi import Answer, App, Receive, Scope, Send, read_body, send_answer
from sync_assets.sandbox.campaign import errors, gateway, history, metadata
from sync_assets.sandbox.campaign.engine import Campaign
from sync_assets.sandbox.campaign.errors import CampaignError
from sync_assets.sandbox.campaign.lists import Listing, SubCollection
from sync_assets.sandbox.campaign.resources import UNITS
from sync_assets.sandbox.campaign.store import Record
from sync_assets.sandbox.campaign.subject import key_of
from sync_assets.sandbox.campaign.view import View
from sync_assets.sandbox.journal import Engine

_JSON = [(b"content-type", b"application/json")]
_ENGINE: dict[str, Engine] = {"POST": "insert", "PATCH": "update", "PUT": "update", "DELETE": "delete", "GET": "read"}
_APIS = ("profileAndServices", "profileAndServicesExt", "customResources")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def app(campaign: Campaign) -> App:
    """Return the ASGI app of `https://<host>/<organization>/campaign/...`."""
    if campaign.faults is not None:
        campaign.faults.register("campaign", gateway.ENGINE_KINDS)
    prefix = f"/{campaign.organization}/campaign"

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        authorization = api_key = host = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"x-api-key":
                api_key = value
            elif name == b"host":
                host = value
        answer = gateway.refusal(campaign, authorization, api_key)
        if answer is not None:
            scope.setdefault("state", {})["key"] = key_of(campaign, scope, body)
        else:
            path: str = scope["path"]
            if path == prefix or path.startswith(prefix + "/"):
                base = f"{scope.get('scheme', 'https')}://{host.decode('ascii', 'replace')}{prefix}"
                segments = [segment for segment in path[len(prefix) :].split("/") if segment]
                answer = _Call(campaign, scope, base, body).answer(segments)
            else:
                answer = gateway.wrong_tenant(campaign.settings.wrong_tenant_status)
        await send_answer(send, answer)

    return serve


class _Call:
    """One request that passed the gateway."""

    def __init__(self, campaign: Campaign, scope: Scope, base: str, body: bytes) -> None:
        self.campaign = campaign
        self.scope = scope
        self.method: str = scope["method"]
        self.base = base
        self.body = body
        self.state: dict[str, Any] = scope.setdefault("state", {})

    def answer(self, segments: list[str]) -> Answer:
        try:
            return self._route(segments)
        except CampaignError as error:
            settings, status, text = self.campaign.settings, error.status, error.text
            if settings.v8_errors:
                status, text = error.v8
            elif settings.bare_errors and status == 500:
                text = errors.RST
            return Answer(status, gateway.TEXT, text.encode("utf-8", "replace"))

    def _route(self, segments: list[str]) -> Answer:
        if not segments:
            raise errors.bad_path()
        api, path = segments[0], segments[1:]
        if api == "workflow":
            return self._workflow(path)
        if api == "privacy":
            raise errors.not_built("The API 'privacy'")
        if api not in _APIS or (api == "profileAndServicesExt" and not self.campaign.settings.profile_extension):
            raise errors.bad_path()
        if not path:
            return self._described(metadata.service_document(self.campaign, api, self.base))
        if path[0] == "history":
            return self._history(api, path[1:])
        if path[:2] == ["resourceType", "history"]:
            raise errors.not_built("The metadata of the resource 'history'")
        if path[0] == "resourceType":
            return self._resource_type(api, path[1:])
        view = self.campaign.views.get((api, path[0].removesuffix(".json")))
        if view is None:
            if self.method in ("POST", "PATCH"):
                self._json()  # the body is parsed before the resource is looked up
            raise errors.bad_path()
        if path[1:] == ["metadata"]:
            return self._described(metadata.resource_type(self.campaign, view, self.base))
        return self._records(view, path[1:])

    def _records(self, view: View, segments: list[str]) -> Answer:
        """Answer a request for records. Each counts as an engine call, also if the engine rejects it."""
        engine = _ENGINE.get(self.method)
        units = view.table.resource.name in UNITS
        if engine is None or (units and not self.campaign.settings.organizational_units):
            raise errors.bad_path()
        self.state["engine"] = engine
        self.state["key"] = key_of(self.campaign, self.scope, self.body)
        faults = self.campaign.faults
        if faults is not None and faults.rules:
            path = self.scope.get("raw_path", b"").decode("ascii", "replace")
            rule = faults.take("campaign", gateway.ENGINE_KINDS, self.method, path)
            if rule is not None:
                self.state["fault"] = rule.kind
                if rule.parameters.get("carry_out"):
                    self._do(view, segments)
                return gateway.bare_rst()
        return self._do(view, segments)

    def _do(self, view: View, segments: list[str]) -> Answer:
        if self.method != "GET" and len(segments) > 1 and segments[1] in view.collections:
            raise errors.not_built(f"A change of the collection '{segments[1]}'")
        if self.method == "POST":
            if segments:
                raise errors.bad_path()
            return self._post(view)
        if self.method == "GET":
            return self._get(view, segments)
        part = self.method in ("PATCH", "PUT") and segments[1:] == ["location"]
        if len(segments) != 1 + part:
            raise errors.bad_path()
        settings = self.campaign.settings
        if part or self.method == "PUT":
            return self._other_way(view, segments[0], "of the part" if part else "of the record")
        by_key = settings.takes_key(self.method, view.table.resource.name)
        if self.method == "PATCH":
            body = self._json()
            record = self.campaign.resolve(view, segments[0], by_key=by_key)
            self._check_patch(view, record, body)
            self.campaign.update(view, record, body)
            if not body and settings.empty_patch_204:
                return Answer(204, [], b"")
            return _json(200, {"PKey": record.pkey, "href": view.href(record, self.base)})
        record = self.campaign.resolve(view, segments[0], by_key=by_key)
        if settings.delete_by_key != "ignored" or segments[0] == record.pkey:
            self.campaign.delete(view.table, record)
        status = 200 if view.table.resource.name == "profile" else 204
        return Answer(settings.custom_delete_status if view.table.resource.custom else status, [], b"")

    def _other_way(self, view: View, pkey: str, what: str) -> Answer:
        """Change `location` by a request of its own, or a record by a PUT, if the settings allow that."""
        ways, body = self.campaign.settings.location_ways, self._json()
        empties = self.method == "PUT" and what == "of the record" and "PUT empties" in ways
        if f"{self.method} {what}" not in ways and not empties:
            raise errors.bad_path()
        record = self.campaign.resolve(view, pkey, by_key=False)
        values = {"location": body} if what == "of the part" else body
        if self.method == "PUT" and "location" in values:  # what it does not name is empty then
            values["location"] = view.table.resource.groups["location"].empty | values["location"]
        self.campaign.update(view, record, ({"firstName": "", "lastName": ""} if empties else {}) | values)
        return _json(200, {"PKey": record.pkey, "href": view.href(record, self.base)})

    def _check_patch(self, view: View, record: Record, body: dict[str, Any]) -> None:
        """Raise CampaignError for changes that the API rejects in a PATCH, but a marketer can make."""
        settings, resource = self.campaign.settings, view.table.resource
        if settings.key_in_patch == "refused" and resource.identification in body:
            raise errors.key_change(resource.name, view.table.key_of(record), str(body[resource.identification]))
        if refused := [name for name in settings.refused_in_patch if name in body]:
            raise errors.read_only(refused[0], resource.name)
        if settings.location_in_patch != "accepted" and "location" in body:
            location, ways = body["location"], settings.location_ways
            pkey = location.pop("PKey", None) if isinstance(location, dict) else None
            if ("PKey in the group" in ways and pkey == f"{record.pkey}/location") or (view.api in ways):
                return
            raise errors.bare() if settings.location_in_patch == "refused" else errors.location_change()

    def _post(self, view: View) -> Answer:
        body = self._json()
        record = self.campaign.insert(view, body)
        links = self.campaign.settings.link_values_in_post
        return _json(201, view.show(record, self.base, links=links))

    def _get(self, view: View, segments: list[str]) -> Answer:
        """Answer a GET of a list (filters, then `_count` or one attribute), a record, or a part of a record."""
        published = view.table.resource.filters
        filters = []
        while len(filters) < len(segments) and segments[len(filters)] in published:
            filters.append(published[segments[len(filters)]])
        behind = segments[len(filters) :]
        query = self.scope["query_string"].decode("utf-8", "replace")
        if not behind or behind == ["_count"] or (len(behind) == 1 and behind[0] in view.fields):
            listing = Listing(self.campaign, view, filters, query)
            if behind == ["_count"]:
                return _json(200, {"count": listing.count()})
            return _json(200, listing.page(self.base, behind[0] if behind else None))
        if filters:
            raise errors.bad_path()
        by_key = self.campaign.settings.takes_key("GET", view.table.resource.name)
        record = self.campaign.resolve(view, segments[0], by_key=by_key, part=len(segments) > 1)
        if len(segments) == 1:
            shown = view.show(record, self.base, href=self.campaign.settings.href_in_get)
            if "PKey in the group" in self.campaign.settings.location_ways and shown.get("location"):
                shown["location"] = {**shown["location"], "PKey": f"{record.pkey}/location"}
            return _json(200, shown)
        return self._part(view, record, segments, query)

    def _part(self, view: View, record: Record, segments: list[str], query: str) -> Answer:
        """Answer a GET of `<record>/<link>` or `<record>/<collection>/`."""
        name, behind = segments[1], segments[2:]
        if name in view.links and not behind:
            return _json(200, view.show_link(view.links[name], record, self.base))
        collection = view.collections.get(name)
        if collection is None or behind not in ([], ["_count"]):
            raise errors.bad_path()
        if not collection.source:  # subscriptions are not emulated, so always empty
            return _nothing(f"{self.base}{view.path}/{segments[0]}/{name}", behind)
        source = self.campaign.views[view.api, collection.source]
        serials = {
            serial
            for child, link, serial in self.campaign.children(view.table, record)
            if child is source.table and link.name == collection.link
        }
        # The hrefs of `next` and `count` are below the path of the parent.
        below = SubCollection(view.path, f"/{segments[0]}/{name}", serials)
        listing = Listing(self.campaign, source, [], query, below)
        return _json(200, {"count": listing.count()} if behind else listing.page(self.base))

    def _history(self, api: str, segments: list[str]) -> Answer:
        """Answer a GET of `history/<PKey>` or of its events, an engine call as each read of a record."""
        if not self.campaign.settings.marketing_history:
            raise errors.bad_path()
        view = self.campaign.views["profileAndServices", "profile"]
        of_a_profile = api == view.api and bool(segments) and segments[0].startswith("@")
        events = segments[1:2] == ["events"] and segments[2:] in ([], ["_count"])
        if self.method != "GET" or not of_a_profile or not (events or len(segments) == 1):
            raise errors.not_built("The resource 'history' but for a GET by the PKey of a profile, and of its events,")
        self.state["engine"] = "read"
        record = self.campaign.resolve(view, segments[0], by_key=False)
        self.state["key"] = view.table.key_of(record) or None
        if events:
            return _nothing(f"{self.base}/{api}/history/{segments[0]}/events", segments[2:])
        return _json(200, history.shown(view, record, self.base))

    def _resource_type(self, api: str, segments: list[str]) -> Answer:
        """Answer `resourceType/<resource or PKey>[/filters]`."""
        name = segments[0] if segments else ""
        reference = self.campaign.tokens.read(name)
        for (endpoint, resource), view in self.campaign.views.items():
            exists = resource == name or (reference is not None and reference.table == view.table.number)
            if endpoint == api and exists:
                if len(segments) == 1:
                    return self._described(metadata.resource_type(self.campaign, view, self.base))
                if segments[1:] == ["filters"]:
                    return self._described(metadata.filters(self.campaign, view))
        raise errors.bad_path()

    def _workflow(self, segments: list[str]) -> Answer:
        workflows = self.campaign.workflows
        if len(segments) < 2 or segments[0] != "execution":
            raise errors.bad_path()
        workflow = workflows.find(segments[1])
        if self.method == "GET" and len(segments) == 2:
            return _json(200, workflows.show(workflow, self.base))
        if self.method == "POST" and segments[2:] == ["commands"]:
            return _json(200, workflows.command(workflow, self._json()))
        if self.method == "POST" and segments[2:4] == ["activities", "activity"] and segments[5:] == ["trigger"]:
            return _json(200, workflows.trigger(workflow, segments[4], self.body, self._json()))
        raise errors.bad_path()

    def _described(self, document: dict[str, Any]) -> Answer:
        if self.method != "GET":
            raise errors.bad_path()
        return _json(200, document)

    def _json(self) -> dict[str, Any]:
        """Return the body as JSON, for any content type (Adobe's client sends text/plain)."""
        try:
            body = _decode(self.body)
        except (msgspec.DecodeError, RecursionError):
            raise errors.not_json(self.body) from None
        if not isinstance(body, dict):
            raise errors.not_json(self.body)
        return body


def _nothing(href: str, behind: list[str]) -> Answer:
    """Return an empty collection, or its count."""
    document: dict[str, Any] = {"content": [], "count": {"href": f"{href}/_count"}, "serverSidePagination": True}
    return _json(200, {"count": 0} if behind else document)


def _json(status: int, document: Any) -> Answer:
    return Answer(status, _JSON, _encode(document))
