"""The synthetic record of one mapped table: its id, its values, its requests; create, find and delete it.

The id is the same in every run and differs from all ids of Dynamics 365: the records of a killed run are found by it.
The record has no e-mail address and no telephone number: no campaign of a marketer reaches it.

A record is ours if it carries the synthetic id, which is compared in each record that Campaign shows: a filter with a
wrong parameter returns all records. Where neither the filter nor the key in the URL finds a record, the newest records
are listed, back to the time at which the killed run began (its mark in the ledger).
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import CampaignClient, CampaignRefused, listed
from sync_assets.campaign.dialect import ResponseOutcome, moment
from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.campaign.records import Records
from sync_assets.config.models import TableConfig
from sync_assets.config.values import OPT_OUT_ATTRIBUTES, PROFILE
from sync_assets.http.client import LinkTrail
from sync_assets.http.redaction import redact
from sync_assets.http.retry import backoff
from sync_assets.http.transport import OutcomeUnknown
from sync_assets.push.record_links import LinkTarget

T = TypeVar("T")
PREFIX = "5afe0000-ce27-4f1c-8000-"
"""The beginning of all synthetic ids. Dynamics 365 makes random or sequential GUIDs, which do not begin like this."""
NAMES = {"firstName": "Synthetic", "lastName": "sync_assets certify"}
NOTICE = "sync_assets certify: synthetic, may be deleted"
NO_ADDRESS = "certify@sync-assets.invalid"
"""For a mandatory e-mail address: `.invalid` never exists (RFC 2606)."""
ATTEMPTS = 3
"""Attempts after an answer that may be temporary: a lost answer, or an error without a reason."""
MARGIN = timedelta(hours=1)
"""How far the list goes back beyond the mark: the clocks of this machine and of Campaign differ."""
_PAGE = 100
ROWS = 10
"""Synthetic records of a file."""

_REACHES_PEOPLE = ("mail", "phone", "mobile", "fax", "domain")
_FILLERS: Mapping[str, Any] = {"string": NOTICE, "integer": 1, "float": 1, "boolean": False, "date": "2000-01-01"}


Verdict = Literal["workable", "not workable", "not tried"]


@dataclass(frozen=True, slots=True)
class PremiseResult:
    """The result of one premise, a row of the report. Holds no values and no secrets.

    Attributes:
        system: where it was tried, `Campaign` or `Dynamics 365`.
        about: the resource or table; empty for a whole system.
        premise: a constant name, the same in each report.
        found: what the system did; for a premise that was not tried, why.
        program: what the program will do; for one that is not workable, what to change. Not stored.
    """

    system: str
    about: str
    premise: str
    found: str
    program: str
    outcome: Verdict = "workable"


class NotCreated(Exception):
    """Raised when Campaign rejects the synthetic record; the text is Campaign's reason, redacted."""


def synthetic_id(table: str, number: int = 0) -> str:
    """Return the id of the synthetic record of a table, or of one in a file, which are numbered from 1."""
    return PREFIX + hashlib.sha256(f"{table}{number or ''}".encode()).hexdigest()[:12]


