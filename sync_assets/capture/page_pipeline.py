"""Fetch, parse and prepare the pages of one read ahead of the ledger.

While the ledger stores one page, the next one is transformed, the one after that parsed, and one more fetched. Parsing
holds Python's interpreter lock and transforming is mostly done by Polars, so the two run concurrently in threads.

Invariant: at most four pages are in memory, whatever the size of the table.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial

from sync_assets.capture.context import RENEW_SECONDS, CaptureContext, fetch
from sync_assets.capture.page_preparation import PreparedPage, UnchangedRowFilter, UnchangedRows, parser, prepare_page
from sync_assets.dataverse.page_parser import Head, Page, peek
from sync_assets.http.client import LinkTrail
from sync_assets.mapping.table_mapping import TableMapping


class PagePipeline:
    """Fetch, parse and prepare the page at a link and those after it.

    Args:
        context: Of the table's capture.
        link: Of the first page.
        tracked: True to request pages with change tracking, as in a full read.
        skip_unchanged: True to leave rows unread whose hash the ledger has.
        newer: True to leave out rows of which the ledger has newer ones.
        body: Of the first page, if it was fetched before.
        earlier: Mappings under which records may have been acknowledged, whose columns the link selects, too.
    """

    def __init__(
        self,
        context: CaptureContext,
        link: str,
        *,
        tracked: bool,
        skip_unchanged: bool = False,
        newer: bool = False,
        body: bytes | None = None,
        earlier: Sequence[TableMapping] = (),
    ) -> None:
        ledger, table = context.ledger, context.table.name
        self._context = context
        self._link, self._body = link, body
        self._tracked, self._newer = tracked, newer
        self._earlier = earlier
        self._parse = parser(context.mapping, earlier).parse
        same_rows = partial(ledger.captures.same_rows, table)
        self._unchanged = UnchangedRowFilter(context.mapping, same_rows) if skip_unchanged else None
        self._trail = LinkTrail("Dynamics 365", table, link)
        self._without_rows: PreparedPage | None = None
        """A page without rows to read, prepared once: Polars takes as long for it as for some hundred rows."""

    async def pages(self) -> AsyncGenerator[PreparedPage]:
        """Yield prepared pages in order. Check the feed's lease between them."""
        self._fetching = asyncio.create_task(self._fetch(self._link, self._body))
        self._parsing = asyncio.create_task(self._parse_next())
        preparing = asyncio.create_task(self._prepare_next())
        renewed = time.monotonic()
        try:
            while True:
                page = await preparing
                self._context.client.endpoint.checked(page.next_link or page.delta_link or "")  # before it is saved
                if page.next_link:
                    preparing = asyncio.create_task(self._prepare_next())
                yield page
                if not page.next_link:
                    return
                if time.monotonic() - renewed > RENEW_SECONDS:
                    renewed = time.monotonic()
                    await self._context.keep_lease()
        finally:
            tasks = (preparing, self._parsing, self._fetching)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, link: str, body: bytes | None = None) -> bytes:
        return await fetch(self._context, link, tracked=self._tracked) if body is None else body

    def _fetch_next(self, link: str, rows: int) -> None:
        self._trail.follow(link, rows)
        self._fetching = asyncio.create_task(self._fetch(link))

    async def _parse_next(self) -> tuple[Page, UnchangedRows]:
        body = await self._fetching
        head = peek(body)
        if head and head.next_link:
            self._fetch_next(head.next_link, len(head.value))
        page, unchanged = await asyncio.to_thread(self._parsed, body, head)
        if head is None and page.next_link:  # the page had to be repaired before its link could be read
            self._fetch_next(page.next_link, page.rows.height + len(page.deleted))
        return page, unchanged

    def _parsed(self, body: bytes, head: Head | None) -> tuple[Page, UnchangedRows]:
        """Parse a page without its unchanged rows. head: None if the page must be repaired first."""
        if head is None or self._unchanged is None:
            return self._parse(body, head), ()
        to_read, unchanged = self._unchanged.part(head)
        page = self._parse(body, to_read)
        repaired = page.rows.height + len(page.deleted) > len(to_read.value)  # so all of its rows were parsed
        return page, () if repaired else unchanged

    async def _prepare_next(self) -> PreparedPage:
        page, unchanged = await self._parsing
        if page.next_link:
            self._parsing = asyncio.create_task(self._parse_next())
        return await asyncio.to_thread(self._prepared, page, unchanged)

    def _prepared(self, page: Page, unchanged: UnchangedRows) -> PreparedPage:
        if self._newer:
            page = self._context.without_older(page)
        if page.rows.height:
            return prepare_page(page, self._context.mapping, unchanged, self._earlier)
        if self._without_rows is None:
            self._without_rows = prepare_page(page, self._context.mapping)
        return replace(
            self._without_rows,
            read=len(unchanged) + page.older,
            deleted=page.deleted,
            unchanged=unchanged,
            older=page.older,
            next_link=page.next_link,
            delta_link=page.delta_link,
        )
