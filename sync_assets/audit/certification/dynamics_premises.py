"""Try what can be read of Dynamics 365: pages, the change feed, `$batch`, privileges. Nothing is written to it.

A premise that needs a change of a contact is reported as not tried.
"""

import uuid
from collections import Counter

from sync_assets.audit.certification.synthetic_record import PremiseResult, Verdict
from sync_assets.capture.context import SMALLEST
from sync_assets.checks.dynamics import Privilege, privilege
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.dataverse import privileges as rights
from sync_assets.dataverse.batch import read_parts
from sync_assets.dataverse.client import MAX_PAGE, D365Refused, DataverseClient, FeedExpired, ServerFailed
from sync_assets.dataverse.metadata import Table
from sync_assets.dataverse.page_parser import Head, changed_ids, read_head
from sync_assets.http.retry import RequestOptions
from sync_assets.http.transport import HttpError
from sync_assets.ledger import Ledger

SMALL, SIZES = "a read of small pages", "other page sizes"
LARGE = f"a page of {MAX_PAGE:,} rows"
REPEATED = "an id occurs in a page once"
DURING = "a change during a read of several pages"
TOMBSTONES, BATCH = "deleted rows in the change feed", "$batch"
_PRIVILEGES = {
    "Read": ("privilege to read", "Every row is captured."),
    "Write": ("privilege to write opt-outs", "Opt-outs of every contact can be written back."),
}
"""Privilege -> the premise, and what the program does if it covers the organisation."""

PAGES = 4
"""Small pages that are read, at most."""
CHANGES = 5
"""Pages of changes that are read, at most, to find a deleted row."""


async def organisation(client: DataverseClient, config: Config) -> list[PremiseResult]:
    """Try the premises that do not depend on a table."""
    await client.who_am_i()
    results = [
        _result("", "sign-in with the configured credential", "accepted", "The token is renewed when it expires."),
        await _batch(client),
    ]
    if config.opt_out.active:
        results.append(await _privilege(client, CONTACT, "Write"))
    return results


async def table(client: DataverseClient, ledger: Ledger, config: TableConfig) -> list[PremiseResult]:
    """Try the premises about one mapped table."""
    name = config.table
    results = [await _privilege(client, name, "Read")]
    try:
        metadata = await client.table(name, ())
        results += await _pages(client, metadata)
    except D365Refused as error:
        return [*results, _result(name, SMALL, "refused", str(error), "not workable")]
    way = "A change feed position from before the read is kept and followed after it: right either way."
    results.append(_result(name, DURING, "a person must change a row meanwhile", way, "not tried"))
    results.append(await _tombstones(client, ledger, metadata))
    return results


def _result(about: str, premise: str, finding: str, program: str, outcome: Verdict = "workable") -> PremiseResult:
    return PremiseResult("Dynamics 365", about, premise, finding, program, outcome)


async def _pages(client: DataverseClient, table: Table) -> list[PremiseResult]:
    """Read the first rows in pages of several sizes; each read must return the same rows, each of them once."""
    name = table.name
    size, body = await _largest(client, table, client.first_page(table, [table.key]), tracked=True)
    whole = read_head(body)
    first = changed_ids(whole, table.key)
    finding = f"{len(whole.value):,} rows, {'more follow' if whole.next_link else 'all of them'}"
    if size < MAX_PAGE:
        finding = f"Dynamics 365 fails; a page of {size:,} rows arrives"
    results = [_result(name, LARGE, finding, "The page is halved after repeated failures.")]
    repeated = len(first) < len(whole.value)
    if len(first) < 2:
        for premise in (SMALL, SIZES):
            results.append(_result(name, premise, "too few rows", "Pages are followed by their links.", "not tried"))
        return results
    way = "Pages are followed by their links, all of one size in a read."
    for premise, size in ((SMALL, 1), (SIZES, 3)):
        link, heads = client.first_page(table, [table.key]), list[Head]()
        while link and len(heads) < PAGES:
            heads.append(read_head(await client.page(link, tracked=True, size=size, table=table.name)))
            link = heads[-1].next_link or ""
        ids = [id_ for head in heads for id_ in changed_ids(head, table.key)]
        repeated = repeated or any(len(changed_ids(head, table.key)) < len(head.value) for head in heads)
        same = ids[: len(first)] == first[: len(ids)] or sorted(ids) == sorted(first)
        if any(number > 1 for number in Counter(ids).values()) or not same:
            wrong = "A full read would miss rows. Run it again when no row changes; if it stays so, report it."
            results.append(_result(name, premise, "other rows than in one page", wrong, "not workable"))
        elif len(heads) == 1 and heads[0].next_link is None:
            results.append(_result(name, premise, f"the size {size} is ignored", way))
        else:
            results.append(_result(name, premise, f"{len(heads)} pages of {size}: the same rows, each once", way))
    text = "an id is repeated in a page" if repeated else "no id is repeated in a page"
    return [*results, _result(name, REPEATED, text, "The newest one counts.")]