@dataclass(slots=True, eq=False)
class Subject:
    """One mapped table under certification.

    Attributes:
        target: with the links of the table.
        addressing: empty at first; the probes write their findings into it, as a push does.
        began: when the run began (UTC).
        parents: the subjects that the table's links lead to, by the link's attribute (style join included).
        pkey: of the record that exists now; empty if there is none.
        made: PKeys of all records that this run created and did not delete yet.
        hidden: True if Campaign hides the record, which then cannot be deleted through the API.
        results: rows of the report.
        rows: records of a file that Campaign may hold besides; 0 if there is none.
    """

    client: CampaignClient
    config: TableConfig
    resource: Resource
    links: tuple[LinkTarget, ...]
    addressing: Addressing
    began: datetime
    parents: dict[str, "Subject"] = field(default_factory=dict[str, "Subject"])
    pkey: str = ""
    made: set[str] = field(default_factory=set[str])
    hidden: bool = False
    results: list[PremiseResult] = field(default_factory=list[PremiseResult])
    rows: int = 0

    @property
    def ids(self) -> list[str]:
        return [synthetic_id(self.config.table, number) for number in range(self.rows + 1)]

    @property
    def id(self) -> str:
        return synthetic_id(self.config.table)

    @property
    def path(self) -> str:
        return f"{self.config.api}/{self.config.resource}"

    def records(self, addressing: Addressing) -> Records:
        """Return the client of the records in a way of addressing them."""
        return Records(self.client, self.config, addressing)

    @property
    def addressed(self) -> Records:
        """The records at exactly the key or PKey that is given, without any other way to find them."""
        return self.records(Addressing("url"))

    def report(self, premise: str, finding: str, program: str, outcome: Verdict = "workable") -> None:
        self.results.append(PremiseResult("Campaign", self.config.resource, premise, finding, program, outcome))

    def carries_our_id(self, record: Mapping[str, Any]) -> bool:
        return str(record.get(self.config.key) or "").casefold() in self.ids

    def shown(self, response: ResponseOutcome) -> str:
        """Return Campaign's reason without any value that was sent."""
        return redact(response.reason, msgspec.json.encode(self.body())) or "no reason"

    # Values

    def mapped(self) -> dict[str, bool]:
        """Return the mapped attributes by their dotted paths: True if updates send them, too."""
        return {field.to: field.apply_updates for field in self.config.fields.values()}

    def writable(self, path: str) -> Attribute | None:
        attribute = self.resource.attributes.get(path)
        return attribute if attribute and not attribute.read_only and path != self.config.key else None

    def text_attribute(self) -> Attribute | None:
        """Return a mapped text attribute for odd values.

        Custom ones come first, which have no data policy of Adobe's, and the names last, by which people know the
        record.
        """
        for path in sorted(self.mapped(), key=lambda path: (not path.startswith("cus"), path in NAMES)):
            reaches_people = any(part in path.lower() for part in _REACHES_PEOPLE)
            attribute = None if "." in path or reaches_people else self.writable(path)
            if attribute and attribute.type == "string":
                return attribute
        return None

    def body(self) -> dict[str, Any]:
        """Return the synthetic record: recognisable, with its links and a value in each mandatory attribute."""
        writable = filter(None, map(self.writable, self.resource.attributes))
        mandatory = [attribute for attribute in writable if attribute.mandatory and attribute.type != "link"]
        values = {attribute.path: _filler(attribute) for attribute in mandatory if "." not in attribute.path}
        if self.config.resource == PROFILE:
            values |= {name: value for name, value in NAMES.items() if self.writable(name)}
        elif text := self.text_attribute():
            values[text.path] = NOTICE[: text.length]
        for attribute, parent in self.parents.items():
            joined = all(link.attribute != attribute for link in self.links)
            values[attribute] = parent.id if joined else {"PKey": parent.pkey}
        return values | {self.config.key: self.id}

    def opt_outs(self) -> list[str]:
        """Return the opt-out attributes of the resource."""
        return [name for name in OPT_OUT_ATTRIBUTES if self.writable(name)]

    # Requests

    async def post(self, before: int) -> ResponseOutcome:
        """POST the record, again after an answer that was lost or may be temporary, unless the lost one made a record.

        before: records with the synthetic id that Campaign had already.
        """
        response = ResponseOutcome("transient", "the answer to the POST was lost")
        for attempt in range(ATTEMPTS):
            try:
                response = await self.addressed.insert(msgspec.json.encode(self.body()))
            except OutcomeUnknown:
                await asyncio.sleep(backoff(attempt))
                if len(now := await self.held(self.began)) > before:
                    self.made.update(now)
                    return ResponseOutcome("done", pkey=next(pkey for pkey in now if pkey != self.pkey))
                continue
            if response.kind != "transient":
                break
        if response.pkey:
            self.made.add(response.pkey)
        return response

    async def create(self) -> None:
        """Create the record. Raises NotCreated."""
        response = await self.post(0)
        if response.kind != "done":
            raise NotCreated(self.shown(response))
        self.pkey = response.pkey

    async def patch(self, values: Mapping[str, Any], address: str = "") -> ResponseOutcome:
        """PATCH the record at its PKey, or at the key or PKey given; again after an error without a reason."""
        return await _again(lambda: self.addressed.update(address or self.pkey, msgspec.json.encode(values)))

    async def read(self, address: str = "") -> dict[str, Any] | ResponseOutcome:
        """GET the record at its PKey, or at the key or PKey given; again after an error without a reason."""
        return await _again(lambda: self.addressed.read(address or self.pkey))

    async def delete(self, pkey: str) -> None:
        """DELETE the record of a PKey, and read whether it is gone."""
        await self.client.call("delete", f"{self.path}/{quote(pkey, safe='')}")
        record = await self.read(pkey)
        if isinstance(record, ResponseOutcome) and record.kind in ("missing", "refused"):
            self.made.discard(pkey)
            self.pkey = "" if pkey == self.pkey else self.pkey

    async def remove(self, since: datetime | None) -> bool:
        """Delete all records with the synthetic id. Return False if one is left.

        since: when the run began that may have left records; None if none did.
        """
        for _ in range(ATTEMPTS):
            left = dict.fromkeys([*self.made, *await self.held(since)])
            if not left:
                self.pkey = ""
                return True
            for pkey in left:
                await self.delete(pkey)
        return not (self.made or await self.held(since))

    async def held(self, since: datetime | None = None) -> list[str]:
        """Return the PKeys of the records with the synthetic id, as far as Campaign shows them.

        since: see `remove`; None: without the list.
        """
        records, given = list[dict[str, Any]](), self.config.filter
        queries = [(given.name, given.parameter, id_) for id_ in self.ids] if given else []
        for name, parameter, id_ in queries:  # the first page of the configured filter, which may not be published
            link = f"{self.path}/{name}?{parameter}={quote(id_, safe='')}&_lineCount={_PAGE}"
            with suppress(CampaignRefused):
                records += listed(await self.client.call("read", link), self.config.resource)[0]
        read = [await self.read(id_) for id_ in self.ids]
        records += [record for record in read if isinstance(record, dict)]
        if since is not None:  # the whole resource is read if Campaign does not list it in this order
            query = f"{self.path}?_lineCount={_PAGE}&_forcePagination=true"
            try:
                records += await self._newest(since - MARGIN, f"{query}&_order=lastModified%20desc", sorts=True)
            except CampaignRefused:
                records += await self._newest(since - MARGIN, query, sorts=False)
        pkeys = [str(record.get("PKey") or "") for record in records if self.carries_our_id(record)]
        return [pkey for pkey in dict.fromkeys(pkeys) if pkey]

    async def _newest(self, since: datetime, link: str, *, sorts: bool) -> list[dict[str, Any]]:
        """Return the records with the synthetic id among those changed since then. sorts: the newest come first."""
        ours: list[dict[str, Any]] = []
        last: datetime | None = None
        trail = LinkTrail("Campaign", self.config.resource, link)
        while link:
            page, following = listed(await self.client.call("read", link), self.config.resource)
            ours += [record for record in page if self.carries_our_id(record)]
            times = [moment(record.get("lastModified")) for record in page]
            known = [time for time in (last, *times) if time is not None]
            sorts = sorts and known == sorted(known, reverse=True)
            last = times[-1] if times else last
            link = "" if sorts and last is not None and last < since else trail.follow(following, len(page))
        return ours


async def _again(request: Callable[[], Awaitable[T]]) -> T:
    """Send a request up to ATTEMPTS times, until the answer is no error without a reason."""
    for _ in range(ATTEMPTS - 1):
        answer = await request()
        if not (isinstance(answer, ResponseOutcome) and answer.kind == "transient"):
            return answer
    return await request()


def _filler(attribute: Attribute) -> Any:
    if attribute.type == "enumeration":
        return attribute.values[-1] if attribute.values else ""
    if "mail" in attribute.path.lower():
        return NO_ADDRESS
    value = _FILLERS.get(attribute.type, "")
    return value[: attribute.length] if isinstance(value, str) and attribute.type == "string" else value
