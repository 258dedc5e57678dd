"""The ledger's tables of loads by file: see records/loads.py."""

from typing import Any

import sqlalchemy as sa

from sync_assets.ledger.model import Load, LoadState
from sync_assets.ledger.rules.constraints import flags, not_negative
from sync_assets.ledger.rules.predicates import above, absent, within
from sync_assets.ledger.storage.column_types import NAME, SEQUENCE, Instant
from sync_assets.ledger.storage.schema import check, metadata

# One table has one unfinished load at most. The columns are explained with model.Load.
load = sa.Table(
    "sync_load",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("session", sa.BigInteger, nullable=False),
    sa.Column("workflow", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("records", sa.BigInteger, nullable=False),
    sa.Column("more", sa.SmallInteger, nullable=False),
    sa.Column("began_at", Instant, nullable=False),
    sa.Column("commanded_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("ended_as", sa.Text),
    sa.Column("missing", sa.BigInteger),
    sa.Column("problem", sa.Text),
    sa.Column("left_out", sa.BigInteger, nullable=False),
    sa.Column("rewrites", sa.Integer, nullable=False),
    sa.Column("directory", sa.Text, nullable=False),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
)
check(
    load,
    numbers=within("state", LoadState.WRITING, LoadState.DONE)
    & flags("more")
    & not_negative("records", "left_out", "rewrites", "version"),
    started=~within("state", LoadState.STARTED, LoadState.RUNNING) | (absent("ended_as") & absent("ended_at")),
    missing=absent("missing") | above("missing", -1),
)

# The complete files of each table's last load.
load_file = sa.Table(
    "sync_load_file",
    metadata,
    sa.Column("table_name", NAME, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", NAME, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("last_seq", SEQUENCE, nullable=False),
)
check(load_file, numbers=not_negative("number", "rows", "size"))


def row_of(one: Load) -> dict[str, Any]:
    """Return the columns of a load."""
    row = one._asdict() | {"more": int(one.more), "table_name": one.table}
    del row["table"]
    return row


def load_of(row: Any) -> Load:
    """Return the load of a stored row."""
    state, more = LoadState(row.state), bool(row.more)
    return Load(row.table_name, *(getattr(row, name) for name in Load._fields[1:]))._replace(state=state, more=more)


def update_load(one: Load, **columns: Any) -> sa.Update:
    """Return the statement that stores these columns of a load; without any, all of it."""
    this = sa.update(load).where(load.c.table_name == one.table, load.c.name == one.name)
    return this.values(columns or row_of(one))
