"""Poll the change feeds of Dynamics 365 for news, without reading the changes.

One client and one event loop live as long as the poller, so that a poll costs one request for each feed and no sign-in.
"""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sync_assets.config.models import TableConfig
from sync_assets.dataverse.client import DataverseClient, FeedExpired, TrackingOff
from sync_assets.dataverse.page_parser import has_news
from sync_assets.errors import public_message
from sync_assets.http.retry import POLL_PATIENCE
from sync_assets.http.transport import HttpError
from sync_assets.ledger.errors import FeedMoved
from sync_assets.performance import new_event_loop
from sync_assets.runtime.context import Runtime

T = TypeVar("T")
LONGEST_POLL = 20.0
"""Seconds that a poll may take, including a sign-in, since Dagster ends a sensor's tick after a minute."""
KEEP_LINK = timedelta(minutes=1)
"""Interval in which the new delta link of a feed without news is stored."""


@dataclass(frozen=True, slots=True)
class FeedPoll:
    """The result of a poll. `news`: tables with something to capture. `refused`: by table, why its feed failed."""

    news: set[str] = field(default_factory=set[str])
    refused: dict[str, str] = field(default_factory=dict[str, str])


class FeedPoller:
    """Polls the feeds of several tables concurrently. Thread-safe. Close it after use."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._loop = new_event_loop()
        self._client: DataverseClient | None = None
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._serve, name="feed-poll", daemon=True)
        self._thread.start()

    def poll(self, tables: Sequence[TableConfig]) -> FeedPoll:
        """Poll the feeds of the tables. A feed that fails does not affect the others.

        For a feed without news, the ledger stores the time of the poll and the new delta link, since the link of a
        quiet table would expire otherwise (docs/dev/references/dataverse.md 1.5, rule 2).

        Raises:
            SyncAssetsError: No feed could be polled; not raised if change tracking is off for all of them. Also if the
                poll takes longer than LONGEST_POLL.
        """
        return self._call(self._poll(tables))

    def close(self) -> None:
        """Close the client, end the thread, and close the event loop."""
        try:
            self._call(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the poller's loop. Raises HttpError after LONGEST_POLL."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout=LONGEST_POLL)
        except TimeoutError:
            future.cancel()
            raise HttpError(
                f"Dynamics 365 did not answer the poll within {LONGEST_POLL:.0f} s.",
                "The sensor asks again. If it stays so, `sync-assets doctor` says which part does not answer.",
            ) from None

    async def _poll(self, tables: Sequence[TableConfig]) -> FeedPoll:
        if self._client is None:
            self._client = await self._stack.enter_async_context(self._runtime.d365())
        answers = await asyncio.gather(
            *(self._has_news(self._client, config) for config in tables), return_exceptions=True
        )
        result = FeedPoll()
        failed: list[Exception] = []
        for config, answer in zip(tables, answers, strict=True):
            if isinstance(answer, Exception):
                failed.append(answer)
                result.refused[config.table] = public_message(answer, f"poll of {config.table}")
            elif isinstance(answer, BaseException):
                raise answer
            elif answer:
                result.news.add(config.table)
        of_all = [error for error in failed if not isinstance(error, TrackingOff)]
        if of_all and len(failed) == len(tables):
            raise of_all[0]
        return result

    async def _has_news(self, client: DataverseClient, config: TableConfig) -> bool:
        """Return True if a table has something to capture. Stores the poll in the ledger if it has not."""
        ledger = await asyncio.to_thread(lambda: self._runtime.ledger)
        feed = await asyncio.to_thread(ledger.feeds.feed, config.table)
        if feed is None or feed.link is None or feed.kind == "page":
            return True
        if await asyncio.to_thread(ledger.blocked.ids_to_refetch, config.table, 1):
            return True  # rows that the capture has to read again by id
        if await asyncio.to_thread(ledger.replays.capture_wanted, config.table):
            return True
        try:
            body = await client.page(feed.link, tracked=False, size=1, table=config.table, patience=POLL_PATIENCE)
        except FeedExpired:
            return True  # the capture then reads the table in full
        news, delta_link = has_news(body)
        if news or not delta_link:
            return True
        client.endpoint.checked(delta_link)
        stale = datetime.now(UTC) - feed.saved_at > KEEP_LINK
        with suppress(FeedMoved):  # a capture moved the cursor meanwhile, so it polled the feed
            await asyncio.to_thread(ledger.feeds.note_poll, config.table, feed.version, delta_link if stale else None)
        return False
