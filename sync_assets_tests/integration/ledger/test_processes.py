"""Several processes on one ledger, and processes that die at any moment."""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Outcome
from sync_assets.ledger.report_values import Counts
from sync_assets_tests.integration.ledger.worker import KILLED_PAGE, PAGE, PAGES
from sync_assets_tests.support.forked_commands import Module, start_module
from sync_assets_tests.support.ledgers import capture, claim, feed_of, frame, many, row, session_of


def start(job: str, url: str, name: str) -> Module:
    return start_module("sync_assets_tests.integration.ledger.worker", [job, url, name], os.environ)


def ready(process: Module) -> None:
    assert process.stdout.readline() == b"ready\n"


def result(process: Module) -> list[list[object]]:
    output = process.stdout.read()
    assert process.wait(60) == 0
    return json.loads(output)


def kill_soon(process: Module, seed: int) -> None:
    ready(process)
    time.sleep(random.Random(seed).uniform(0.02, 0.25))
    process.kill()
    process.wait(10)


@pytest.fixture
def real_ledger(url: str) -> Iterator[Ledger]:
    """With the machine's clock, as the processes have it. Whatever was killed, it agrees with its rules."""
    with Ledger.open(url) as ledger:
        yield ledger
        assert ledger.check() == []


def test_two_workers_share_the_work_while_rows_change(real_ledger: Ledger, url: str) -> None:
    """Each state of each record is sent once, by one of them, and in the end all is settled."""
    capture(real_ledger, page=many(1500))
    workers = [start("push_all", url, name) for name in ("ada", "bob")]
    for worker in workers:
        ready(worker)
    for value in "bcdef":
        page = many(1500, value)[:: random.Random(value).randint(3, 9)]
        capture(real_ledger, page=page, complete=value == "f")
        time.sleep(0.02)
    sent = [result(worker) for worker in workers]
    assert all(sent), "one of them did nothing"
    twice = [one for one, times in Counter(map(tuple, sent[0] + sent[1])).items() if times > 1]
    assert twice == []
    assert real_ledger.reports.counts()["contact"] == Counts(synced=1500)
    calls = real_ledger.counts.numbers("engine_calls", datetime.now(UTC).date())
    assert calls == {"insert": len(sent[0]) + len(sent[1])}


def test_two_captures_of_a_table_save_each_page_once(real_ledger: Ledger, url: str) -> None:
    captures = [start("capture_all", url, name) for name in ("ada", "bob")]
    saved = [page for one in captures for page in result_after_ready(one)]
    assert sorted(map(str, saved)) == sorted(map(str, range(PAGES)))
    assert feed_of(real_ledger).version == PAGES
    assert real_ledger.reports.counts()["contact"].pending == PAGES * PAGE


def result_after_ready(process: Module) -> list[object]:
    ready(process)
    return list(result(process))


def test_a_capture_killed_at_any_moment_has_saved_whole_pages(real_ledger: Ledger, url: str) -> None:
    for seed in range(3):
        kill_soon(start("capture_for_ever", url, "doomed"), seed)
        settle_down(real_ledger)
        feed = real_ledger.feeds.feed("contact")
        pages = feed.version if feed else 0
        assert real_ledger.reports.counts().get("contact", Counts()) == Counts(pending=pages * KILLED_PAGE)


def test_a_worker_killed_at_any_moment_has_settled_whole_batches(real_ledger: Ledger, url: str) -> None:
    capture(real_ledger, page=many(20_000))
    for seed in range(3):
        kill_soon(start("settle_for_ever", url, f"doomed{seed}"), seed)
        settle_down(real_ledger)
        counts = real_ledger.reports.counts()["contact"]
        assert counts.records == 20_000
        assert real_ledger.counts.numbers("engine_calls", datetime.now(UTC).date()).get("insert", 0) == counts.synced
        assert real_ledger.reports.counts()["contact"].leased in (0, 200)
        real_ledger.sessions.expire(lambda worker: True)


def settle_down(ledger: Ledger) -> None:
    """PostgreSQL may still be at the last statement of a process that is gone; a lock on its tables waits for it."""

    def wait(connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE sync_feed, sync_record, sync_tally IN EXCLUSIVE MODE")

    ledger.database.write(wait)


def test_captures_and_answers_in_opposite_orders_do_not_block_each_other(ledger: Ledger) -> None:
    """On PostgreSQL two transactions that lock the same records in different orders would kill one another."""
    rows = [row(f"row{n}") for n in range(400)]
    capture(ledger, page=frame(rows))
    stop = time.monotonic() + 2
    wrong: list[BaseException] = []

    def capture_changes() -> None:
        try:
            for n in range(1000):
                shuffled = random.Random(n).sample(range(400), 400)
                capture(ledger, page=frame([row(f"row{i}", str(n)) for i in shuffled]))
                if time.monotonic() > stop:
                    return
        except BaseException as error:  # noqa: BLE001 - shown by the test
            wrong.append(error)

    thread = threading.Thread(target=capture_changes)
    thread.start()
    while thread.is_alive():
        claimed = claim(ledger, limit=400)
        random.Random(len(claimed)).shuffle(claimed)
        ledger.claims.acknowledge(session_of(ledger, "worker"), [Outcome(one.seq, "done", one.hash) for one in claimed])
    thread.join()
    assert wrong == []
    assert ledger.reports.counts()["contact"].records == 400
