"""`queries`: the ledger's frequent queries take a few milliseconds, however many records are synced.

A ledger is filled by SQL with synced records, as after years of use, and some pending ones; each query is then made
many times, through the ledger's own methods. integration/ledger/test_query_plans.py tests that an index answers each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Connection

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Outcome, State
from sync_assets_tests.bench.ledgers import Ledgers, postgres_ledgers, sqlite_ledgers
from sync_assets_tests.bench.measure import Result, Run
from sync_assets_tests.bench.stage import Report, Settings, Target

TABLE = "contact"
PENDING = 20_000
BATCH = 500
TIMES = 20
ASKED = ("status", "backlog", "claim of one", "acknowledge one", f"claim of {BATCH}", f"acknowledge {BATCH}")
MILLISECONDS = {"status": 10.0, "backlog": 10.0, "claim of one": 10.0, "acknowledge one": 10.0}
"""What is asked every few seconds. Batches are for reading: they do the work of `BATCH` records."""

_COLUMNS = "table_name, id, desired_hash, acked_hash, state, payload, changed_at, acked_at"
_SQLITE = f"""
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)
    INSERT INTO sync_record ({_COLUMNS})
    SELECT '{TABLE}', lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-'
        || hex(randomblob(2)) || '-' || hex(randomblob(6))), randomblob(16),
        CASE ? WHEN 0 THEN randomblob(16) END, ?, CASE ? WHEN 1 THEN '{{"email":"x"}}' END, i, i FROM n
"""
_POSTGRES = f"""
    INSERT INTO sync_record ({_COLUMNS})
    SELECT '{TABLE}', gen_random_uuid()::text, decode(md5(i::text), 'hex'),
        CASE WHEN ? = 0 THEN decode(md5(i::text), 'hex') END, ?,
        CASE WHEN ? = 1 THEN convert_to('{{"email":"x"}}', 'UTF8') END, i, i
    FROM generate_series(0, ? - 1) i
"""


def queries(settings: Settings) -> Report:
    """Measure at so many records and at a hundredth of them, in each database."""
    report = Report("queries", "queries")
    with sqlite_ledgers() as sqlite, postgres_ledgers() as postgres:
        for ledgers in (sqlite, postgres):
            few, many = (_asked(ledgers, rows) for rows in (max(1, settings.rows // 100), settings.rows))
            report.results += few + many
            for result, name in zip(many, ASKED, strict=True):
                if name in MILLISECONDS:
                    took = 1000 / result.rate
                    report.targets.append(Target(result.name, took, MILLISECONDS[name], "ms", most=True))
    return report


def _asked(ledgers: Ledgers, rows: int) -> list[Result]:
    url = ledgers.fresh()
    try:
        with Ledger.open(url) as ledger:
            fill(ledger, rows, PENDING)
            return [_measured(f"{what}, {ledgers.name}, {rows:,} records", ask) for what, ask in _questions(ledger)]
    finally:
        ledgers.drop(url)


def fill(ledger: Ledger, settled: int, pending: int) -> None:
    """So many records, with the totals that the ledger keeps of them; statistics as autovacuum would have them."""

    def work(connection: Connection) -> None:
        execute = connection.exec_driver_sql
        for state, number in ((State.SYNCED.value, settled), (State.PENDING.value, pending)):
            if ledger.database.sqlite:
                execute(_SQLITE, (number, state, state, state))
            else:
                execute(_POSTGRES.replace("?", "%s"), (state, state, state, number))
        mark = "?" if ledger.database.sqlite else "%s"
        for state, number in ((State.SYNCED.value, settled), (State.PENDING.value, pending)):
            execute(f"INSERT INTO sync_tally VALUES ({mark}, {mark}, {mark})", (TABLE, state, number))

    ledger.database.write(work)
    if not ledger.database.sqlite:
        ledger.database.write(lambda connection: connection.exec_driver_sql("ANALYZE"))


def _questions(ledger: Ledger) -> Iterator[tuple[str, Callable[[], float]]]:
    """Each returns the seconds that it took."""

    def claim(number: int) -> float:
        session = ledger.sessions.open("bench")
        with timed() as took:
            ledger.claims.claim(TABLE, session, limit=number)
        ledger.sessions.end(session)
        return took[0]

    def settle(number: int) -> float:
        session = ledger.sessions.open("bench")
        records = ledger.claims.claim(TABLE, session, limit=number)
        with timed() as took:
            ledger.claims.acknowledge(session, [Outcome(one.seq, "done", one.hash) for one in records])
        return took[0]

    def ask(question: Callable[[], object]) -> float:
        with timed() as took:
            question()
        return took[0]

    asked: list[Callable[[], float]] = [
        lambda: ask(ledger.reports.counts),
        lambda: ask(
            lambda: (ledger.reports.backlog(TABLE), ledger.reports.oldest_pending(TABLE), ledger.reports.next_due())
        ),
        lambda: claim(1),
        lambda: settle(1),
        lambda: claim(BATCH),
        lambda: settle(BATCH),
    ]
    yield from zip(ASKED, asked, strict=True)


@contextmanager
def timed() -> Iterator[list[float]]:
    """A list that holds the seconds of the block when it is over."""
    took: list[float] = []
    began = time.perf_counter()
    yield took
    took.append(time.perf_counter() - began)


def _measured(name: str, ask: Callable[[], float]) -> Result:
    ask()  # the first one compiles statements
    result = Result(name, [Run(1, ask()) for _ in range(TIMES)])
    result.details = {"milliseconds": round(1000 / result.rate, 2)}
    return result
