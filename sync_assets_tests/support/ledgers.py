"""Helpers for tests of the ledger: a clock set by the test, rows, captures, claims, acknowledgements."""

import dataclasses
import hashlib
import itertools
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.feed import Feed, PageResult, Position, Replay
from sync_assets.ledger.model import Claimed, Outcome
from sync_assets.ledger.prepared_page import CapturedPage, LedgerPage
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.column_types import Instant
from sync_assets.ledger.storage.payload_cipher import PayloadCipher

DAY = date(2026, 11, 24)
SCHEMA = {
    "id": pl.String,
    "payload": pl.String,
    "update_payload": pl.String,
    "hash": pl.Binary,
    "validation_error": pl.String,
    "row_version": pl.Int64,
}


class Clock:
    """A clock that moves only by `advance`."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@cache
def _empty_ledger() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        Ledger.open(f"sqlite:///{path}").close()
        return path.read_bytes()


def new_sqlite_ledger(path: Path) -> str:
    """Make an empty ledger at a path, by a copy: the migrations would take longer. Return its URL."""
    path.write_bytes(_empty_ledger())
    return f"sqlite:///{path}"


@dataclass
class Ledgers:
    """Source of URLs of empty ledgers on one kind of database."""

    kind: str
    make: Callable[[int], str]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def fresh(self) -> str:
        return self.make(next(self.numbers))


def guid(name: str) -> str:
    """Return a lower-case GUID, always the same for a name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def hash_of(value: str) -> bytes:
    return hashlib.blake2b(value.encode(), digest_size=16).digest()


def row(
    name: str,
    value: str = "a",
    *,
    insert_only: str = "",
    validation_error: str | None = None,
    row_version: int | None = None,
) -> dict[str, Any]:
    """Return a captured row.

    Args:
        name: Determines the id.
        value: Determines payload and hash.
        insert_only: Value of a field that is not sent on update, and so not part of the hash.
        validation_error: Of the row; None if it is valid.
        row_version: Of the row in Dataverse; None if unknown.
    """
    update = f'{{"value":"{value}"}}'
    insert = f'{{"value":"{value}","once":"{insert_only}"}}' if insert_only else update
    return {
        "id": guid(name),
        "payload": insert,
        "update_payload": update if insert_only else None,
        "hash": hash_of(value),
        "validation_error": validation_error,
        "row_version": row_version,
    }


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA)


def linked(rows: Sequence[dict[str, Any]], **parents: Sequence[str | None]) -> pl.DataFrame:
    """Return rows with links. parents: by attribute, the name of each row's parent. The hash includes the parents."""
    columns = [pl.Series(at, [name and guid(name) for name in names], pl.String) for at, names in parents.items()]
    names = list(zip(*parents.values(), strict=True)) or [()] * len(rows)
    hashes = [hash_of(f"{row['hash'].hex()} {to}") for row, to in zip(rows, names, strict=True)]
    return frame(rows).with_columns(*columns, pl.Series("hash", hashes, pl.Binary))


def many(count: int, value: str = "a", *, prefix: str = "row") -> pl.DataFrame:
    return frame([row(f"{prefix}{n}", value) for n in range(count)])


def save_page(
    ledger: Ledger,
    table: str,
    rows: pl.DataFrame | LedgerPage,
    deleted: Sequence[str],
    cursor: Position | Replay | None,
    version: int | None,
    *,
    resend: bool = False,
    **rest: Any,
) -> PageResult:
    """Store a page.

    resend: True if it is one of a forced replay. rest: further attributes of CapturedPage, and options of
    `Ledger.captures.save_page`.
    """
    of_page = {field.name for field in dataclasses.fields(CapturedPage)}
    prepared = rows if isinstance(rows, LedgerPage) else LedgerPage(rows, rest.pop("links", ()))
    page = CapturedPage(prepared, deleted, **{name: rest.pop(name) for name in of_page & rest.keys()})
    session = rest.pop("session", None) or session_of(ledger)
    cursor = Replay(date.min, date.max, resend=True) if resend else cursor
    return ledger.captures.save_page(table, page, cursor, version, session=session, **rest)


def capture(
    ledger: Ledger,
    *rows: dict[str, Any],
    deleted: Sequence[str] = (),
    table: str = "contact",
    complete: bool = False,
    page: pl.DataFrame | LedgerPage | None = None,
    carry_out: bool = True,
    **rest: Any,
) -> PageResult:
    """Store a page with the feed's present version, and carry out its deletions, unless `carry_out` is False.

    Args:
        ledger: The ledger.
        rows: Rows of the page.
        deleted: Names (see `row`) of deleted rows.
        table: Logical name.
        complete: True if the page is the last one of the feed.
        page: Used instead of `rows`.
        rest: Further options of `save_page`.
    """
    feed = ledger.feeds.feed(table)
    cursor = rest.pop("days", None) or Position("https://d365/next", "columns", end=complete)
    deleted_ids = [guid(name) for name in deleted]
    rows_ = frame(rows) if page is None else page
    result = save_page(ledger, table, rows_, deleted_ids, cursor, feed and feed.version, **rest)
    if carry_out:
        ledger.deletions.carry_out_deletes(table)
    return result


