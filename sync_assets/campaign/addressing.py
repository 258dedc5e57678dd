"""How the records of one resource are addressed: by our key in the URL, or by a look-up through a published filter.

Adobe documents keys in URLs only for a published identification key of profile. So `address: auto` assumes nothing: it
tries the key, and remembers what Campaign's own answers showed. Here: the findings about a resource, and what follows
from them. Not here: requests (`records.py`, `first_requests.py`), and where findings are stored
(`ledger/repositories/notes.py`).

Source: https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/get-started-apis.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from sync_assets.config.models import AddressFilter, TableConfig

Mode = Literal["auto", "url", "filter"]

KEY = "key"
"""The key attribute that the findings were made with."""
KEY_IN_URL = "key_in_url"
"""Premise: GET and PATCH find a record by our key. Findings: yes, no."""
KEY_FOUND = "key_found"
"""Premise: a record that was just inserted is found by our key, in the URL or by the filter. Findings: yes, no."""
KEY_IN_DELETE = "key_in_delete"
"""Premise: DELETE finds a record by our key. Findings: yes, no; failed: Campaign failed once without a reason, so the
next delete tests it again.
"""
KEY_UNIQUE = "key_unique"
"""Premise: Campaign refuses a second record with the same key. Finding: yes."""
CAPITALS = "capitals"
"""Premise: records whose key is our id in capitals were listed. Campaign compares keys by case. Finding: yes."""
EXISTING, NONE, LISTED = "existing records", "none", "listed"
"""Premise: whether Campaign held records of ours before the first load, or after a move; then they were compared."""
DELETE_ANSWER = "delete_answer"
"""Finding: the form (status and content type) of an answer to a DELETE after which a read showed that the record was
deleted, and the day of the last such read.
"""

IN_UPDATES = "in updates: "
"""Premise, followed by an attribute (`location` for `location.city`): Campaign takes it in a PATCH. Findings: no; yes;
yes and a day: it took the value that it held already, after it had refused an update with another one.
"""

APART = "apart from updates: "
"""Premise, followed by an attribute that Campaign refuses in updates: another request updates it. Findings: one of
push/group_updates.py; none; none and a day: requests failed for the moment, so that they are tried again.
"""

HIDDEN = "hidden"
"""Premise: Campaign hides a record that it took. Finding: the record's id; empty once that is over."""
HIDES = (
    "Campaign took the record {2} of {0} and hides it: a link that it requires is empty, or leads to a record that is "
    "gone. No other record of {1} is inserted until Campaign shows it. Map each mandatory link of {0} under `links`, "
    "publish it as a `0 or 1 cardinality simple link` until the records have it, then `sync-assets retry {1}`"
)
CERTIFIED, NOT_WORKABLE = "certified ", "not workable: "
"""Beginning of the premises that only the report of a certification has, and of a finding that stops a link's table."""
_DATED = re.compile(r"(.+) (\d{4}-\d\d-\d\d)", re.DOTALL)


class PremiseFinding(NamedTuple):
    """A finding about a premise. day: the UTC day of one that is tested again on another day. Stored as its text."""

    answer: str
    day: date | None = None

    @classmethod
    def of(cls, stored: str) -> PremiseFinding:
        """Return the finding that is stored as this text."""
        return cls(dated[1], date.fromisoformat(dated[2])) if (dated := _DATED.fullmatch(stored)) else cls(stored)

    def __str__(self) -> str:
        return f"{self.answer} {self.day}" if self.day else self.answer

    @property
    def of_today(self) -> bool:
        return self.day == today()


