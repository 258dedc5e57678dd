"""A condition on a record means the same in Python and in SQL, for each combination of the columns that it reads."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from sync_assets.ledger.model import BlockReason, Orphaned, State
from sync_assets.ledger.rules import opt_outs, predicates
from sync_assets.ledger.rules.predicates import Predicate
from sync_assets.ledger.storage import schema
from sync_assets.ledger.storage.column_types import Instant
from sync_assets.ledger.storage.database import Database

COLUMNS = {column.name: column for table in (schema.link, schema.record) for column in table.columns}
VALUES: dict[str, list[Any]] = {"state": [*State], "block_reason": [*BlockReason], "orphaned": [*Orphaned]}
PREDICATES = {
    name: predicate
    for module in (predicates, opt_outs)
    for name, predicate in vars(module).items()
    if isinstance(predicate, Predicate)
}


def values(name: str) -> list[Any]:
    column = COLUMNS[name]
    is_text = isinstance(column.type, sa.Text) and name not in ("payload", "update_payload")
    some: list[Any] = ["a", "b"] if is_text else [b"a", b"b"]
    if isinstance(column.type, (sa.Integer, Instant)):
        some = VALUES.get(name, [0, 1, 2])
    return [*([None] if column.nullable else []), *some]


@pytest.mark.postgresql
def test_a_predicate_means_the_same_in_python_and_in_sql(url: str) -> None:
    assert len(PREDICATES) > 30
    database = Database(url)
    with database.read() as connection:
        for name, predicate in PREDICATES.items():
            columns = sorted(predicate.columns)
            rows = [dict(zip(columns, row, strict=True)) for row in itertools.product(*map(values, columns))]
            copy = sa.Table(
                f"of_{name.lower()}",
                sa.MetaData(),
                sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
                *(sa.Column(column, COLUMNS[column].type) for column in columns),
                prefixes=["TEMPORARY"],
            )
            copy.create(connection)
            connection.execute(sa.insert(copy), [{"number": number, **row} for number, row in enumerate(rows)])
            for sql in (str(predicate), predicate.of(copy.name)):
                truth = sa.text(f"CASE WHEN {sql} THEN 1 WHEN NOT {sql} THEN 0 END")  # never NULL
                found = connection.execute(sa.select(truth).select_from(copy).order_by(copy.c.number)).scalars().all()
                assert found == [int(predicate(SimpleNamespace(**row))) for row in rows], name
    database.close()
