"""Rows that SQLite inserts in one statement arrive as they are, for any values, however many there are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.ledger.storage.json_rows import ROWS, inserts

SCHEMA = {"t": pl.String, "u": pl.String, "b": pl.Binary, "small": pl.Int32, "big": pl.Int64}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = {
    "t": TEXTS,
    "u": TEXTS,
    "b": st.binary(max_size=20),
    "small": st.integers(-(2**31), 2**31 - 1),
    "big": st.integers(-(2**63), 2**63 - 1),
}
RECORDS = st.one_of(
    st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=8),
    st.fixed_dictionaries(VALUES).flatmap(lambda row: st.integers(1, 4).map(lambda times: [row] * times)),
)


def arrived(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE kept (t TEXT, u TEXT, b BLOB, small INTEGER, big INTEGER)")
        for statement, parameters in inserts("kept", frame):
            connection.execute(statement, parameters)
        return connection.execute("SELECT * FROM kept ORDER BY rowid").fetchall()


@given(RECORDS)
def test_any_rows_arrive_as_they_are(rows: list[dict[str, Any]]) -> None:
    assert arrived(pl.DataFrame(rows, schema=SCHEMA)) == [tuple(row[name] for name in SCHEMA) for row in rows]


@pytest.mark.parametrize("height", [1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS])
def test_so_do_more_than_one_statement_takes(height: int) -> None:
    rows = [
        (f"\N{GRINNING FACE}{n}" * (n % 3), None if n % 7 else "u", bytes([n % 256]), -n, n << 40)
        for n in range(height)
    ]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    assert arrived(frame) == rows
    assert len(inserts("kept", frame)) == -(-height // ROWS)
