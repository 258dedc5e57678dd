"""The records of one resource, addressed by the key that we gave them.

Every method returns the dialect's `ResponseOutcome`; they raise only what says nothing about the record: no connection,
no answer, no access (`Endpoint.send`), and OutcomeUnknown for a 2xx that is not the engine's own answer. How a record
is addressed is found out on the way (`addressing.py`): a key that Campaign does not take costs a look-up by the filter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.campaign.addressing import DELETE_ANSWER, KEY_IN_DELETE, Addressing, Filter
from sync_assets.campaign.client import CallCounter, CampaignClient
from sync_assets.campaign.dialect import Operation, ResponseOutcome, response_outcome
from sync_assets.http.client import Guard, Observer, OutcomeUnknown, Response, backoff

__all__ = ["Addressing", "Filter", "Records", "counted"]

REPEATS = 3
"""How often a request is repeated whose answer is not the engine's own."""
_NOT_BY_KEY = frozenset({"missing", "refused", "transient"})
"""What a key in a URL is answered where Campaign takes none; a bare error may mean that as well."""


@dataclass(slots=True)
class Records:
    """`key`: the attribute that holds our id. `filter`: look records up by it; None: the key stands in the URL.
    `addressing`: in place of `filter`, what is known of the resource and learnt on the way.

    `observer` is told of every single request, besides the client's own counter.
    """

    client: CampaignClient
    api: str
    resource: str
    key: str
    filter: Filter | None = None
    observer: Observer | None = None
    addressing: Addressing = field(default=None)  # pyright: ignore[reportAssignmentType] - see __post_init__
    _path: str = field(init=False)

    def __post_init__(self) -> None:
        self._path = f"{self.api}/{self.resource}"
        if self.addressing is None:
            self.addressing = Addressing("filter" if self.filter else "url", self.filter)

    async def insert(self, body: bytes, guard: Guard | None = None) -> ResponseOutcome:
        """POST. Raises OutcomeUnknown if the answer is lost, or is not the record: then it may be there."""
        return (await self._ask("insert", self._path, "", body, guard))[1]

    async def update(self, key: str, body: bytes, guard: Guard | None = None) -> ResponseOutcome:
        """PATCH. One call where Campaign takes the key, else the record is looked up first, which is one read more."""
        addressing = self.addressing
        if addressing.key_in_url is not False:
            _, said = await self._ask("update", self._address(key), key, body, guard)
            if said.kind == "done":
                addressing.found_by_key()
            if not (addressing.falls_back and said.kind in _NOT_BY_KEY):
                return said
            found = await self._by_filter(key, guard)
            if isinstance(found, ResponseOutcome):
                return said if found.kind == "missing" and said.kind != "transient" else found
            if said.kind == "missing":
                addressing.not_by_key()
            bare = said.kind == "transient"
        else:
            found, bare = await self.find(key, guard), False
        located = self._located(found)
        if isinstance(located, ResponseOutcome):
            return located
        address, name = located
        said = (await self._ask("update", address, name, body, guard))[1]
        if bare and said.kind == "done":
            addressing.bare_by_key()
        return said

    async def update_links(self, pkey: str, links: Mapping[str, str], guard: Guard | None = None) -> ResponseOutcome:
        """PATCH of links alone (attribute -> PKey of the parent), on a record that an answer has just named."""
        body = msgspec.json.encode({attribute: {"PKey": parent} for attribute, parent in links.items()})
        return (await self._ask("update", self._address(pkey), pkey, body, guard))[1]

    async def delete(self, key: str, guard: Guard | None = None) -> ResponseOutcome:
        """DELETE. One call where Campaign takes the key for it, else the record is looked up first.

        No source says that a DELETE takes a key, and what another attribute identifies must not go. So the first record
        is looked up, and carries our key, before the key is tried. The answer has no content and proves nothing by
        itself: the first one of its form, of a day and of each DELETES_TRUSTED is verified by a read. Raises
        OutcomeUnknown if the record is still there.
        """
        addressing = self.addressing
        while not addressing.deletes_known:
            async with addressing.first_delete():
                if not addressing.deletes_known:
                    return await self._delete(key, guard)
        return await self._delete(key, guard)

    async def _delete(self, key: str, guard: Guard | None) -> ResponseOutcome:
        addressing = self.addressing
        if addressing.key_in_delete:
            said = await self._delete_at(self._address(key), key, key, guard)
            if said.kind not in ("missing", "refused"):
                return said
        else:
            said = None
        located = self._located(await self.find(key, guard))
        if isinstance(located, ResponseOutcome):
            return located
        if addressing.key_in_delete is None:
            said = await self._delete_at(self._address(key), key, key, guard, trusted=False)
            if said.kind not in _NOT_BY_KEY:
                if said.kind == "done":
                    addressing.note(KEY_IN_DELETE, "yes")
                return said
        address, name = located
        done = await self._delete_at(address, name, key, guard)
        if said and done.kind == "done":  # else the record is refused, not its key
            addressing.delete_by_key_failed(bare=said.kind == "transient")
        return done

    async def _delete_at(
        self, address: str, name: str, key: str, guard: Guard | None, *, trusted: bool = True
    ) -> ResponseOutcome:
        answer = await self._send("delete", address, None, guard)
        said = response_outcome(answer, "delete", name)
        if said.kind in ("done", "unproven"):
            await self._see_it_gone(answer, key, guard, trusted=trusted)
            return ResponseOutcome("done")
        return said

    async def find(self, key: str, guard: Guard | None = None) -> dict[str, Any] | ResponseOutcome:
        """The record that carries our key, or why there is none (`missing`, ...)."""
        addressing = self.addressing
        if addressing.key_in_url is False:
            return await self._by_filter(key, guard)
        answer, read = await self._ask("read", self._address(key), key, None, guard)
        found = read if read.kind != "done" else _decoded(answer.body)
        if isinstance(found, dict):
            if not found.get("PKey"):
                raise _not_an_answer(answer)
            if _same(found.get(self.key), key):
                addressing.found_by_key()
                return found
            found = ResponseOutcome(
                "refused",
                f"Campaign found a record under this key whose {self.key} is another one: "
                f"is {self.key} the identification key of {self.resource}?",
            )
        if not (addressing.falls_back and found.kind in _NOT_BY_KEY):
            return found
        filtered = await self._by_filter(key, guard)
        if isinstance(filtered, dict):
            if found.kind == "transient":
                addressing.bare_by_key()
            else:
                addressing.not_by_key()
        return filtered

    async def read(self, pkey: str, guard: Guard | None = None) -> dict[str, Any] | ResponseOutcome:
        """The record with a PKey of Campaign's own, as one of its answers has just named it."""
        answer, read = await self._ask("read", self._address(pkey), pkey, None, guard)
        return read if read.kind != "done" else _decoded(answer.body)

    async def answers(self, guard: Guard | None = None) -> bool:
        """Does the engine answer a read at all? Costs one call. Raises what `find` raises."""
        answer = await self._send("read", f"{self._path}?_lineCount=1", None, guard)
        page = _decoded(answer.body) if response_outcome(answer, "read").kind == "done" else None
        return isinstance(page, dict) and isinstance(page.get("content"), list)

    def _address(self, key: str) -> str:
        return f"{self._path}/{quote(key, safe='')}"

    async def _send(self, operation: Operation, address: str, body: bytes | None, guard: Guard | None) -> Response:
        return await self.client.call(operation, address, body, guard=guard, observer=self.observer)

    async def _ask(
        self, operation: Operation, address: str, name: str, body: bytes | None, guard: Guard | None
    ) -> tuple[Response, ResponseOutcome]:
        """One request. What can do no harm twice is repeated while the answer is not the engine's own. Raises
        OutcomeUnknown if it stays so."""
        attempt = 0
        while True:
            answer = await self._send(operation, address, body, guard)
            said = response_outcome(answer, operation, name)
            if said.kind != "unproven":
                return answer, said
            if operation == "insert" or attempt == REPEATS:
                raise _not_an_answer(answer)
            await asyncio.sleep(backoff(attempt))
            attempt += 1

    async def _see_it_gone(self, answer: Response, key: str, guard: Guard | None, *, trusted: bool) -> None:
        """Raises OutcomeUnknown if the record is found after Campaign has answered a DELETE. trusted: an answer of the
        usual form will do."""
        form = f"{answer.status} {answer.headers.get('content-type', '-')}"
        plain = not answer.body.strip()
        if trusted and plain and self.addressing.trusts_delete(form):
            return
        found = await self.find(key, guard)
        if isinstance(found, ResponseOutcome) and found.kind == "missing":
            if plain:
                self.addressing.delete_verified(form)
            return
        self.addressing.found.pop(DELETE_ANSWER, None)
        raise OutcomeUnknown(f"Campaign answered {answer.status} to a delete, and the record is still there.")

    async def _by_filter(self, key: str, guard: Guard | None) -> dict[str, Any] | ResponseOutcome:
        if self.addressing.filter is None:
            return ResponseOutcome(
                "refused",
                f"Campaign does not find records of {self.resource} by {self.key} in the URL. Publish a filter on "
                f"{self.key} and name it in `filter`, or make {self.key} an identification key.",
            )
        return await self._filtered(self.addressing.filter, key, guard)

    async def _filtered(self, given: Filter, key: str, guard: Guard | None) -> dict[str, Any] | ResponseOutcome:
        """Only records that carry our key count: an unknown parameter is ignored and would find all (section 4)."""
        path = f"{self._path}/{given.name}?{given.parameter}={quote(key, safe='')}&_lineCount=5"
        answer, read = await self._ask("read", path, given.name, None, guard)
        if read.kind == "missing":
            return ResponseOutcome("denied", f"Campaign has no filter {given.name} on {self.resource}: publish it.")
        if read.kind != "done":
            return read
        page = _decoded(answer.body)
        content = page.get("content") if isinstance(page, dict) else None
        if not isinstance(content, list):
            raise _not_an_answer(answer)
        listed = [record for record in content if isinstance(record, dict)]
        ours = [record for record in listed if _same(record.get(self.key), key)]
        if listed and not ours:
            return ResponseOutcome(
                "denied",
                f"The filter {given.name} of {self.resource} finds records of other keys: check its parameter "
                f"{given.parameter} and that it compares {self.key}.",
            )
        if len(ours) > 1:
            return ResponseOutcome("refused", f"More than one {self.resource} of Campaign carries this {self.key}.")
        return ours[0] if ours else ResponseOutcome("missing", f"no {self.resource} with this {self.key}")

    def _located(self, found: dict[str, Any] | ResponseOutcome) -> tuple[str, str] | ResponseOutcome:
        """Where a record that was found is to be addressed, and the name under which the server would miss it."""
        if isinstance(found, ResponseOutcome):
            return found
        pkey = str(found.get("PKey") or "")
        address = str(found.get("href") or "") or (f"{self._path}/{quote(pkey, safe='')}" if pkey else "")
        if not address:
            return ResponseOutcome("refused", f"Campaign's answer for {self.resource} has neither PKey nor href.")
        return address, pkey or address.rpartition("/")[2]


def _not_an_answer(answer: Response) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"Campaign's address answers {answer.status}, but not as Campaign does.",
        "If it stays so, check CAMPAIGN_URL and the proxies on the way. Nothing is lost.",
    )


def counted(calls: CallCounter) -> Observer:
    """An observer that counts engine calls."""

    def observe(kind: str, status: int | None, seconds: float) -> None:
        if CallCounter.is_call(status):
            calls.add(kind)  # pyright: ignore[reportArgumentType]

    return observe


def _decoded(body: bytes) -> dict[str, Any] | ResponseOutcome:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ResponseOutcome("transient", "an answer that is not JSON")


def _same(held: object, key: str) -> bool:
    """D365 ids are GUIDs: their case means nothing."""
    return isinstance(held, str) and held.casefold() == key.casefold()