def feed_of(ledger: Ledger, table: str = "contact") -> Feed:
    feed = ledger.feeds.feed(table)
    assert feed is not None
    return feed


def read_anew(ledger: Ledger, table: str = "contact", **options: Any) -> Feed:
    """Let the next capture read the table in full. options: of `reset_feed`."""
    return ledger.feeds.reset_feed(table, feed_of(ledger, table).version, **options)


def live_sessions(ledger: Ledger) -> list[Any]:
    """Return the live sessions: epoch, worker, until."""
    columns = schema.session.c
    until = sa.type_coerce(columns.until, Instant).label("until")
    with ledger.database.read() as connection:
        live = sa.select(columns.epoch, columns.worker, until).where(columns.live == 1).order_by(columns.epoch)
        return list(connection.execute(live))


def session_of(ledger: Ledger, worker: str = "worker") -> int:
    """Return the epoch of a worker's live session, opened if there is none."""
    result = [session.epoch for session in live_sessions(ledger) if session.worker == worker]
    return result[0] if result else ledger.sessions.open(worker)


def workers(ledger: Ledger) -> list[str]:
    """Return the workers that have a live session and claimed records."""
    names = {session.epoch: session.worker for session in live_sessions(ledger)}
    return sorted({names[record.session] for record in stored(ledger).values() if record.session in names})


def be_overdue(ledger: Ledger, worker: str = "worker") -> None:
    """Let a worker's session be overdue."""
    overdue = "UPDATE sync_session SET until = 0 WHERE epoch = :epoch"
    epoch = session_of(ledger, worker)
    ledger.database.write(lambda connection: connection.execute(sa.text(overdue), {"epoch": epoch}) and None)


def run_out(ledger: Ledger, worker: str = "worker") -> None:
    """Let a worker's session be overdue, and expire."""
    be_overdue(ledger, worker)
    assert ledger.sessions.expire() == 1


def claim(ledger: Ledger, owner: str = "worker", *, limit: int = 1000, table: str = "contact") -> list[Claimed]:
    return ledger.claims.claim(table, session_of(ledger, owner), limit=limit)


def claim_one(ledger: Ledger, owner: str = "worker", **rest: Any) -> Claimed:
    claimed = claim(ledger, owner, **rest)
    assert len(claimed) == 1, claimed
    return claimed[0]


def settle(
    ledger: Ledger,
    result: Any,
    *claimed: Claimed,
    owner: str = "worker",
    reason: str | None = None,
    retry_after: float | None = None,
    **more: Any,
) -> int:
    """Acknowledge all claimed records with the same outcome; an unknown one is that of a write without an answer.

    more: attributes of the outcomes, other than those of the claims.
    """
    more = {"unanswered": result == "unknown"} | more
    return ledger.claims.acknowledge(
        session_of(ledger, owner),
        [
            Outcome(one.seq, result, one.hash, reason, retry_after, one.links, changed_at=one.changed_at)._replace(
                **more
            )
            for one in claimed
        ],
    )


def push(ledger: Ledger, owner: str = "worker", *, table: str = "contact") -> list[Claimed]:
    """Claim all records that are due, and acknowledge them as successful."""
    sent: list[Claimed] = []
    while claimed := claim(ledger, owner, table=table):
        settle(ledger, "done", *claimed, owner=owner)
        sent += claimed
    return sent


def stored(ledger: Ledger) -> dict[str, Any]:
    """Return the records as stored in the database, by id."""
    with ledger.database.read() as connection:
        return {record.id: record for record in connection.execute(sa.text("SELECT * FROM sync_record"))}


def record(ledger: Ledger, name: str) -> Any:
    return stored(ledger)[guid(name)]


def payload_of(record: Any) -> str:
    """Return the payload of a stored record that is not encrypted: a database may hold it as bytes."""
    payload = PayloadCipher().decrypt(record.payload, record.id)
    assert payload is not None
    return payload


def explain(ledger: Ledger, statement: str, values: Any) -> list[str]:
    """Return the lines of the plan with which the database executes a statement."""
    prefix = "EXPLAIN QUERY PLAN" if ledger.database.sqlite else "EXPLAIN"
    with ledger.database.read() as connection:
        rows = connection.exec_driver_sql(f"{prefix} {statement}", values).all()
    return [str(line[-1]) for line in rows]


def leases(ledger: Ledger) -> list[tuple[str, str]]:
    """Return the leases on captures and other work as (name, worker), without those whose session is not live."""
    names = {session.epoch: session.worker for session in live_sessions(ledger)}
    with ledger.database.read() as connection:
        rows = connection.execute(sa.text("SELECT name, session FROM sync_lease ORDER BY name")).all()
    return [(name, names[session]) for name, session in rows if session in names]
