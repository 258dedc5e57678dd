"""The tables of `results`, a day each, as Polars reads them from the ledger in batches: memory does not grow with rows.

The columns are those of PostgreSQL's views (ledger/storage/result_rows.py), which a test compares with these.
"""

from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.results import ResultName
from sync_assets.ledger.rules.rejection_reasons import kind_of_reason

COLUMNS: dict[ResultName, dict[str, tuple[str, str]]] = {
    "deliveries": {
        "table": ("string", "the Dynamics 365 table"),
        "id": ("string", "the record's id; null once the record is purged, or excluded by `hold release`"),
        "operation": ("string", "`insert`, `update`, `delete`, `link` (links alone), `validate` (no request)"),
        "outcome": ("string", "`acknowledged` or `rejected`"),
        "reason": ("string", "the kind of reason, without ids and counts"),
        "status": ("int16", "the HTTP status; null for a load by file and for `validate`"),
        "attempts": ("int32", "tries since the record changed, this one included; 0 for `validate`"),
        "changed_at": ("datetime", "when the program captured the change"),
        "at": ("datetime", "when the outcome was stored"),
        "acknowledged_at": ("datetime", "as `at`, if acknowledged; else null"),
        "seconds": ("float64", "from `changed_at` to `acknowledged_at`"),
        "run": ("string", "the Dagster run"),
    },
    "decisions": {
        "contact": ("string", "the contact's id; null once its record is purged or excluded"),
        "column": ("string", "the column of Dynamics 365"),
        "attribute": ("string", "the attribute of Campaign"),
        "d365": ("boolean", "opted out in Dynamics 365 before the decision"),
        "campaign": ("boolean", "opted out in Campaign before the decision"),
        "value": ("boolean", "opted out, as decided"),
        "written_to": ("string", "the system that the decision changes: `d365`, `campaign`, or null"),
        "reason": ("string", "why this value was decided"),
        "source": ("string", "what caused the decision"),
        "d365_modified": ("datetime", "when the contact was modified in Dynamics 365"),
        "campaign_changed": ("datetime", "when the attribute changed in Campaign"),
        "decided_at": ("datetime", "when the value was decided"),
    },
    "daily": {
        "table": ("string", "the Dynamics 365 table"),
        "inserted": ("int64", "records inserted"),
        "updated": ("int64", "updates, those of links alone included"),
        "deleted": ("int64", "records deleted"),
        "rejected": ("int64", "rejected requests, and rows with a validation error"),
        "seconds_median": ("float64", "the median of `seconds` of deliveries"),
        "engine_calls": ("int64", "engine calls, reads included"),
    },
}
"""By table and column, its type and its description, for Dagster and docs/results.md."""
_SHOWN = {"boolean": pl.Boolean(), "datetime": pl.Datetime("us", "UTC")}
_STORED = {"boolean": pl.Int8(), "datetime": pl.Int64()}
_ALIKE = {"string": pl.String(), "int16": pl.Int16(), "int32": pl.Int32(), "float64": pl.Float64()}
"""Types of columns in the tables, in the ledger's rows (times are microseconds since 1970), and in both."""


def day_of(ledger: Ledger, name: ResultName, day: date) -> pl.LazyFrame:
    """Return the rows of a day (UTC). They are read from the ledger as the frame is collected."""
    if name == "daily":
        return _totals(ledger, day)
    kinds = {column: kind for column, (kind, _) in COLUMNS[name].items()}
    schema = {column: (_ALIKE | _STORED)[kind] for column, kind in kinds.items()}

    def batches(columns: list[str] | None, where: pl.Expr | None, limit: int | None, _: Any) -> Iterator[pl.DataFrame]:
        # Polars calls this in a thread of its engine, where an operation on a frame would wait for another engine.
        for rows in ledger.results.rows(name, day):
            values = dict(zip(schema, zip(*rows[:limit], strict=True), strict=True))
            for column in ("reason", "source"):
                if column in values:
                    values[column] = tuple(map(_without_ids, values[column]))
            wanted = columns or list(schema) if where is None else list(schema)
            batch = pl.DataFrame({column: values[column] for column in wanted}, {one: schema[one] for one in wanted})
            yield batch if where is None else batch.filter(where).select(columns or wanted)
            if limit is not None and (limit := limit - batch.height) <= 0:
                return

    shown = {column: _SHOWN[kind] for column, kind in kinds.items() if kind in _SHOWN}
    return register_io_source(batches, schema=schema, explain_name=name).cast(shown)  # pyright: ignore


@lru_cache(maxsize=10_000)
def _without_ids(text: str | None) -> str | None:
    return None if text is None else kind_of_reason(text)


def _totals(ledger: Ledger, day: date) -> pl.LazyFrame:
    """Return a row for each table with deliveries or engine calls."""
    done, operation = pl.col("outcome") == "acknowledged", pl.col("operation")
    calls = {table: sum(of.values()) for table, of in ledger.counts.by_table("engine_calls", day).items()}
    engine_calls = pl.LazyFrame({"table": list(calls), "engine_calls": list(calls.values())})
    engine_calls = engine_calls.cast({"table": pl.String, "engine_calls": pl.Int64})
    totals = (
        day_of(ledger, "deliveries", day)
        .group_by("table")
        .agg(
            inserted=(done & (operation == "insert")).sum(),
            updated=(done & operation.is_in(["update", "link"])).sum(),
            deleted=(done & (operation == "delete")).sum(),
            rejected=(~done).sum(),
            seconds_median=pl.col("seconds").median(),
        )
    )
    whole = totals.join(engine_calls, on="table", how="full", coalesce=True)
    numbers = ("inserted", "updated", "deleted", "rejected", "engine_calls")
    order = ("table", *numbers[:-1], "seconds_median", "engine_calls")
    return whole.with_columns(pl.col(numbers).fill_null(0).cast(pl.Int64)).select(order).sort("table")
