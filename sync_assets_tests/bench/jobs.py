"""Our side, measured: the real capture and the real push without Dagster, each in a process of its own.

`python -m sync_assets_tests.bench.jobs capture|acknowledge|push LEDGER ...`. Words and options stay as
they are, so that another checkout of the program can be measured beside this one. The result goes to `meter`.
"""

import argparse
import asyncio

from pydantic import SecretStr

from sync_assets.campaign.client import CampaignClient
from sync_assets.capture.page_preparation import columns_by_attribute, guarded_attributes
from sync_assets.capture.table_capture import Capture
from sync_assets.config.environment import CampaignSettings
from sync_assets.dataverse.client import DataverseClient
from sync_assets.http.client import CachedTokens
from sync_assets.http.transport import ssl_context
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Outcome
from sync_assets.ledger.prepared_page import ColumnGuard
from sync_assets.performance import keep_loaded_objects, return_large_buffers
from sync_assets.push.claimed_records import ClaimedRecords
from sync_assets.push.dispatcher import push
from sync_assets.runtime import interruptible
from sync_assets.runtime.workers import WorkerSession, worker_id
from sync_assets_tests.bench.columns import TABLE_NAME, TOKEN
from sync_assets_tests.bench.meter import Meter
from sync_assets_tests.bench.table import TABLE, TARGET, mapping


async def _token() -> tuple[str, float]:
    return TOKEN, 86_400.0


def _session(ledger: Ledger) -> WorkerSession:
    session = WorkerSession(ledger)
    session.keep()
    return session


async def capture(ledger: Ledger, url: str, page_rows: int) -> None:
    """Follow the feed to its end, into the ledger. A feed that was read before is read in full once more."""
    feed = ledger.feeds.feed(TABLE_NAME)
    if feed:
        ledger.feeds.reset_feed(TABLE_NAME, feed.version)
    client = DataverseClient(url, CachedTokens(_token), context=ssl_context())
    bits = ledger.emptied.bits(TABLE_NAME, columns_by_attribute(mapping()))
    guard = ColumnGuard(bits, guarded_attributes(mapping()), 0.05)
    job = Capture(ledger, client, TABLE, mapping(), _session(ledger).epoch, page_size=page_rows, guard=guard)
    try:
        with Meter() as meter:
            result = await job.run()
            figures = {name: getattr(result, name) for name in ("new", "changed", "unchanged", "invalid", "pages")}
            meter.done(result.rows, **figures)
    finally:
        await client.aclose()


def acknowledge(ledger: Ledger) -> None:
    """Acknowledge all that is pending, without a request."""
    session = ledger.sessions.open(worker_id())
    done = 0
    with Meter() as meter:
        while records := ledger.claims.claim(TABLE_NAME, session, limit=5000):
            ledger.claims.acknowledge(session, [Outcome(one.seq, "done", one.hash) for one in records])
            done += len(records)
        meter.done(done)


async def send(ledger: Ledger, url: str, in_flight: int, limit: int | None) -> None:
    """Push what is pending, or about `limit` records of it."""
    access = CampaignSettings(url, "", "bench", SecretStr(""), "")
    client = CampaignClient(access, CachedTokens(_token), context=ssl_context(), connections=in_flight)
    client.endpoint.patience = 10
    enough = asyncio.Event()

    def watch(done: int) -> None:
        if limit is not None and done >= limit:
            enough.set()

    try:
        with Meter() as meter:
            # Once its session is invalid, the push stops before its next request.
            claims = ClaimedRecords(ledger, TARGET, _session(ledger).epoch, lambda: not enough.is_set())
            result = await push(claims, client, concurrency=in_flight, progress=watch)
            meter.done(
                result.done, calls=sum(result.calls.values()), peak_in_flight=result.peak, rejected=result.rejected,
                stopped=None if enough.is_set() else result.stopped,
                latency_p50=result.latency_p50, latency_p95=result.latency_p95,
            )  # fmt: skip
    finally:
        await client.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=("capture", "acknowledge", "push"))
    parser.add_argument("ledger")
    parser.add_argument("--url", default="")
    parser.add_argument("--page-rows", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    return_large_buffers()
    keep_loaded_objects()  # as each process that runs a sync does
    with Ledger.open(given.ledger) as ledger:
        if given.job == "capture":
            interruptible.run(capture(ledger, given.url, given.page_rows))
        elif given.job == "acknowledge":
            acknowledge(ledger)
        else:
            interruptible.run(send(ledger, given.url, given.in_flight, given.limit))


if __name__ == "__main__":
    main()
