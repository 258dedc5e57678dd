"""Count the children that would be deleted with collected deletions, before anything is deleted. Reads only.

Campaign hides a record whose link of cardinality one has no target, so such a child is deleted with its parent,
whatever its own table configures for deletions (rules/dependencies.py). A child whose link may be empty (zero_or_one)
stays and is unlinked; it is only deleted if it cannot be sent to be unlinked.

Invariant: the statements compute for all records at once what rules/dependencies.status_of_parents computes for one; a
property test compares the two.
"""

from collections.abc import Iterator

from sqlalchemy.engine import Connection

from sync_assets.ledger.storage import schema

_MADE = """
    CREATE TEMPORARY TABLE sync_cascade AS
    SELECT seq, table_name, id, 0 AS level FROM sync_record WHERE seq IS NULL
"""
_BEGUN = """
    INSERT INTO sync_cascade (seq, table_name, id, level)
    SELECT r.seq, r.table_name, r.id, 0 FROM sync_gone g JOIN sync_record r ON r.seq = g.seq
    WHERE g.table_name = ? AND g.withdraw = 0 AND (r.acked_hash IS NOT NULL OR r.uncertain > 0)
"""
_CHOSEN = "EXISTS (SELECT 1 FROM sync_cascade x WHERE x.table_name = l.parent_table AND x.id = {id})"


def _stays(id_: str, there: str) -> str:
    """Return SQL: the parent of this id is not to be deleted, and meets the condition `there`."""
    return f"""(NOT {_CHOSEN.format(id=id_)} AND EXISTS (
        SELECT 1 FROM sync_record q
        WHERE {schema.short_id("q.id")} = {schema.short_id(id_)} AND q.table_name = l.parent_table AND q.id = {id_}
            AND q.desired_hash IS NOT NULL AND q.gate NOT IN (2, 4) AND {there}))"""  # noqa: S608 - constants


# Run for parent_id, the parent that Dynamics 365's lookup names, and for other_id, which Campaign may still hold.
_CASCADED = """
    INSERT INTO sync_cascade (seq, table_name, id, level)
    SELECT DISTINCT c.seq, c.table_name, c.id, {level} + 1
    FROM sync_cascade p
    JOIN sync_link l ON l.parent_table = p.table_name AND l.{column} = p.id
    JOIN sync_record c ON c.seq = l.seq
    WHERE p.level = {level} AND (c.acked_hash IS NOT NULL OR c.uncertain > 0)
        AND c.desired_hash IS NOT NULL AND c.gate NOT IN (2, 4) AND c.state <> 4
        AND NOT EXISTS (SELECT 1 FROM sync_cascade x WHERE x.seq = c.seq)
        AND (l.required = 1 AND l.held <> 3 AND NOT {named} AND NOT (l.held = 2 AND {former})
            OR (l.required = 1 OR l.keyed = 1 AND c.state <> 6)
                AND c.refusal IS NOT NULL AND (c.uncertain > 0 OR l.keyed = 0) AND {may_be_linked})
"""
_NAMED = _stays("l.parent_id", "(q.acked_hash IS NOT NULL OR q.state <> 3)")
_FORMER = _stays("l.other_id", "q.acked_hash IS NOT NULL")
_COLUMNS = {"parent_id": "(l.held = 1 OR c.uncertain > 0)", "other_id": "l.held > 1 AND l.other_id IS NOT NULL"}
_LEVELS = 100  # never reached, since no table is its own ancestor
_COUNTED = "SELECT table_name, count(*) FROM sync_cascade WHERE level > 0 GROUP BY table_name ORDER BY table_name"


def count_by_table(connection: Connection, table: str, *, sqlite: bool) -> dict[str, int]:
    """Count, by table, the records that would be deleted in Campaign with the collected deletions of `table`."""
    connection.exec_driver_sql("DROP TABLE IF EXISTS sync_cascade")
    connection.exec_driver_sql(_MADE)
    connection.exec_driver_sql(_BEGUN if sqlite else _BEGUN.replace("?", "%s"), (table,))
    connection.exec_driver_sql("CREATE UNIQUE INDEX sync_cascade_seq ON sync_cascade (seq)")
    connection.exec_driver_sql("CREATE INDEX sync_cascade_id ON sync_cascade (table_name, id)")
    for level in range(_LEVELS):
        if not sqlite:
            connection.exec_driver_sql("ANALYZE sync_cascade")  # autovacuum does not analyse temporary tables
        found = sum(connection.exec_driver_sql(statement).rowcount for statement in _steps(level))
        if not found:
            break
    counted = {row[0]: row[1] for row in connection.exec_driver_sql(_COUNTED)}
    connection.exec_driver_sql("DROP TABLE sync_cascade")
    return counted


def _steps(level: int) -> Iterator[str]:
    """Yield the statements that add the children of the records of a level."""
    for column, may_be_linked in _COLUMNS.items():
        yield _CASCADED.format(level=level, column=column, may_be_linked=may_be_linked, named=_NAMED, former=_FORMER)
