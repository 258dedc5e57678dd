"""The synthetic record of one mapped table: its id, its values, and the requests that the probes send.

The id is the same in every run and differs from all ids of Dynamics 365: the records of a killed run are found by it.
The record has no e-mail address and no telephone number: no campaign of a marketer reaches it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.audit.certification.report import PREFIX, Outcome, PremiseResult
from sync_assets.campaign.addressing import Addressing
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.dialect import ResponseOutcome
from sync_assets.campaign.metadata import Attribute, Resource
from sync_assets.campaign.records import Records
from sync_assets.config.models import TableConfig
from sync_assets.config.values import OPT_OUT_ATTRIBUTES, PROFILE
from sync_assets.http.redaction import redact
from sync_assets.push.target import Target

NAMES = {"firstName": "Synthetic", "lastName": "sync_assets certify"}
NOTICE = "sync_assets certify: synthetic, may be deleted"
NO_ADDRESS = "certify@sync-assets.invalid"
"""For a mandatory e-mail address: `.invalid` never exists (RFC 2606)."""
ATTEMPTS = 3
"""Attempts after an answer that may be temporary: a lost answer, or an error without a reason."""

_REACHES_PEOPLE = ("mail", "phone", "mobile", "fax", "domain")
_FILLERS: Mapping[str, Any] = {"string": NOTICE, "integer": 1, "float": 1, "boolean": False, "date": "2000-01-01"}


def synthetic_id(table: str) -> str:
    """Return the id of the synthetic record of a table."""
    return PREFIX + hashlib.sha256(table.encode()).hexdigest()[:12]


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
    """

    client: CampaignClient
    config: TableConfig
    resource: Resource
    target: Target
    addressing: Addressing
    began: datetime
    parents: dict[str, Subject] = field(default_factory=dict[str, "Subject"])
    pkey: str = ""
    made: set[str] = field(default_factory=set[str])
    hidden: bool = False
    results: list[PremiseResult] = field(default_factory=list[PremiseResult])

    @property
    def id(self) -> str:
        return synthetic_id(self.config.table)

    @property
    def records(self) -> Records:
        """The records as a push addresses them, with the findings so far."""
        target = self.target
        return Records(self.client, target.api, target.resource, target.key, self.addressing)

    @property
    def addressed(self) -> Records:
        """The records at exactly the key or PKey that is given, without any other way to find them."""
        return Records(self.client, self.target.api, self.target.resource, self.target.key, Addressing("url"))

    def report(self, premise: str, found: str, program: str, outcome: Outcome = "workable") -> None:
        self.results.append(PremiseResult("Campaign", self.config.resource, premise, found, program, outcome))

    def carries_our_id(self, record: Mapping[str, Any]) -> bool:
        return str(record.get(self.config.key) or "").casefold() == self.id

    # Values

    def mapped(self) -> dict[str, bool]:
        """Return the mapped attributes by their dotted paths: True if updates send them, too."""
        return {one.to: one.apply_updates for one in self.config.fields.values()}

    def writable(self, path: str) -> Attribute | None:
        attribute = self.resource.attributes.get(path)
        return attribute if attribute and not attribute.read_only and path != self.config.key else None

    def text_attribute(self) -> Attribute | None:
        """Return a mapped text attribute for odd values.

        Custom ones come first, which have no data policy of Adobe's, and the names last, by which people know the
        record.
        """
        paths = sorted(self.mapped(), key=lambda path: (not path.startswith("cus"), path in NAMES))
        plain = (
            path for path in paths if "." not in path and not any(part in path.lower() for part in _REACHES_PEOPLE)
        )
        found = (self.writable(path) for path in plain)
        return next((one for one in found if one and one.type == "string"), None)

    def body(self) -> dict[str, Any]:
        """Return the synthetic record: recognisable, with its links and a value in each mandatory attribute."""
        mandatory = [one for path in self.resource.attributes if (one := self.writable(path)) and one.mandatory]
        values = {one.path: _filler(one) for one in mandatory if "." not in one.path and one.type != "link"}
        if self.config.resource == PROFILE:
            values |= {name: value for name, value in NAMES.items() if self.writable(name)}
        elif text := self.text_attribute():
            values[text.path] = NOTICE[: text.length]
        for attribute, parent in self.parents.items():
            joined = all(link.attribute != attribute for link in self.target.links)
            values[attribute] = parent.id if joined else {"PKey": parent.pkey}
        return values | {self.config.key: self.id}

    def opt_outs(self) -> list[str]:
        """Return the opt-out attributes of the resource."""
        return [name for name in OPT_OUT_ATTRIBUTES if self.writable(name)]

    # Requests

    async def post(self) -> ResponseOutcome:
        """POST the record once. Raises OutcomeUnknown if the answer is lost or is not the record."""
        response = await self.addressed.insert(msgspec.json.encode(self.body()))
        if response.pkey:
            self.made.add(response.pkey)
        return response

    async def patch(self, values: Mapping[str, Any], address: str = "") -> ResponseOutcome:
        """PATCH the record at its PKey, or at the key or PKey given; again after an error without a reason."""
        response = ResponseOutcome("transient")
        for _ in range(ATTEMPTS):
            response = await self.addressed.update(address or self.pkey, msgspec.json.encode(values))
            if response.kind != "transient":
                break
        return response

    async def read(self, address: str = "") -> dict[str, Any] | ResponseOutcome:
        """GET the record at its PKey, or at the key or PKey given; again after an error without a reason."""
        found: dict[str, Any] | ResponseOutcome = ResponseOutcome("transient")
        for _ in range(ATTEMPTS):
            found = await self.addressed.read(address or self.pkey)
            if isinstance(found, dict) or found.kind != "transient":
                break
        return found

    async def delete(self, pkey: str) -> bool:
        """DELETE the record of a PKey. Return True if a read then shows that it is gone."""
        await self.client.call("delete", f"{self.path}/{quote(pkey, safe='')}")
        found = await self.read(pkey)
        gone = isinstance(found, ResponseOutcome) and found.kind in ("missing", "refused")
        if gone:
            self.made.discard(pkey)
            if pkey == self.pkey:
                self.pkey = ""
        return gone

    @property
    def path(self) -> str:
        return f"{self.config.api}/{self.config.resource}"

    def shown(self, response: ResponseOutcome) -> str:
        """Return Campaign's reason without any value that was sent."""
        return redact(response.reason, msgspec.json.encode(self.body())) or "no reason"


def _filler(attribute: Attribute) -> Any:
    if attribute.type == "enumeration":
        return attribute.values[-1] if attribute.values else ""
    if "mail" in attribute.path.lower():
        return NO_ADDRESS
    value = _FILLERS.get(attribute.type, "")
    return value[: attribute.length] if isinstance(value, str) and attribute.type == "string" else value
