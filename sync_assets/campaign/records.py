"""The records of one resource, addressed by the key that we gave them.

Every method returns the dialect's `Verdict`; they raise only what says nothing about the record: no connection, no
answer, no access (`Endpoint.send`). Source: campaign-standard-api.md sections 4 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.campaign.client import CallCounter, CampaignClient
from sync_assets.campaign.dialect import Verdict, verdict
from sync_assets.http import Guard, Observer


@dataclass(frozen=True, slots=True)
class Filter:
    """A published filter on the key, and the query parameter that takes the value."""

    name: str
    parameter: str


@dataclass(frozen=True, slots=True)
class Records:
    """`key`: the attribute that holds our id. `filter`: look records up by it; None: the key stands in the URL.

    `observer` is told of every single request, besides the client's own counter.
    """

    client: CampaignClient
    api: str
    resource: str
    key: str
    filter: Filter | None = None
    observer: Observer | None = None
    _path: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_path", f"{self.api}/{self.resource}")

    async def insert(self, body: bytes, guard: Guard | None = None) -> Verdict:
        """POST. Raises OutcomeUnknown if the answer is lost: then the record may be there."""
        answer = await self.client.call("insert", self._path, body, guard=guard, observer=self.observer)
        return verdict(answer, "insert")

    async def update(self, key: str, body: bytes, guard: Guard | None = None) -> Verdict:
        """PATCH; with a filter the record is looked up first, which is one read more."""
        address, name = f"{self._path}/{quote(key, safe='')}", key
        if self.filter:
            found = await self._look_up(key, guard)
            if isinstance(found, Verdict):
                return found
            address, name = found
        answer = await self.client.call("update", address, body, guard=guard, observer=self.observer)
        return verdict(answer, "update", name)

    async def delete(self, key: str, guard: Guard | None = None) -> Verdict:
        """DELETE wants the server's own id (section 5), so the record is looked up first: one read and one delete."""
        found = await self._look_up(key, guard)
        if isinstance(found, Verdict):
            return found
        address, name = found
        answer = await self.client.call("delete", address, guard=guard, observer=self.observer)
        return verdict(answer, "delete", name)

    async def find(self, key: str, guard: Guard | None = None) -> dict[str, Any] | Verdict:
        """The record that carries our key, or why there is none (`missing`, ...)."""
        if self.filter:
            found = await self._filtered(self.filter, key, guard)
        else:
            path = f"{self._path}/{quote(key, safe='')}"
            answer = await self.client.call("read", path, guard=guard, observer=self.observer)
            read = verdict(answer, "read", key)
            found = read if read.kind != "done" else _decoded(answer.body)
        if isinstance(found, dict) and not _same(found.get(self.key), key):
            return Verdict(
                "refused",
                f"Campaign found a record under this key whose {self.key} is another one: "
                f"is {self.key} the identification key of {self.resource}?",
            )
        return found

    async def _filtered(self, given: Filter, key: str, guard: Guard | None) -> dict[str, Any] | Verdict:
        """Only records that carry our key count: an unknown parameter is ignored and would find all (section 4)."""
        path = f"{self._path}/{given.name}?{given.parameter}={quote(key, safe='')}&_lineCount=5"
        answer = await self.client.call("read", path, guard=guard, observer=self.observer)
        read = verdict(answer, "read", given.name)
        if read.kind == "missing":
            return Verdict("denied", f"Campaign has no filter {given.name} on {self.resource}: publish it.")
        if read.kind != "done":
            return read
        page = _decoded(answer.body)
        content = page.get("content") if isinstance(page, dict) else None
        listed = [record for record in content if isinstance(record, dict)] if isinstance(content, list) else []
        ours = [record for record in listed if _same(record.get(self.key), key)]
        if listed and not ours:
            return Verdict(
                "denied",
                f"The filter {given.name} of {self.resource} finds records of other keys: check its parameter "
                f"{given.parameter} and that it compares {self.key}.",
            )
        if len(ours) > 1:
            return Verdict("refused", f"More than one {self.resource} of Campaign carries this {self.key}.")
        return ours[0] if ours else Verdict("missing", f"no {self.resource} with this {self.key}")

    async def _look_up(self, key: str, guard: Guard | None) -> tuple[str, str] | Verdict:
        """Where the record is to be addressed, and the name under which the server would miss it."""
        found = await self.find(key, guard)
        if isinstance(found, Verdict):
            return found
        pkey = str(found.get("PKey") or "")
        address = str(found.get("href") or "") or (f"{self._path}/{quote(pkey, safe='')}" if pkey else "")
        if not address:
            return Verdict("refused", f"Campaign's answer for {self.resource} has neither PKey nor href.")
        return address, pkey or address.rpartition("/")[2]


def counted(calls: CallCounter) -> Observer:
    """An observer that counts engine calls."""

    def observe(kind: str, status: int | None, seconds: float) -> None:
        if CallCounter.is_call(status):
            calls.add(kind)  # pyright: ignore[reportArgumentType]

    return observe


def _decoded(body: bytes) -> dict[str, Any] | Verdict:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Verdict("transient", "an answer that is not JSON")


def _same(held: object, key: str) -> bool:
    """D365 ids are GUIDs: their case means nothing."""
    return isinstance(held, str) and held.casefold() == key.casefold()
