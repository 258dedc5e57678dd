"""Poll the change feeds of Dynamics 365 for news, without reading the changes.

One client lives as long as the poller, so that a poll costs no sign-in. With few mapped tables a poll is a request for
each feed; with more, one for FEEDS_IN_A_BATCH of them (`$batch`), since Dynamics 365 limits requests, and each feed is
to be polled every second. A feed without an answer in a batch is polled by a request of its own; if none has one, the
poller sends no further batch for a minute.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from sync_assets.config.models import TableConfig
from sync_assets.dataverse.batch import read_links
from sync_assets.dataverse.client import DataverseClient, FeedExpired, TrackingOff
from sync_assets.dataverse.page_parser import has_news
from sync_assets.errors import public_message
from sync_assets.http.retry import POLL_PATIENCE
from sync_assets.http.transport import HttpError, Response
from sync_assets.ledger.errors import FeedMoved
from sync_assets.ledger.feed import Feed
from sync_assets.runtime.context import Runtime
from sync_assets.task_group import run_together

LONGEST_POLL = 20.0
"""Seconds that a poll may take, including a sign-in, since Dagster ends a sensor's tick after a minute."""
FEED_SECONDS = 9.0
"""Of these, seconds for a request: a feed without an answer does not fail the others, nor a batch its feeds."""
MOST_SINGLE = 9
"""Most tables whose feeds are polled by a request each: five requests a second, of 20 that Dynamics 365 allows."""
FEEDS_IN_A_BATCH = 20
BATCH_SECONDS = 0.8
"""Seconds between two polls by batches: the server's time for their parts is limited, too."""
BATCH_AGAIN = 60.0
"""Seconds until the next batch after one without an answer: it is refused, or all its delta links have expired."""
POLL_SECONDS = 0.4
"""Seconds between two polls by requests of their own with up to two tables, and for each two more."""
NOTE_POLL = timedelta(seconds=10)
"""Interval in which the time of a poll without news is stored."""
KEEP_LINK = timedelta(minutes=1)
"""Interval in which the new delta link of a feed without news is stored."""


@dataclass(frozen=True, slots=True)
class FeedPoll:
    """The result of a poll. `news`: tables with something to capture. `refused`: by table, why its feed failed."""

    news: set[str] = field(default_factory=set[str])
    refused: dict[str, str] = field(default_factory=dict[str, str])


class FeedPoller:
    """Polls the feeds of several tables concurrently: `async with FeedPoller(runtime) as poller`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._client: DataverseClient | None = None
        self._unanswered_at = float("-inf")
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._stack.aclose()

    async def poll(self, tables: Sequence[TableConfig]) -> FeedPoll:
        """Poll the feeds of the tables. A feed that fails does not affect the others.

        For a feed without news, the ledger stores the time of the poll and the new delta link, since the link of a
        quiet table would expire otherwise (docs/dev/references/dataverse.md 1.5, rule 2).

        Raises:
            SyncAssetsError: No feed could be polled; not raised if change tracking is off for all of them. Also if the
                poll takes longer than LONGEST_POLL.
        """
        try:
            async with asyncio.timeout(LONGEST_POLL):
                return await self._poll(tables)
        except TimeoutError:
            raise _no_answer(LONGEST_POLL) from None

    @property
    def pause(self) -> float:
        """Seconds to wait before the next poll."""
        return BATCH_SECONDS if self._batches else POLL_SECONDS * max(1, len(self._runtime.config.tables) / 2)

    @property
    def _batches(self) -> bool:
        """Return True if several feeds are polled by batches."""
        return len(self._runtime.config.tables) > MOST_SINGLE and time.monotonic() - self._unanswered_at > BATCH_AGAIN

    async def _poll(self, tables: Sequence[TableConfig]) -> FeedPoll:
        if self._client is None:
            self._client = await self._stack.enter_async_context(self._runtime.d365())
        feeds = await run_together(*(asyncio.to_thread(self._feed, config) for config in tables))
        bodies = await self._bodies(self._client, [feed.link for feed in feeds if feed and feed.link])
        answers = await asyncio.gather(
            *(self._has_news(self._client, config, feed, bodies) for config, feed in zip(tables, feeds, strict=True)),
            return_exceptions=True,
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

    def _feed(self, config: TableConfig) -> Feed | None:
        """Return the feed to poll; None if the table has something to capture anyway."""
        ledger = self._runtime.ledger
        feed = ledger.feeds.feed(config.table)
        if feed is None or feed.link is None or not feed.complete:
            return None
        # Rows that the capture has to read again by id, or a replay.
        wanted = ledger.blocked.ids_to_refetch(config.table, 1) or ledger.replays.capture_wanted(config.table)
        if config.carries_merged and not wanted:
            wanted = ledger.merged.is_due(self._runtime.config.opt_out.attributes, are_fields=bool(config.opt_outs))
        return None if wanted else feed

    async def _bodies(self, client: DataverseClient, links: Sequence[str]) -> dict[str, bytes]:
        """Return the answers of links that are read by batches. A link without one is to be read alone."""
        if len(links) < 2 or not self._batches:
            return {}
        slices = [links[at : at + FEEDS_IN_A_BATCH] for at in range(0, len(links), FEEDS_IN_A_BATCH)]
        prefer = "odata.maxpagesize=1"
        read: Sequence[list[Response | None]] = ()
        with suppress(HttpError, TimeoutError):  # requests of their own show the cause
            async with asyncio.timeout(FEED_SECONDS):
                read = await run_together(*(read_links(client, some, prefer, POLL_PATIENCE) for some in slices))
        parts = zip(links, (part for some in read for part in some), strict=False)
        bodies = {link: part.body for link, part in parts if part and part.status == 200}
        if not bodies:
            self._unanswered_at = time.monotonic()
        return bodies

    async def _has_news(
        self, client: DataverseClient, config: TableConfig, feed: Feed | None, bodies: Mapping[str, bytes]
    ) -> bool:
        """Return True if a table has something to capture. Stores the poll in the ledger if it has not."""
        if feed is None or feed.link is None:
            return True
        ledger = self._runtime.ledger
        try:
            async with asyncio.timeout(FEED_SECONDS):
                body = bodies.get(feed.link) or await client.page(
                    feed.link, tracked=False, size=1, table=config.table, patience=POLL_PATIENCE
                )
        except FeedExpired:
            return True  # the capture then reads the table in full
        except TimeoutError:
            raise _no_answer(FEED_SECONDS) from None
        news, delta_link = has_news(body)
        if news or not delta_link:
            return True
        client.endpoint.checked(delta_link)
        now = datetime.now(UTC)
        stale = now - feed.saved_at > KEEP_LINK
        if not stale and timedelta(0) <= now - feed.polled_at < NOTE_POLL:
            return False
        with suppress(FeedMoved):  # a capture moved the cursor meanwhile, or a replay was requested: both poll the feed
            await asyncio.to_thread(ledger.feeds.note_poll, config.table, feed.version, delta_link if stale else None)
        return False


def _no_answer(seconds: float) -> HttpError:
    return HttpError(
        f"Dynamics 365 did not answer the poll within {seconds:.0f} s.",
        "The poll is repeated. If it stays so, `sync-assets doctor` says which part does not answer.",
    )


async def poll_once(runtime: Runtime, tables: Sequence[TableConfig]) -> FeedPoll:
    """Poll the feeds of the tables once. Raises as `FeedPoller.poll`."""
    async with FeedPoller(runtime) as poller:
        return await poller.poll(tables)
