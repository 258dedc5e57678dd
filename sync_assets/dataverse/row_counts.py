"""Count rows in Dynamics 365 by a query, also beyond the highest number that one query counts.

Dataverse counts at most 5,000 rows in a query (500 of an elastic table) and says in an annotation that there are more
(https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/count-rows).
A larger count is the sum over intervals of a column of times, each halved until it can be counted. The number of
queries is limited; what is left then makes the result a lower bound.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from sync_assets.dataverse.client import DataverseClient, understood
from sync_assets.dataverse.metadata import Table
from sync_assets.task_group import run_together

MOST_COUNTED = 5_000
"""Rows of a standard table that one query counts at most."""
MOST_QUERIES = 200
"""Queries for one count by intervals: enough for some 300,000 rows."""
FIRST_ROWS = datetime(2000, 1, 1, tzinfo=UTC)
"""Where the halving of an interval without a beginning starts. Earlier rows are counted, too."""
_EXCEEDED = "@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"
_SHORTEST = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class RowCount:
    """A number of rows. `at_least`: True if it is a lower bound."""

    number: int
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    """A half-open interval of times, in whole seconds UTC; None: open."""

    begin: datetime | None = None
    end: datetime | None = None

    def condition(self, column: str) -> str:
        """Return the condition of `$filter` that the column's value is in the interval; empty if it always is."""
        edges = ((self.begin, "ge"), (self.end, "lt"))
        return " and ".join(f"{column} {sign} {edge:%Y-%m-%dT%H:%M:%SZ}" for edge, sign in edges if edge)

    def halves(self, now: datetime) -> "tuple[Interval, Interval] | None":
        """Return the two halves; None if the interval is too short to be halved."""
        begin, end = self.begin or min(FIRST_ROWS, self.end or FIRST_ROWS), self.end or now
        if end - begin < _SHORTEST:
            return None
        middle = (begin + (end - begin) / 2).replace(microsecond=0)
        return Interval(self.begin, middle), Interval(middle, self.end)


async def count_rows(client: DataverseClient, table: Table, *conditions: str) -> RowCount:
    """Return the number of rows that meet all conditions, by one query. Empty conditions are ignored.

    Raises D365Refused, HttpError.
    """
    where = " and ".join(f"({condition})" for condition in conditions if condition)
    path = f"{table.set_name}?$select={table.key}&$count=true" + (f"&$filter={quote(where)}" if where else "")
    prefer = f'odata.maxpagesize=1,odata.include-annotations="{_EXCEEDED[1:]}"'
    document = await client.read(path, table.name, {"Prefer": prefer})
    with understood(f"the number of rows of {table.name}"):
        number = max(0, int(document["@odata.count"]))
        return RowCount(number, at_least=document.get(_EXCEEDED, number >= MOST_COUNTED) is True)


async def count_interval(
    client: DataverseClient,
    table: Table,
    column: str,
    interval: Interval,
    *conditions: str,
    now: datetime,
    queries: int = MOST_QUERIES,
) -> RowCount:
    """Return the number of rows whose column is in the interval and that meet all conditions.

    Rows without a value in the column are counted only as long as one query suffices, and `interval` is open.

    Args:
        now: the end of the halving of an interval without an end.
        queries: queries at most.

    Raises:
        D365Refused, HttpError.
    """
    total, lower_bound, left = 0, False, queries - 1
    counted = [(interval, await count_rows(client, table, interval.condition(column), *conditions))]
    while counted:
        parts: list[Interval] = []
        for part, count in counted:
            halves = part.halves(now) if count.at_least and left >= len(parts) + 2 else None
            if halves:
                parts += halves
            else:
                total += count.number
                lower_bound = lower_bound or count.at_least
        left -= len(parts)
        counts = await run_together(*(count_rows(client, table, part.condition(column), *conditions) for part in parts))
        counted = list(zip(parts, counts, strict=True))
    return RowCount(total, lower_bound)
