"""Read and write the records of one resource, addressed by our key.

Every method returns the dialect's `ResponseOutcome`. Only failures that say nothing about the record are raised: no
connection, no answer, no access (`Endpoint.send`), and OutcomeUnknown for a 2xx that is not the engine's own answer.
How records are addressed is found out during these requests (`addressing.py`): a key that Campaign does not accept
costs a look-up by the filter. Where keys in capitals were listed, a record that is missing is asked for in capitals.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.campaign.addressing import CAPITALS, DELETE_ANSWER, KEY_IN_DELETE, Addressing, today
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import Operation, ResponseOutcome, response_outcome
from sync_assets.campaign.first_requests import FirstRequests
from sync_assets.config.models import AddressFilter, TableConfig
from sync_assets.http.retry import REPEATS, Guard, Observer, backoff
from sync_assets.http.transport import OutcomeUnknown, Response, members, parsed

_NOT_BY_KEY = frozenset({"missing", "refused", "transient"})
"""Outcomes of a key in a URL where Campaign accepts none; a bare error (transient) may mean that as well."""
BARE_ERRORS = 3
"""Errors without a reason, on keys of records that exist, after which Campaign counts as not accepting keys in URLs."""


class _Survived(OutcomeUnknown):
    """Raised when a read finds a record after Campaign accepted its DELETE."""


@dataclass(slots=True)
class Records:
    """The records of one table's Campaign resource.

    Attributes:
        addressing: how the resource's records are addressed, with the findings about it, which requests extend.
        observer: called for every single request, besides the client's own counter.
        guard: called before each request; raises to hold it back.
        first: those of all objects that share the addressing.
    """

    client: CampaignClient
    config: TableConfig
    addressing: Addressing
    observer: Observer | None = None
    guard: Guard | None = None
    first: FirstRequests = field(default_factory=FirstRequests)
    _path: str = field(init=False)

    def __post_init__(self) -> None:
        self._path = f"{self.config.api}/{self.config.resource}"

    @property
    def resource(self) -> str:
        return self.config.resource

    @property
    def key(self) -> str:
        """The attribute that holds our id."""
        return self.config.key

    async def insert(self, body: bytes) -> ResponseOutcome:
        """POST a record. Raises OutcomeUnknown if the answer is lost or is not the record, which may exist then."""
        return (await self._ask("insert", self._path, "", body))[1]

    async def update(self, key: str, body: bytes, flags: Mapping[str, bool] | None = None) -> ResponseOutcome:
        """PATCH the record with our key: one call if Campaign accepts the key, else one read more to look it up.

        flags: what the body contains, if that is nothing else. It is not sent if the look-up shows that it is held.
        """
        response = await self._update(key, body, flags)
        return await self._update(key.upper(), body, flags) if self._try_capitals(response) else response

    async def _update(self, key: str, body: bytes, flags: Mapping[str, bool] | None) -> ResponseOutcome:
        addressing = self.addressing
        if addressing.key_in_url is not False:
            _, response = await self._ask("update", self._address(key), key, body)
            if response.kind == "done":
                addressing.found_by_key()
            if not (addressing.falls_back and response.kind in _NOT_BY_KEY):
                return response
            record = await self._by_filter(key)
            if isinstance(record, ResponseOutcome):
                return response if record.kind == "missing" and response.kind != "transient" else record
            if response.kind == "missing":
                addressing.not_by_key()
            bare = response.kind == "transient"
        else:
            record, bare = await self._find(key), False
        located = self._located(record)
        if isinstance(located, ResponseOutcome):
            return located
        address, name = located
        if flags and not isinstance(record, ResponseOutcome) and flags.items() <= record.items():
            return ResponseOutcome("done")
        response = (await self._ask("update", address, name, body))[1]
        if bare and response.kind == "done":
            self._bare_by_key()
        return response

    def _bare_by_key(self) -> None:
        """Count an error without a reason on a key, of a record that Campaign then accepted by its PKey.

        One such failure may be temporary; after BARE_ERRORS of them keys count as not accepted.
        """
        self.first.bare_errors += 1
        if self.first.bare_errors >= BARE_ERRORS and not self.addressing.confirmed:
            self.addressing.not_by_key()

    async def update_links(self, pkey: str, links: Mapping[str, str]) -> ResponseOutcome:
        """PATCH links alone (attribute -> PKey of the parent), on the record whose PKey an answer has just returned."""
        body = msgspec.json.encode({attribute: {"PKey": parent} for attribute, parent in links.items()})
        return (await self._ask("update", self._address(pkey), pkey, body))[1]

    async def delete(self, key: str) -> ResponseOutcome:
        """DELETE the record with our key.

        One call if Campaign accepts the key for it, else one read more to look the record up. Before any request has
        shown that keys identify records here, the first record is looked up and checked for our key. The answer has no
        content and proves nothing by itself: the first answer of its form, the first of a day and one after each
        DELETES_TRUSTED is verified by a read. If that finds the record after a DELETE by the key, those accepted
        without a read before are verified, too, and these records and all later ones are deleted by their PKeys. Raises
        OutcomeUnknown if a record still exists after that.
        """
        response = await self._delete(key)
        return await self._delete(key.upper()) if self._try_capitals(response) else response

    async def _delete(self, key: str) -> ResponseOutcome:
        addressing = self.addressing
        while not addressing.deletes_known:
            async with self.first.delete:
                if not addressing.deletes_known:
                    return await self._delete_now(key)
        return await self._delete_now(key)

    async def _delete_now(self, key: str) -> ResponseOutcome:
        addressing = self.addressing
        not_by_key = _NOT_BY_KEY - {"transient"} if addressing.key_in_delete else _NOT_BY_KEY
        response = await self._delete_by_key(key) if addressing.tries_key_in_delete else None
        if response and response.kind not in not_by_key:
            return response
        located = self._located(await self._find(key))
        if isinstance(located, ResponseOutcome):
            return located
        if response is None and addressing.key_in_delete is None:
            response = await self._delete_by_key(key)
            if response.kind not in _NOT_BY_KEY:
                return response
        address, name = located
        done = await self._delete_at(address, name, key)
        if response and done.kind == "done":  # otherwise Campaign refuses the record, not its key
            addressing.delete_by_key_failed(bare=response.kind == "transient")
        return done

    async def _delete_by_key(self, key: str) -> ResponseOutcome:
        known = bool(self.addressing.key_in_delete)
        try:
            response = await self._delete_at(self._address(key), key, key, trusted=known)
        except _Survived as survived:
            if known:
                await self._delete_trusted()
            return ResponseOutcome("refused", survived.cause)
        if response.kind == "done":
            self.addressing.note(KEY_IN_DELETE, "yes")
        return response

    async def _delete_trusted(self) -> None:
        """Delete by their PKeys the records that outlived a DELETE by the key whose answer was trusted.

        What is left then stays in `FirstRequests.kept`, for the push to report.
        """
        self.first.kept |= {*self.first.earlier, *self.first.trusted}
        for attempt in range(REPEATS):
            if not self.first.kept:
                return
            if attempt:  # after an error that may pass: no later request deletes these records
                await asyncio.sleep(backoff(attempt - 1))
            for key in sorted(self.first.kept):
                located = self._located(await self._find(key))
                if not isinstance(located, ResponseOutcome):
                    located = await self._delete_at(*located, key, trusted=False)
                if located.kind in ("missing", "done"):
                    self.first.settle_delete(key)

    async def _delete_at(self, address: str, name: str, key: str, *, trusted: bool = True) -> ResponseOutcome:
        answer = await self._send("delete", address, None)
        response = response_outcome(answer, "delete", name)
        if response.kind in ("done", "unproven"):
            await self._verify_deleted(answer, key, trusted=trusted)
            return ResponseOutcome("done")
        return response

    async def find(self, key: str) -> dict[str, Any] | ResponseOutcome:
        """Return the record that carries our key, or why there is none (`missing`, ...)."""
        record = await self._find(key)
        return await self._find(key.upper()) if self._try_capitals(record) else record

    async def key_is_unique(self, find: Callable[[], Awaitable[object]]) -> bool:
        """Return True if Campaign is known to reject a second record with a key.

        find: called if that is not known; looks a record up. A key in a URL that finds one is an identification key.
        """
        if not self.addressing.is_unique:
            await find()
        return self.addressing.is_unique

    def _try_capitals(self, record: dict[str, Any] | ResponseOutcome) -> bool:
        return isinstance(record, ResponseOutcome) and record.kind == "missing" and CAPITALS in self.addressing.findings

    async def _find(self, key: str) -> dict[str, Any] | ResponseOutcome:
        addressing = self.addressing
        if addressing.key_in_url is False:
            return await self._by_filter(key)
        answer, read = await self._ask("read", self._address(key), key, None)
        record = read if read.kind != "done" else _decoded(answer.body)
        if isinstance(record, dict):
            if not record.get("PKey"):
                raise _not_an_answer(answer)
            if _same(record.get(self.key), key):
                addressing.found_by_key()
                return record
            record = ResponseOutcome(
                "refused",
                f"Campaign found a record under this key whose {self.key} is another one, "
                f"so {self.key} is not the identification key of {self.resource}.",
            )
        if not (addressing.falls_back and record.kind in _NOT_BY_KEY):
            return record
        filtered = await self._by_filter(key)
        if isinstance(filtered, dict):
            if record.kind == "transient":
                self._bare_by_key()
            else:
                addressing.not_by_key()
        return filtered

    async def read(self, pkey: str) -> dict[str, Any] | ResponseOutcome:
        """Return the record with a PKey of Campaign's own, which one of its answers has just returned."""
        answer, read = await self._ask("read", self._address(pkey), pkey, None)
        return read if read.kind != "done" else _decoded(answer.body)

    async def answers(self) -> bool:
        """Return True if the engine answers a read at all. Costs one call. Raises what `find` raises."""
        answer = await self._send("read", f"{self._path}?_lineCount=1", None)
        done = response_outcome(answer, "read").kind == "done"
        return done and isinstance(members(answer.body).get("content"), list)

    def _address(self, key: str) -> str:
        return f"{self._path}/{quote(key, safe='')}"

    async def _send(self, operation: Operation, address: str, body: bytes | None) -> Response:
        return await self.client.call(operation, address, body, guard=self.guard, observer=self.observer)

    async def _ask(
        self, operation: Operation, address: str, name: str, body: bytes | None
    ) -> tuple[Response, ResponseOutcome]:
        """Send one request, again while the answer is not the engine's own, but no insert. Raises OutcomeUnknown."""
        attempt = 0
        while True:
            answer = await self._send(operation, address, body)
            response = response_outcome(answer, operation, name)
            if response.kind != "unproven":
                return answer, response
            if operation == "insert" or attempt == REPEATS:
                raise _not_an_answer(answer)
            await asyncio.sleep(backoff(attempt))
            attempt += 1

    async def _verify_deleted(self, answer: Response, key: str, *, trusted: bool) -> None:
        """Verify by a read that a delete was carried out. Raises _Survived if the record still exists.

        trusted: False forces the read even if the answer has the usual form.
        """
        form = f"{answer.status} {answer.headers.get('content-type', '-')}"
        plain, seen = not answer.body.strip(), self.addressing.finding(DELETE_ANSWER)
        if trusted and plain and seen.answer == form and seen.of_today and self.first.trusts_delete(key):
            return
        record = await self._find(key)
        if isinstance(record, ResponseOutcome) and record.kind == "missing":
            if plain:
                self.addressing.note(DELETE_ANSWER, form, today())
            return
        if seen.answer:  # without a day, so that the next answers are verified, by other workers, too
            self.addressing.note(DELETE_ANSWER, seen.answer)
        error = _Survived if plain else OutcomeUnknown  # another body is that of something on the way
        raise error(f"Campaign answered {answer.status} to a delete, and the record is still there.")

    async def _by_filter(self, key: str) -> dict[str, Any] | ResponseOutcome:
        if self.addressing.filter is None:
            return ResponseOutcome(
                "refused",
                f"Campaign does not find records of {self.resource} by {self.key} in the URL. Publish a filter on "
                f"{self.key} and name it in `filter`, or make {self.key} an identification key.",
            )
        return await self._filtered(self.addressing.filter, key)

    async def _filtered(self, given: AddressFilter, key: str) -> dict[str, Any] | ResponseOutcome:
        """Look a record up by a published filter.

        Only records that carry our key count: Campaign ignores an unknown parameter, and would return all records
        (docs/dev/references/campaign.md 4).
        """
        path = f"{self._path}/{given.name}?{given.parameter}={quote(key, safe='')}&_lineCount=5"
        answer, read = await self._ask("read", path, given.name, None)
        if read.kind == "missing":
            reason = f"Campaign has no filter {given.name} of {self.resource}."
            return ResponseOutcome("denied", reason, remedy="Publish it, or correct `filter` in the configuration.")
        if read.kind != "done":
            return read
        content = members(answer.body).get("content")
        if not isinstance(content, list):
            raise _not_an_answer(answer)
        listed = [record for record in content if isinstance(record, dict)]
        ours = [record for record in listed if _same(record.get(self.key), key)]
        if len(ours) < len(listed):
            return ResponseOutcome(
                "denied",
                f"The filter {given.name} of {self.resource} finds records of other keys.",
                remedy=f"Check that {given.parameter} is its parameter and that it compares {self.key}.",
            )
        if len(ours) > 1:
            return ResponseOutcome("refused", f"More than one {self.resource} of Campaign carries this {self.key}.")
        return ours[0] if ours else ResponseOutcome("missing", f"no {self.resource} with this {self.key}")

    def _located(self, record: dict[str, Any] | ResponseOutcome) -> tuple[str, str] | ResponseOutcome:
        """Return the address of a found record, and the name (PKey) by which an error would report it missing."""
        if isinstance(record, ResponseOutcome):
            return record
        pkey = str(record.get("PKey") or "")
        address = str(record.get("href") or "") or (f"{self._path}/{quote(pkey, safe='')}" if pkey else "")
        if not address:
            return ResponseOutcome("refused", f"Campaign's answer for {self.resource} has neither PKey nor href.")
        return address, pkey or address.rpartition("/")[2]


def _not_an_answer(answer: Response) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"Campaign's address answers {answer.status}, but not as Campaign does.",
        "If it stays so, check CAMPAIGN_URL and the proxies on the way. Nothing is lost.",
    )


def _decoded(body: bytes) -> dict[str, Any] | ResponseOutcome:
    record = parsed(body, dict[str, Any])
    return ResponseOutcome("transient", "an answer that is not JSON") if record is None else record


def _same(held: object, key: str) -> bool:
    return isinstance(held, str) and held.casefold() == key.casefold()
