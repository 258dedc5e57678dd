"""A capture against the sandbox, without Dagster: what it counts, and that it never overwrites what is newer."""

import asyncio
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from sync_assets.capture.context import CaptureBusy, CaptureResult
from sync_assets.capture.queries import within
from sync_assets.capture.table_capture import Capture
from sync_assets.http.client import EndlessRead
from sync_assets.ledger.feed import Replay
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.ledgers import feed_of, session_of
from sync_assets_tests.support.program import Program, capturing

EARLIEST, LATEST = date.min, date.max


@pytest.fixture
def runtime(program: Program) -> Iterator[Runtime]:
    opened = program.runtime()
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("first", "last", "condition"),
    [
        (EARLIEST, LATEST, ""),
        (EARLIEST, date(2026, 11, 30), "modifiedon lt 2026-12-01T00:00:00Z"),
        (date(2024, 2, 29), LATEST, "modifiedon ge 2024-02-29T00:00:00Z"),
        (
            date(2026, 1, 1),
            date(2026, 1, 1),
            "modifiedon ge 2026-01-01T00:00:00Z and modifiedon lt 2026-01-02T00:00:00Z",
        ),
    ],
)
def test_days_as_a_condition_on_the_time_of_the_last_change(first: date, last: date, condition: str) -> None:
    assert within(Replay(first, last, resend=False)) == condition


async def test_a_replay_goes_on_when_another_worker_moved_the_feed_meanwhile(runtime: Runtime) -> None:
    async with capturing(runtime) as capture:
        await capture.run()
    moves = 0

    def another_worker(result: CaptureResult) -> None:
        nonlocal moves
        feed = runtime.ledger.feeds.feed("contact")
        if moves < 2 and feed is not None:
            moves += 1
            runtime.ledger.feeds.note_poll("contact", feed.version, feed.link)

    runtime.ledger.replays.ask_for_replay("contact", EARLIEST, LATEST, resend=True)
    async with capturing(runtime, page_size=20) as capture:
        watched = Capture(
            runtime.ledger,
            capture.client,
            capture.table,
            capture.mapping,
            capture.session,
            page_size=20,
            progress=another_worker,
        )
        await watched.run()
    assert moves == 2
    feed = feed_of(runtime.ledger)
    assert feed.days is None
    assert runtime.ledger.reports.counts()["contact"].pending == 50


async def test_a_table_that_another_process_captures_is_waited_for(runtime: Runtime) -> None:
    assert runtime.ledger.leases.take("contact", session_of(runtime.ledger, "another worker"))
    async with capturing(runtime, wait_seconds=0.3) as capture:
        with pytest.raises(CaptureBusy, match="Another run has been capturing contact"):
            await capture.run()
    async with capturing(runtime, wait_seconds=60) as capture:
        waiting = asyncio.create_task(capture.run())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        runtime.ledger.leases.release("contact", session_of(runtime.ledger, "another worker"))
        assert (await waiting).new == 50


@pytest.mark.parametrize("first", [1, 6], ids=["of the ids", "of the rows"])
async def test_a_feed_that_leads_back_to_a_page_ends_with_an_error_and_keeps_its_position(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """`first`: the request for the first page of a read; before it come a page of rows, and five pages of ids."""
    async with capturing(runtime, page_size=10) as capture:
        asked: list[str] = []
        ask = capture.client.page

        async def circular(link: str, **how: Any) -> bytes:
            asked.append(link)
            body = await ask(link, **how)
            if len(asked) < first + 2:
                return body
            return re.sub(rb'"@odata.nextLink":"[^"]*"', b'"@odata.nextLink":"%s"' % asked[first].encode(), body)

        monkeypatch.setattr(capture.client, "page", circular)
        with pytest.raises(EndlessRead, match=r"Dynamics 365 leads from one page of contact back"):
            await capture.run()
        assert len(asked) <= first + 3  # one more is fetched while a page is read
        monkeypatch.undo()
        await capture.run()
    assert runtime.ledger.reports.counts()["contact"].records == 50


async def test_a_feed_that_always_answers_in_several_pages_ends_when_they_bring_nothing(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each such read keeps the link from before it, since rows may have changed while it went on."""
    async with capturing(runtime) as capture:
        await capture.run()
        ask, asked = capture.client.page, list[str]()

        async def in_two(link: str, **how: Any) -> bytes:
            asked.append(link)
            assert len(asked) < 100
            if link.endswith("&second"):
                return await ask(link.removesuffix("&second"), **how)
            return b'{"value":[],"@odata.nextLink":"%s&second"}' % link.encode()

        monkeypatch.setattr(capture.client, "page", in_two)
        assert (await capture.run()).rows == 0
        assert len(asked) <= 8
