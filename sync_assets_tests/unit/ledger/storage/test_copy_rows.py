"""Rows copied in binary arrive as they are, for any values, also where a column says the same in every row."""

from __future__ import annotations

from typing import Any

import polars as pl
import psycopg
from hypothesis import given
from hypothesis import strategies as st

from sync_assets.ledger.storage.copy_rows import INTEGERS, binary_rows
from sync_assets_tests.support.postgres import PostgresServer

TYPES = {"t": "text", "b": "bytea", **dict.fromkeys(INTEGERS, "")}
BITS = {"smallint": 16, "integer": 32, "bigint": 64}
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def whole(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


VALUES = {"t": TEXTS, "b": st.binary(max_size=20), **{name: whole(bits) for name, bits in BITS.items()}}
ROWS = st.one_of(
    st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=8),
    st.fixed_dictionaries(VALUES).flatmap(lambda row: st.integers(1, 4).map(lambda times: [row] * times)),
)
SCHEMA = {"t": pl.String, "b": pl.Binary, "smallint": pl.Int32, "integer": pl.Int32, "bigint": pl.Int64}


@given(rows=ROWS)
def test_any_rows_arrive_as_they_are(postgres: PostgresServer, rows: list[dict[str, Any]]) -> None:
    content = binary_rows(pl.DataFrame(rows, schema=SCHEMA), {name: name for name in INTEGERS})
    columns = ", ".join(f'"{name}" {TYPES[name] or name}' for name in SCHEMA)
    with psycopg.connect(postgres.url("postgres").replace("+psycopg", "")) as connection:
        connection.execute(f"CREATE TEMPORARY TABLE copied (n serial, {columns})".encode())
        names = ", ".join(f'"{name}"' for name in SCHEMA)
        with connection.cursor().copy(f"COPY copied ({names}) FROM STDIN (FORMAT BINARY)".encode()) as copy:
            copy.write(content)
        found = connection.execute(f"SELECT {names} FROM copied ORDER BY n".encode()).fetchall()
        connection.rollback()
    assert found == [tuple(row[name] for name in SCHEMA) for row in rows]