@dataclass(slots=True)
class Addressing:
    """The findings about one resource.

    Attributes:
        filter: used in mode `filter`, and in mode `auto` if Campaign does not accept the key.
        unique: as configured; None: found out.
        findings: premise -> finding, as they are stored.
        news: those that are not stored yet.
        confirmed: True if a request by the key found its record since this object was created.
        may_hide: Campaign may hide what is inserted, and none was read back since this object was created.
    """

    mode: Mode = "auto"
    filter: AddressFilter | None = None
    unique: bool | None = None
    findings: dict[str, str] = field(default_factory=dict[str, str])
    news: dict[str, str] = field(default_factory=dict[str, str])
    confirmed: bool = False
    may_hide: bool = False

    @classmethod
    def configured(cls, config: TableConfig, findings: Mapping[str, str]) -> Addressing:
        """Return the addressing of a table's resource with its findings, if these were made with the same key.

        The finding that keys are not accepted is dropped if there is no filter, so that keys are tried again.

        Args:
            config: the table.
            findings: those stored about the resource (Ledger.dialect.facts).
        """
        key, unique = {KEY: config.key}, None if config.unique == "auto" else config.unique
        known = dict(findings) if findings.get(KEY) == config.key else {}
        if known.get(KEY_IN_URL) == "no" and config.filter is None:
            del known[KEY_IN_URL]
        return cls(config.address, config.filter, unique, known | key, {} if known else key)

    @property
    def key_in_url(self) -> bool | None:
        """Return True if a record is addressed by its key; None: not known yet, so the key is tried."""
        if self.mode != "auto":
            return self.mode == "url"
        return _truth(self.findings.get(KEY_IN_URL))

    @property
    def key_in_delete(self) -> bool | None:
        """Return the same for DELETE, for which no source documents it."""
        if self.key_in_url is False:
            return False
        return _truth(self.findings.get(KEY_IN_DELETE))

    @property
    def tries_key_in_delete(self) -> bool:
        """Return True if a record is deleted by its key before any look-up.

        No source documents a DELETE by a key, so requests must have shown that keys identify records here, and no
        delete that this one is refused.
        """
        return self.key_in_delete or (self.key_in_delete is None and self.findings.get(KEY_IN_URL) == "yes")

    @property
    def update_calls(self) -> int:
        """Return the engine calls of an update; 1 as long as it is not known."""
        return 2 if self.key_in_url is False else 1

    @property
    def delete_calls(self) -> int:
        """Return the engine calls of a delete, without reads that verify it; 2 as long as it is not known."""
        return 1 if self.key_in_delete else 2

    @property
    def deletes_known(self) -> bool:
        """Return True if it is known how to delete a record and what the answer looks like; else one goes at a time."""
        return self.key_in_delete is not None and self.finding(DELETE_ANSWER).of_today

    def delete_by_key_failed(self, *, bare: bool) -> None:
        """Note that a DELETE by the key failed and one by the same record's PKey succeeded.

        bare: the answer had no reason, so the failure may be temporary; it counts the second time.
        """
        once = bare and self.findings.get(KEY_IN_DELETE) is None
        self.note(KEY_IN_DELETE, "failed" if once else "no")

    @property
    def key_is_proven(self) -> bool:
        """Return True if Campaign was seen to find a record by the key, so that later requests can find theirs."""
        return self.findings.get(KEY_FOUND) == "yes" or self.findings.get(KEY_IN_URL) == "yes"

    @property
    def needs_proof(self) -> bool:
        """Return True if the next insert is to be sent alone, or after rejections with few others, and read back.

        An update that found its record does not save that read: whether one is answered before depends on time, and
        `plan` and `estimate` foretell each call.
        """
        return self.findings.get(KEY_FOUND) != "yes" or self.may_hide or bool(self.findings.get(HIDDEN))

    def may_refuse(self, attribute: str) -> bool:
        """Return True if an update was perhaps refused because of this attribute; tested once a day at most."""
        finding = self.finding(f"{IN_UPDATES}{attribute}")
        return finding.answer != "no" and not finding.of_today

    @property
    def falls_back(self) -> bool:
        """Return True if a record that is not found by its key may exist all the same, so that the filter is tried."""
        return self.mode == "auto" and self.filter is not None and not self.confirmed

    @property
    def is_unique(self) -> bool:
        """Return True if Campaign is known to refuse a second record with the key. URLs resolve unique keys only."""
        if self.unique is not None:
            return self.unique
        return KEY_UNIQUE in self.findings or self.findings.get(KEY_IN_URL) == "yes"

    def finding(self, premise: str) -> PremiseFinding:
        """Return the finding about a premise; its answer is empty if there is none."""
        return PremiseFinding.of(self.findings.get(premise, ""))

    def note(self, premise: str, answer: str, day: date | None = None) -> None:
        """Note a finding. day: see PremiseFinding."""
        if self.findings.get(premise) != (finding := str(PremiseFinding(answer, day))):
            self.findings[premise] = self.news[premise] = finding

    def found_by_key(self) -> None:
        """Note that Campaign found a record by the key in the URL."""
        self.confirmed = True
        self.note(KEY_IN_URL, "yes")

    def not_by_key(self) -> None:
        """Note that Campaign did not find an existing record by its key."""
        self.confirmed = False
        self.note(KEY_IN_URL, "no")


def not_in_patch(findings: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that Campaign refuses in updates, with the request that updates them, or `none`."""
    refused = (premise for premise, finding in findings.items() if premise.startswith(IN_UPDATES) and finding == "no")
    names = sorted(premise.removeprefix(IN_UPDATES) for premise in refused)
    return {name: PremiseFinding.of(findings.get(f"{APART}{name}", "none")).answer for name in names}


def refused_in_updates(findings: Mapping[str, str]) -> tuple[str, ...]:
    """Return the attributes that no request updates, by the findings about their resource."""
    return tuple(name for name, way in not_in_patch(findings).items() if way == "none")


def among(paths: Iterable[str], findings: Mapping[str, str]) -> list[str]:
    """Return those dotted paths, sorted, that lead to or into an attribute that Campaign refuses in updates."""
    refused = refused_in_updates(findings)
    return sorted(path for path in paths if group_of(path) in refused)


def group_of(path: str) -> str:
    """Return the attribute that a dotted path leads to or into."""
    return path.partition(".")[0]


def today() -> date:
    """Return the UTC day."""
    return datetime.now(UTC).date()


def _truth(finding: str | None) -> bool | None:
    return {"yes": True, "no": False}.get(finding or "")
