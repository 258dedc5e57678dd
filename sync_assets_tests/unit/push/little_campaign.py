"""A Campaign client with records in memory, for cases that the sandbox's settings do not cover.

A test can decide whether keys are accepted in URLs, and the answer to single requests.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import msgspec

from sync_assets.campaign.addressing import KEY, Addressing
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import Operation
from sync_assets.campaign.records import Records
from sync_assets.config.models import AddressFilter, TableConfig
from sync_assets.http.retry import Guard, Observer
from sync_assets.http.transport import Response

BY_KEY = AddressFilter(name="byKey", parameter="key_parameter")
CONTACT = TableConfig(table="contact", resource="profile", key="externalId")
BARE = Response(500, {}, b"RST-360011 An error has occurred - please contact your administrator.")

Answers = Callable[[Operation, str], Response | Exception | None]


class LittleCampaign(CampaignClient):
    """A Campaign client that sends no requests.

    Attributes:
        keys: By resource, the attribute that is its key.
        records: By resource and PKey.
        keys_in_urls: Operations that accept a key in the URL.
        untaken: Returns the answer to a key in the URL of another operation.
        answers: Returns an answer or an error for a request, which then is not executed; None for the usual answer.
        links_by_key: `resolved` to accept keys in links; else such links are stored as empty.
        log: (operation, path) of all requests.
    """

    def __init__(self, **keys: str) -> None:
        self.keys = keys
        self.records: dict[str, dict[str, dict[str, Any]]] = {resource: {} for resource in keys}
        self.keys_in_urls: set[Operation] = {"read", "update", "delete"}
        self.untaken: Callable[[str], Response] = absent
        self.answers: Answers = lambda operation, path: None
        self.links_by_key = "resolved"
        self.log: list[tuple[Operation, str]] = []
        self.endpoint: Any = SimpleNamespace(patience=1.0)

    def holds(self, resource: str, id_: str, **members: Any) -> str:
        """Add a record, and return its PKey."""
        pkey = f"@{resource}{len(self.log)}{len(self.records[resource])}"
        self.records[resource][pkey] = {self.keys[resource]: id_, **members, "PKey": pkey}
        return pkey

    def by_key(self, resource: str, id_: str) -> list[dict[str, Any]]:
        return [one for one in self.records[resource].values() if one[self.keys[resource]] == id_]

    async def call(
        self,
        operation: Operation,
        path: str,
        body: bytes | None = None,
        *,
        guard: Guard | None = None,
        observer: Observer | None = None,
        method: str = "",
    ) -> Response:
        await asyncio.sleep(0)
        if guard:
            guard()
        self.log.append((operation, path))
        answer = self.answers(operation, path)
        if isinstance(answer, Exception):
            if observer:
                observer(operation, 0, 0.0)
            raise answer
        answer = answer or self._do(operation, path, msgspec.json.decode(body or b"{}"))
        if observer:
            observer(operation, answer.status, 0.0)
        return answer

    def _do(self, operation: Operation, path: str, members: dict[str, Any]) -> Response:
        place, _, query = path.partition("?")
        _, resource, *named = place.split("/")
        if operation == "insert":
            pkey = self.holds(resource, str(members.get(self.keys[resource], "")))
            return self._write(self.records[resource][pkey], members, 201)
        if query:
            records = self.by_key(resource, unquote(query.partition("=")[2].partition("&")[0]))
            return Response(200, {}, msgspec.json.encode({"content": records}))
        name = unquote(named[0])
        taken = self.by_key(resource, name) if operation in self.keys_in_urls else []
        record = self.records[resource].get(name) or (taken[0] if taken else None)
        if record is None:
            return absent(name) if name.startswith("@") or operation in self.keys_in_urls else self.untaken(name)
        if operation == "delete":
            del self.records[resource][record["PKey"]]
            return Response(204, {}, b"")
        if operation == "update":
            return self._write(record, members, 200)
        return Response(200, {}, msgspec.json.encode(record))

    def _write(self, record: dict[str, Any], members: dict[str, Any], status: int) -> Response:
        for name, value in members.items():
            record[name] = self._link(str(value["PKey"])) if isinstance(value, dict) else value
        return Response(status, {}, msgspec.json.encode(record))

    def _link(self, pkey: str) -> dict[str, str] | None:
        if pkey.startswith("@"):
            return {"PKey": pkey}
        parents = [one for resource in self.records for one in self.by_key(resource, pkey)]
        return {"PKey": parents[0]["PKey"]} if parents and self.links_by_key == "resolved" else None

    def of(
        self, resource: str, findings: dict[str, str] | None = None, filter: AddressFilter | None = BY_KEY
    ) -> Records:
        """Return the records of a resource, with the findings about its addressing that are known already."""
        key = self.keys[resource]
        config = TableConfig(table="a_table", resource=resource, key=key, filter=filter)
        known = {KEY: key, **findings} if findings else {}
        return Records(self, config, Addressing.configured(config, known))


def absent(name: str) -> Response:
    return Response(404, {}, f"Unable to find document with path 'x' from key '{name}'".encode())
