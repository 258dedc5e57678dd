"""Write an SQL text in the words of each database.

A statement is a whole text with named parameters, such as `:table`. Many values are one parameter, a JSON array: for
each value that the driver binds it waits for the interpreter lock, which another thread may hold. Each database has its
own words for these:

    column IN :seqs, column IN :ids   one of many numbers, or texts
    id IN :records                    one of many ids of sync_record, found by its index of ids
    json_rows(:pairs)                 the elements of an array, as column `value`
    ?                                 each value, in a statement that runs once for each of many rows
    FOR UPDATE                        nothing on SQLite, which has one writer at a time anyway
"""

import re
from functools import cache

from sync_assets.ledger.storage.schema import short_id

_LIST = re.compile(r"([\w.]+) IN :(seqs|ids|records)\b")
_ROWS = re.compile(r"json_rows\((:\w+)\)")
_NAME = re.compile(r":(\w+)")


@cache
def for_sqlite(statement: str) -> str:
    """Return the statement for SQLite."""

    def listed(found: re.Match[str]) -> str:
        column, name = found.groups()
        within = f"{column} IN (SELECT value FROM json_each(:{name}))"  # noqa: S608
        if name != "records":
            return within
        return f"{short_id(column)} IN (SELECT {short_id('value')} FROM json_each(:{name})) AND {within}"  # noqa: S608

    return _ROWS.sub(r"json_each(\1)", _LIST.sub(listed, statement)).replace("FOR UPDATE", "")


@cache
def for_postgresql(statement: str) -> str:
    """Return the statement for PostgreSQL."""

    def listed(found: re.Match[str]) -> str:
        column, name = found.groups()
        kind = "bigint" if name == "seqs" else "text"
        # An array as such: PostgreSQL would not use the index for a subquery while its statistics are old.
        values = f"SELECT CAST(value AS {kind}) FROM json_array_elements_text(CAST(:{name} AS json))"  # noqa: S608
        return f"{column} = ANY(ARRAY({values}))"

    rows = _ROWS.sub(r"json_array_elements(CAST(\1 AS json))", _LIST.sub(listed, statement))
    return _NAME.sub(r"%(\1)s", rows).replace("?", "%s")