async def _largest(client: DataverseClient, table: Table, link: str, *, tracked: bool) -> tuple[int, bytes]:
    """Return the largest size that Dynamics 365 has the memory for, and the page in it. Raises ServerFailed."""
    size = MAX_PAGE
    while True:
        try:
            return size, await client.page(link, tracked=tracked, size=size, table=table.name)
        except ServerFailed:
            if size == SMALLEST:
                raise
            size = max(SMALLEST, size // 2)


async def _tombstones(client: DataverseClient, ledger: Ledger, table: Table) -> PremiseResult:
    """Follow the stored position of the change feed, which moves nothing, and look for deleted rows."""
    name, way = table.name, "A deleted row in the feed is a delete in Campaign, if `apply_deletes` is true."
    feed = ledger.feeds.feed(name)
    if feed is None or not feed.complete or not feed.link:
        return _result(name, TOMBSTONES, "no position of the feed is stored yet: run `sync` first", way, "not tried")
    try:
        size, body = await _largest(client, table, feed.link, tracked=False)
        for page in range(1, CHANGES + 1):
            head = read_head(body)
            if any(b'"reason"' in bytes(raw) and b'"deleted"' in bytes(raw) for raw in head.value):
                return _result(name, TOMBSTONES, "seen", way)
            if not head.next_link:
                break
            if page == CHANGES:
                return _result(name, TOMBSTONES, f"none in the first {CHANGES} pages of changes", way, "not tried")
            body = await client.page(head.next_link, tracked=False, size=size, table=name)
    except FeedExpired as error:
        return _result(name, TOMBSTONES, error.cause, error.remedy, "not tried")
    except D365Refused as error:
        return _result(name, TOMBSTONES, str(error), "Run it again; `sync-assets doctor` tries the feed.", "not tried")
    return _result(name, TOMBSTONES, "no row was deleted since the last sync", way, "not tried")


async def _batch(client: DataverseClient) -> PremiseResult:
    """Send two reads in one `$batch`, as opt-outs are written."""
    boundary = f"batch_{uuid.uuid4()}"
    lines: list[str] = []
    for _ in range(2):
        lines += [f"--{boundary}", "Content-Type: application/http", "Content-Transfer-Encoding: binary", ""]
        lines += [f"GET {client.endpoint.base_url}/WhoAmI HTTP/1.1", "Accept: application/json", "", ""]
    answer = await client.endpoint.send(
        "POST",
        "$batch",
        body="\r\n".join([*lines, f"--{boundary}--", ""]).encode(),
        headers={"Content-Type": f'multipart/mixed; boundary="{boundary}"', "Prefer": "odata.continue-on-error"},
        call=RequestOptions(repeat_unknown=True),
    )
    try:
        parts = read_parts(answer) if answer.status < 300 else []
    except HttpError:
        parts = []
    if len(parts) == 2 and all(part is not None and part.status == 200 for part in parts):
        return _result("", BATCH, "two reads, two answers", "Opt-outs are written many in a request.")
    way = "Opt-outs cannot be written. Check D365_URL, and proxies on the way."
    return _result("", BATCH, f"no answers to its parts (status {answer.status})", way, "not workable")


async def _privilege(client: DataverseClient, table: str, access: str) -> PremiseResult:
    premise, covered = _PRIVILEGES[access]
    try:
        held = await privilege(client, await client.who_am_i(), table, access)
    except (D365Refused, HttpError):
        held = Privilege("", None, returned=False)
    if not held.returned:
        way = "A missing privilege shows when it is needed; `sync-assets doctor` tries it."
        return _result(table, premise, "the role may not read its own privileges", way, "not tried")
    if held.depth == rights.ORGANISATION:
        return _result(table, premise, "for the whole organisation", covered)
    way = f"Give the application user's role {held.name or access} for the whole organisation."
    outcome: Verdict = "workable" if access == "Write" and held.depth else "not workable"
    return _result(table, premise, f"depth {held.depth}" if held.depth else "missing", way, outcome)
