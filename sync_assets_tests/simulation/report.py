"""The input of the checker besides the history: the mapped tables, and what the ledger reports."""

from datetime import date, timedelta
from functools import cache

from sync_assets.ledger import Ledger
from sync_assets.sandbox.campaign.resources import resources
from sync_assets.sandbox.dataverse.tables import TABLES as DATAVERSE_TABLES
from sync_assets_tests.simulation.observed import Attribute, Column, LedgerReport, Table
from sync_assets_tests.simulation.timeline import OPT_OUTS, TABLES
from sync_assets_tests.support.chain_configuration import FIELDS, FILTERS, IDS, JOINS, KEY_OF_RESOURCE, MORE, RESOURCES


def ledger_report(ledger: Ledger, today: date) -> LedgerReport:
    """Return what the ledger reports."""
    states = ("pending", "waiting", "rejected", "held", "orphaned", "synced")
    by_day = ledger.counts.by_day("engine_calls", today - timedelta(days=60), today)
    return LedgerReport(
        counts={
            table: {state: getattr(counts, state) for state in states}
            for table, counts in ledger.reports.counts().items()
        },
        waiting={table: frozenset(one.id for one in ledger.blocked.waiting(table)) for table in TABLES},
        orphaned={table: frozenset(one.id for one in ledger.blocked.orphans(table)) for table in TABLES},
        rejected={table: frozenset(one.id for one in ledger.reports.rejects(table)) for table in TABLES},
        engine_calls={day.isoformat(): dict(calls) for day, calls in by_day.items()},  # type: ignore[arg-type]
    )


_COLUMNS = {
    "String": "text", "Integer": "integer", "Decimal": "decimal", "Money": "decimal", "Boolean": "boolean",
    "Picklist": "choice", "MultiSelectPicklist": "choices",
}  # fmt: skip


@cache
def mapped_tables(profile_key: str | None = None) -> tuple[Table, ...]:
    """Return the mapped tables, as both systems describe them. profile_key: the key attribute if it was changed."""
    result: list[Table] = []
    described = {table.name: {column.name: column for column in table.columns} for table in DATAVERSE_TABLES}
    for table, resource in RESOURCES.items():
        mapped = FIELDS[table] | MORE[table] | (OPT_OUTS if table == "contact" else {})
        fields = resources()[resource].fields
        columns = {name: described[table][name] for name in (*mapped, FILTERS[table]["field"])}
        attributes = {name: fields[name] for name in (*mapped.values(), *filter(None, (JOINS.get(table),)))}
        result.append(
            Table(
                table,
                resource,
                IDS[table],
                (table == "contact" and profile_key) or KEY_OF_RESOURCE[resource],
                {
                    name: Column(_COLUMNS[column.type], column.options or {})  # type: ignore[arg-type]
                    for name, column in columns.items()
                },
                {
                    name: Attribute(
                        {"string": "text"}.get(field.type, field.type),  # type: ignore[arg-type]
                        field.length if field.type == "string" else None,
                        field.policy == "smartCase",
                    )
                    for name, field in attributes.items()
                },
            )
        )
    return tuple(result)
