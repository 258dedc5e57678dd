"""Create, find and delete the synthetic record of a table, also the records that a killed run left.

A record is ours if it carries the synthetic id, which is compared in each record that Campaign shows: a filter with a
wrong parameter returns all records. Where neither the filter nor the key in the URL finds a record, the newest records
are listed, back to the time at which the killed run began (its mark in the ledger).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from sync_assets.audit.certification.subject import ATTEMPTS, Subject
from sync_assets.campaign.client import CampaignRefused, listed
from sync_assets.campaign.dialect import moment
from sync_assets.http.pagination import LinkTrail
from sync_assets.http.retry import backoff
from sync_assets.http.transport import OutcomeUnknown

MARGIN = timedelta(hours=1)
"""How far the list goes back beyond the mark: the clocks of this machine and of Campaign differ."""
_PAGE = 100


class NotCreated(Exception):
    """Raised when Campaign rejects the synthetic record; the text is Campaign's reason, redacted."""


async def create(subject: Subject) -> None:
    """POST the record, again after an answer that was lost or may be temporary. Raises NotCreated."""
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            response = await subject.post()
        except OutcomeUnknown:
            await asyncio.sleep(backoff(attempt))
            reason = "the answer to the POST was lost"
            if pkeys := await held(subject, subject.began):
                subject.pkey = pkeys[0]
                subject.made.update(pkeys)
                return
            continue
        if response.kind == "done":
            subject.pkey = response.pkey
            return
        reason = subject.shown(response)
        if response.kind != "transient":
            break
    raise NotCreated(reason)


async def remove(subject: Subject, since: datetime | None) -> bool:
    """Delete all synthetic records of a table. Return False if one is left.

    Args:
        subject: Of the table.
        since: When the run began that may have left records; None if none did.
    """
    for _ in range(ATTEMPTS):
        left = dict.fromkeys([*subject.made, *await held(subject, since)])
        if not left:
            subject.pkey = ""
            return True
        for pkey in left:
            await subject.delete(pkey)
    return not (subject.made or await held(subject, since))


async def held(subject: Subject, since: datetime | None = None) -> list[str]:
    """Return the PKeys of the records with the synthetic id, as far as Campaign shows them.

    since: see `remove`; None: without the list.
    """
    records = await _filtered(subject)
    found = await subject.read(subject.id)
    if isinstance(found, dict):
        records.append(found)
    if since is not None:
        records += await _listed(subject, since - MARGIN)
    pkeys = [str(record.get("PKey") or "") for record in records if subject.carries_our_id(record)]
    return [pkey for pkey in dict.fromkeys(pkeys) if pkey]


async def _filtered(subject: Subject) -> list[dict[str, Any]]:
    """Return the first page of the configured filter; empty without one, or if it is not published."""
    given = subject.target.filter
    if given is None:
        return []
    link = f"{subject.path}/{given.name}?{given.parameter}={quote(subject.id, safe='')}&_lineCount={_PAGE}"
    try:
        return listed(await subject.client.call("read", link), subject.config.resource)[0]
    except CampaignRefused:
        return []


async def _listed(subject: Subject, since: datetime) -> list[dict[str, Any]]:
    """Return the records with the synthetic id among those changed since then.

    The whole resource is read if Campaign does not list it in this order.
    """
    query = f"_lineCount={_PAGE}&_forcePagination=true"
    try:
        return await _newest(subject, since, f"{query}&_order=lastModified%20desc", sorts=True)
    except CampaignRefused:
        return await _newest(subject, since, query, sorts=False)


async def _newest(subject: Subject, since: datetime, query: str, *, sorts: bool) -> list[dict[str, Any]]:
    ours: list[dict[str, Any]] = []
    last: datetime | None = None
    link = f"{subject.path}?{query}"
    trail = LinkTrail("Campaign", subject.config.resource, link)
    while link:
        page, following = listed(await subject.client.call("read", link), subject.config.resource)
        ours += [record for record in page if subject.carries_our_id(record)]
        times = [moment(record.get("lastModified")) for record in page]
        sorts = sorts and _falling([last, *times])
        last = times[-1] if times else last
        link = "" if sorts and last is not None and last < since else trail.follow(following, len(page))
    return ours


def _falling(times: Sequence[datetime | None]) -> bool:
    known = [time for time in times if time is not None]
    return known == sorted(known, reverse=True)
