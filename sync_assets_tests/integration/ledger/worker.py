"""A process of its own that works on a ledger: `python -m sync_assets_tests.integration.ledger.worker JOB URL NAME`.

It says `ready` once it has begun, and prints what it did as JSON when it comes to an end by itself.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import FeedMoved
from sync_assets.ledger.feed import Position
from sync_assets.ledger.model import Outcome
from sync_assets_tests.support.ledgers import many, save_page, session_of

PAGES, PAGE = 30, 100
KILLED_PAGE = 500
BATCH = 40


def push_all(ledger: Ledger, name: str) -> Iterator[list[tuple[int, str | None]]]:
    """Claim and acknowledge until the last page is in and nothing is left; says what was sent, batch by batch.

    Nobody sends a second batch before both have sent one: SQLite may give all turns to one process.
    """
    batches = 0
    while True:
        if batches == 1 and ledger.counts.numbers("engine_calls", datetime.now(UTC).date()).get("insert", 0) <= BATCH:
            time.sleep(0.01)
            continue
        feed = ledger.feeds.feed("contact")
        claimed = ledger.claims.claim("contact", session_of(ledger, name), limit=BATCH)
        if not claimed:
            if feed and feed.complete and not ledger.reports.counts()["contact"].pending:
                return
            time.sleep(0.05)
            continue
        outcomes = [Outcome(one.seq, "done", one.hash) for one in claimed]
        ledger.claims.acknowledge(session_of(ledger, name), outcomes, {("contact", "insert"): len(outcomes)})
        batches += 1
        yield [(one.seq, one.hash.hex() if one.hash else None) for one in claimed]


def capture_all(ledger: Ledger, name: str) -> Iterator[list[int]]:
    """Capture PAGES pages, going on from wherever the feed stands; says which pages this process saved."""
    while True:
        feed = ledger.feeds.feed("contact")
        page = int(feed.link or 0) if feed else 0
        if page == PAGES:
            return
        rows = many(PAGE, prefix=f"page{page}-")
        position = Position(str(page + 1), "columns")
        try:
            save_page(ledger, "contact", rows, [], position, feed.version if feed else None)
        except FeedMoved:
            continue
        yield [page]


def capture_for_ever(ledger: Ledger, name: str) -> Iterator[list[int]]:
    """New rows, page after page, until killed."""
    feed = ledger.feeds.feed("contact")
    version = feed.version if feed else None
    while True:
        rows = many(KILLED_PAGE, prefix=f"page{version}-")
        version = save_page(ledger, "contact", rows, [], Position(str(version), "f"), version).feed.version
        yield []


def settle_for_ever(ledger: Ledger, name: str) -> Iterator[list[int]]:
    """Claim and acknowledge, until killed."""
    while True:
        claimed = ledger.claims.claim("contact", session_of(ledger, name), limit=200)
        outcomes = [Outcome(one.seq, "done", one.hash) for one in claimed]
        ledger.claims.acknowledge(session_of(ledger, name), outcomes, {("contact", "insert"): len(outcomes)})
        yield []


def open_alone(ledger: Ledger, name: str) -> Iterator[list[object]]:
    yield []


JOBS: dict[str, Callable[[Ledger, str], Iterator[list[object]]]] = {
    job.__name__: job  # type: ignore[dict-item]
    for job in (push_all, capture_all, capture_for_ever, settle_for_ever, open_alone)
}


def main(job: str, url: str, name: str) -> None:
    with Ledger.open(url) as ledger:
        many(1)  # Polars is loaded before the clock of the test starts
        print("ready", flush=True)
        done = [item for items in JOBS[job](ledger, name) for item in items]
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
