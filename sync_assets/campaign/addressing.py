"""How the records of one resource are addressed: by our key in the URL, or by a look-up through a published filter.

Adobe documents keys in URLs for a published identification key of profile only, so `address: auto` believes nothing: it
tries the key, and remembers what Campaign's own answers showed. Here: what is known of a resource, and what follows.
Not here: requests (`records.py`), and where findings are kept (`ledger/repositories/dialect_findings.py`).

Source: https://experienceleague.adobe.com/docs/campaign-standard/using/working-with-apis/get-started-apis.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

Mode = Literal["auto", "url", "filter"]

KEY = "key"
"""The attribute that the findings are about."""
KEY_IN_URL = "key_in_url"
"""Premise: GET and PATCH find a record by our key. yes, no."""
KEY_IN_DELETE = "key_in_delete"
"""Premise: DELETE does, too. yes, no; failed: Campaign failed without a reason, once, and is asked again."""
KEY_UNIQUE = "key_unique"
"""Premise: Campaign refuses a second record with the same key. yes."""
DELETE_ANSWER = "delete_answer"
"""The form of the answer to a DELETE after which the record was seen to be gone."""
DELETE_SEEN = "delete_seen"
"""The UTC day on which a record was last seen to be gone after such an answer."""
DELETES_TRUSTED = 50
"""Deletes of one push, answered alike, that are trusted before the next one is verified."""

BARE_ERRORS = 3
"""Errors without a reason, on keys of records that exist, after which Campaign counts as not taking keys in URLs."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A published filter on the key, and the query parameter that takes the value."""

    name: str
    parameter: str


@dataclass(slots=True)
class Addressing:
    """What is known of a resource. `found`: premise -> finding; `news`: findings that are not stored yet.

    `filter` serves modes `filter`, and `auto` where Campaign does not take the key. `confirmed`: a request by the key
    found its record since this object was made. `unique`: as configured, None: found out. `bare_errors`: see
    `bare_by_key`. `trusted`: deletes since one was verified.
    """

    mode: Mode = "auto"
    filter: Filter | None = None
    unique: bool | None = None
    found: dict[str, str] = field(default_factory=dict[str, str])
    news: dict[str, str] = field(default_factory=dict[str, str])
    confirmed: bool = False
    bare_errors: int = 0
    trusted: int = 0
    _deleting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(
        cls, mode: Mode, filter: Filter | None, unique: bool | None, key: str, found: Mapping[str, str]
    ) -> Addressing:
        """With earlier findings, if they are of this key. That keys are not taken is asked again where there is no
        other way."""
        known = dict(found) if found.get(KEY) == key else {}
        if known.get(KEY_IN_URL) == "no" and filter is None:
            del known[KEY_IN_URL]
        return cls(mode, filter, unique, {**known, KEY: key}, {} if known else {KEY: key})

    @property
    def key_in_url(self) -> bool | None:
        """Is a record addressed by its key? None: not known yet, so it is tried."""
        if self.mode != "auto":
            return self.mode == "url"
        return _truth(self.found.get(KEY_IN_URL))

    @property
    def key_in_delete(self) -> bool | None:
        """The same for DELETE, where no source documents it."""
        if self.key_in_url is False:
            return False
        return _truth(self.found.get(KEY_IN_DELETE))

    @property
    def deletes_known(self) -> bool:
        """Is it known how a record is deleted, and what the answer to that looks like? Until then one is at a time."""
        return self.key_in_delete is not None and self._deletes_verified

    @property
    def _deletes_verified(self) -> bool:
        """Was a delete seen to be done, today?"""
        return DELETE_ANSWER in self.found and self.found.get(DELETE_SEEN) == _today()

    def trusts_delete(self, form: str) -> bool:
        """Return True if an answer to a DELETE needs no read: an equal one was verified, today and lately."""
        if not self._deletes_verified or self.found[DELETE_ANSWER] != form or self.trusted >= DELETES_TRUSTED:
            return False
        self.trusted += 1
        return True

    def delete_verified(self, form: str) -> None:
        """A record was gone after an answer of this form to its DELETE."""
        self.trusted = 0
        self.note(DELETE_ANSWER, form)
        self.note(DELETE_SEEN, _today())

    def delete_by_key_failed(self, *, bare: bool) -> None:
        """A DELETE of a record by its PKey was done after one by its key was not. bare: the answer had no reason, and
        the failure may have passed meanwhile; the second time it counts."""
        once = bare and self.found.get(KEY_IN_DELETE) is None
        self.note(KEY_IN_DELETE, "failed" if once else "no")

    def first_delete(self) -> asyncio.Lock:
        """Held while a delete finds that out."""
        return self._deleting

    @property
    def falls_back(self) -> bool:
        """May a record that is not found by its key be there all the same? Then the filter is asked."""
        return self.mode == "auto" and self.filter is not None and not self.confirmed

    @property
    def is_unique(self) -> bool:
        """Is it known that Campaign refuses a second record with the same key? What keys in URLs resolve is unique."""
        if self.unique is not None:
            return self.unique
        return KEY_UNIQUE in self.found or self.found.get(KEY_IN_URL) == "yes"

    def note(self, premise: str, finding: str) -> None:
        if self.found.get(premise) != finding:
            self.found[premise] = self.news[premise] = finding

    def found_by_key(self) -> None:
        """Campaign found a record by the key in the URL."""
        self.confirmed = True
        self.note(KEY_IN_URL, "yes")

    def not_by_key(self) -> None:
        """A record that is there was not found by its key."""
        self.confirmed = False
        self.note(KEY_IN_URL, "no")

    def bare_by_key(self) -> None:
        """Campaign failed without a reason on a key, and took the record's PKey: the failure may have passed meanwhile,
        but not every time."""
        self.bare_errors += 1
        if self.bare_errors >= BARE_ERRORS and not self.confirmed:
            self.not_by_key()


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _truth(finding: str | None) -> bool | None:
    return {"yes": True, "no": False}.get(finding or "")
