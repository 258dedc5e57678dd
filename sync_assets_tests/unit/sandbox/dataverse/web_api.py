"""Calls to an organization's Web API without a network: what a request is answered, header for header."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from sync_assets.sandbox.dataverse import Organization
from sync_assets.sandbox.dataverse.api import TAKEN_KINDS, dispatch
from sync_assets.sandbox.dataverse.call import Call, below_base
from sync_assets.sandbox.faults import Faults


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal)

    @property
    def rows(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.body
        return self.json["value"]

    @property
    def error(self) -> str:
        """The error code; fails if it is no error."""
        assert self.status >= 400, self.body
        return self.json["error"]["code"]

    @property
    def message(self) -> str:
        return self.json["error"]["message"]

    @property
    def new_id(self) -> str:
        """The id in OData-EntityId, or in Location beside a row that is returned."""
        address = self.headers.get("odata-entityid") or self.headers["location"]
        return address.rpartition("(")[2].rstrip(")")


class WebApi:
    def __init__(self, org: Organization | None = None) -> None:
        self.org = org or Organization("https://org.example")
        self.faults = Faults()
        self.faults.register("d365", TAKEN_KINDS)

    def call(
        self, method: str, address: str, body: Any = None, prefer: str = "", headers: dict[str, str] | None = None
    ) -> Reply:
        """`address`: below the API's base, or a whole link from an answer."""
        target = address.removeprefix(self.org.url)
        if not target.startswith("/"):
            target = f"/api/data/v9.2/{target}"
        raw_path, _, query = target.partition("?")
        path = below_base(raw_path)
        assert path is not None, address
        sent = {"prefer": prefer} | (headers or {})
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        answer = dispatch(Call(self.org, self.faults, method, path, query, sent, data, {}, target))
        return Reply(answer.status, {name.decode(): value.decode() for name, value in answer.headers}, answer.body)

    def get(self, address: str, prefer: str = "", **headers: str) -> Reply:
        return self.call("GET", address, None, prefer, {k.replace("_", "-"): v for k, v in headers.items()})

    def post(self, address: str, body: Any, prefer: str = "") -> Reply:
        return self.call("POST", address, body, prefer)

    def patch(self, address: str, body: Any, prefer: str = "", **headers: str) -> Reply:
        return self.call("PATCH", address, body, prefer, {k.replace("_", "-"): v for k, v in headers.items()})

    def delete(self, address: str, **headers: str) -> Reply:
        return self.call("DELETE", address, None, "", {k.replace("_", "-"): v for k, v in headers.items()})

    def new(self, set_name: str = "contacts", **values: Any) -> str:
        """Creates a row; gives its id."""
        reply = self.post(set_name, values)
        assert reply.status == 204, reply.body
        return reply.new_id

    def query(self, filter: str, set_name: str = "contacts", select: str = "firstname") -> list[Any]:
        """The first selected column of the rows that a filter keeps, in the order of the rows' ids."""
        return [row[select] for row in self.get(f"{set_name}?$select={select}&$filter={quote(filter)}").rows]

    def pages(self, address: str, prefer: str = "") -> tuple[list[list[dict[str, Any]]], str | None]:
        """All pages from here on, and the delta link that the last one carries."""
        result: list[list[dict[str, Any]]] = []
        following: str | None = address
        delta: str | None = None
        while following:
            document = self.get(following, prefer).json
            assert "value" in document, document
            result.append(document["value"])
            following = document.get("@odata.nextLink")
            delta = document.get("@odata.deltaLink")
            assert following is None or delta is None, "a delta link stands on the last page only"
        return result, delta
