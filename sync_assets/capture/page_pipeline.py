"""Fetch, parse and prepare the pages of one read ahead of the ledger.

While the ledger stores one page, the next one is transformed, the one after that parsed, and one more fetched. Parsing
holds Python's interpreter lock and transforming is mostly done by Polars, so the two run concurrently in threads.

Invariant: at most four pages are in memory, whatever the size of the table.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

from sync_assets.capture.context import RENEW_SECONDS, CaptureContext, fetch
from sync_assets.capture.page_preparation import PreparedPage, parser
from sync_assets.dataverse.page_parser import Page, read_head
from sync_assets.http.client import LinkTrail
from sync_assets.mapping.table_mapping import TableMapping


class PagePipeline:
    """Fetch, parse and prepare the page at a link and those after it.

    Args:
        context: Of the table's capture.
        link: Of the first page.
        tracked: True to request pages with change tracking, as in a full read.
        newer: True to leave out rows of which the ledger has newer ones.
        body: Of the first page, if it was fetched before.
        earlier: As in CaptureContext; the link selects their columns, too.
    """

    def __init__(
        self,
        context: CaptureContext,
        link: str,
        *,
        tracked: bool,
        newer: bool = False,
        body: bytes | None = None,
        earlier: Sequence[TableMapping | None] = (),
    ) -> None:
        self._context = context
        self._link, self._body = link, body
        self._tracked, self._newer = tracked, newer
        self._earlier = earlier
        self._parse = parser(context.mapping, earlier).parse
        self._trail = LinkTrail("Dynamics 365", context.table.name, link)

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

    async def _parse_next(self) -> Page:
        head = read_head(await self._fetching)
        if head.next_link:
            self._trail.follow(head.next_link, len(head.value))
            self._fetching = asyncio.create_task(self._fetch(head.next_link))
        return await asyncio.to_thread(self._parse, head)

    async def _prepare_next(self) -> PreparedPage:
        page = await self._parsing
        if page.next_link:
            self._parsing = asyncio.create_task(self._parse_next())
        return await asyncio.to_thread(self._prepared, page)

    def _prepared(self, page: Page) -> PreparedPage:
        if self._newer:
            page = self._context.without_older(page)
        return self._context.prepared(page, self._earlier)
