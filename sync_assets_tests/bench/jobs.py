"""Our side, measured: the real capture and the real push without Dagster, each in a process of its own.

`python -m sync_assets_tests.bench.jobs capture|acknowledge|push|status|load|drain ...`; the result goes where `meter`
says.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time

from sync_assets.campaign.client import CampaignClient
from sync_assets.capture.table_capture import Capture
from sync_assets.dataverse.client import DataverseClient
from sync_assets.http.client import CachedTokens, ssl_context
from sync_assets.ledger import Ledger, Outcome
from sync_assets.ledger.storage.payload_cipher import PayloadCipher
from sync_assets.performance import keep_loaded_objects, return_large_buffers
from sync_assets.push.dispatcher import push
from sync_assets.runtime import interruptible
from sync_assets.runtime.workers import WorkerSession, worker_id
from sync_assets_tests.bench.columns import TABLE_NAME
from sync_assets_tests.bench.meter import Meter, report
from sync_assets_tests.bench.raw_client import TOKEN
from sync_assets_tests.bench.table import TABLE, TARGET, mapping

STATUS_READS = 5
KEY = bytes(32)
"""Encrypts payloads. What it costs does not depend on its value."""


async def _token() -> tuple[str, float]:
    return TOKEN, 86_400.0


async def capture(ledger: Ledger, url: str, page_rows: int) -> None:
    """Follows the feed to its end, into the ledger. One that was read before is read in full once more."""
    feed = ledger.feeds.feed(TABLE_NAME)
    if feed:
        ledger.feeds.reset_feed(TABLE_NAME, feed.version)
    client = DataverseClient(url, CachedTokens(_token), context=ssl_context())
    session = WorkerSession(ledger)
    session.keep()
    job = Capture(ledger, client, TABLE, mapping(), session.epoch, page_size=page_rows)
    try:
        with Meter() as meter:
            result = await job.run()
            told = {name: getattr(result, name) for name in ("new", "changed", "unchanged", "invalid", "pages")}
            meter.done(result.rows, **told)
    finally:
        await client.aclose()


async def load(ledger: Ledger, url: str, page_rows: int, most: int, *, again: bool) -> None:
    """Captures to the end of the feed beside pushes, as a run does: pauses with `most` pending records. again: all."""
    session = WorkerSession(ledger)
    session.keep()
    if again and (feed := ledger.feeds.feed(TABLE_NAME)):
        ledger.feeds.reset_feed(TABLE_NAME, feed.version)
    client = DataverseClient(url, CachedTokens(_token), context=ssl_context())
    rows = highest = 0

    def is_full() -> bool:
        nonlocal highest
        highest = max(highest, pending := ledger.reports.backlog(TABLE_NAME))
        return pending >= most

    job = Capture(ledger, client, TABLE, mapping(), session.epoch, page_size=page_rows, is_full=is_full)
    try:
        with Meter() as meter:
            paused = True
            while paused:
                result = await job.run()
                rows, paused = rows + result.rows, result.paused
                # A run pushes for some time before it goes on: else each page would begin a capture of its own.
                while paused and ledger.reports.backlog(TABLE_NAME) > most - max(page_rows, most // 20):
                    await asyncio.sleep(0.1)
            meter.done(rows, highest=highest)
    finally:
        await client.aclose()


async def drain(ledger: Ledger, url: str, in_flight: int) -> None:
    """Pushes what becomes pending until it is killed, its parent has ended, or a push is stopped."""
    session = WorkerSession(ledger)
    session.keep()
    parent = os.getppid()
    client = CampaignClient(url, CachedTokens(_token), api_key="bench", context=ssl_context(), connections=in_flight)
    try:
        while os.getppid() == parent:
            result = await push(ledger, client, TARGET, session=session.epoch, concurrency=in_flight)
            if result.stopped or result.rejected:
                sys.exit(f"{result.rejected} records are rejected; stopped: {result.stopped}")
            await asyncio.sleep(0.1 if result.done else 0.5)
    finally:
        await client.aclose()


def acknowledge(ledger: Ledger) -> None:
    """As if all that is pending had been sent."""
    session = ledger.sessions.open(worker_id())
    done = 0
    with Meter() as meter:
        while records := ledger.claims.claim(TABLE_NAME, session, limit=5000):
            ledger.claims.acknowledge(session, [Outcome(one.seq, "done", one.hash) for one in records])
            done += len(records)
        meter.done(done)


async def send(ledger: Ledger, url: str, in_flight: int, limit: int | None, *, wait: bool) -> None:
    """Pushes what is pending, or about `limit` records of it. wait: for a line on standard input, to begin then."""
    client = CampaignClient(
        url, CachedTokens(_token), api_key="bench", context=ssl_context(), connections=in_flight, patience=10
    )
    enough = asyncio.Event()

    def watch(done: int) -> None:
        if limit is not None and done >= limit:
            enough.set()

    if wait:
        print("ready", flush=True)
        sys.stdin.readline()
    try:
        with Meter() as meter:
            began = time.time()
            session = WorkerSession(ledger)
            session.keep()
            result = await push(
                ledger, client, TARGET, session=session.epoch, concurrency=in_flight, progress=watch,
                session_is_valid=lambda: not enough.is_set(),  # the push then stops before its next request
            )  # fmt: skip
            stopped = None if enough.is_set() else result.stopped
            calls = sum(result.calls.values())
            meter.done(
                result.done, began=began, ended=time.time(), calls=calls, peak_in_flight=result.peak,
                rejected=result.rejected, given_back=result.given_back, stopped=stopped,
                latency_p50=result.latency_p50, latency_p95=result.latency_p95,
            )  # fmt: skip
    finally:
        await client.aclose()


def status(url: str) -> None:
    """How long the document of `status --json` takes, in a process that is up: the median of some."""
    from sync_assets.operations.status import status as document
    from sync_assets.runtime.context import Runtime

    runtime = Runtime({**os.environ, "SYNC_ASSETS_LEDGER_URL": url})
    document(runtime)
    times: list[float] = []
    for _ in range(STATUS_READS):
        began = time.perf_counter()
        document(runtime)
        times.append(time.perf_counter() - began)
    runtime.close()
    report(1, statistics.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("capture", "acknowledge", "push", "status", "load", "drain"))
    parser.add_argument("ledger")
    parser.add_argument("--url", default="")
    parser.add_argument("--page-rows", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--most", type=int, default=0, help="pending records with which `load` pauses")
    parser.add_argument("--again", action="store_true", help="`load` reads the table in full once more")
    parser.add_argument("--history", action="store_true", help="keep the history of records")
    parser.add_argument("--encrypted", action="store_true", help="encrypt payloads")
    arguments = parser.parse_args()
    if arguments.what == "status":
        status(arguments.ledger)
        return
    return_large_buffers()
    keep_loaded_objects()  # as each process that runs a sync does
    cipher = PayloadCipher((KEY,)) if arguments.encrypted else None
    with Ledger.open(arguments.ledger, cipher=cipher) as ledger:
        if arguments.history:
            ledger.history.keep("0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b")
        if arguments.what == "capture":
            interruptible.run(capture(ledger, arguments.url, arguments.page_rows))
        elif arguments.what == "load":
            interruptible.run(load(ledger, arguments.url, arguments.page_rows, arguments.most, again=arguments.again))
        elif arguments.what == "drain":
            interruptible.run(drain(ledger, arguments.url, arguments.in_flight))
        elif arguments.what == "acknowledge":
            acknowledge(ledger)
        else:
            interruptible.run(send(ledger, arguments.url, arguments.in_flight, arguments.limit, wait=arguments.wait))


if __name__ == "__main__":
    main()
