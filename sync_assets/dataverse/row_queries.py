"""Read the present values of some columns of some rows, by id.

Source:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/filter-rows
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/page-results
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec.structs import astuple

from sync_assets.config.values import GUID
from sync_assets.dataverse.client import IDS_IN_A_QUERY, DataverseClient
from sync_assets.dataverse.metadata import MODIFIED, Table
from sync_assets.dataverse.page_parser import BadPage, Head
from sync_assets.task_group import run_together

_MOMENT: Any = Annotated[datetime, msgspec.Meta(tz=True)]
QUERIES_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class RowNow:
    """The present state of one row: `id` in lower case, `etag` for `If-Match`, `modified` in UTC and whole seconds."""

    id: str
    etag: str | None
    modified: datetime | None
    values: dict[str, bool | int | None]


async def rows_now(
    client: DataverseClient, table: Table, columns: Sequence[str], ids: Sequence[str]
) -> dict[str, RowNow]:
    """Return rows by id in lower case; `columns` must be booleans, choices or whole numbers.

    Deleted rows are missing, and so are ids that are not GUIDs, which are not queried: with one of them Dataverse would
    refuse the whole query. Raises BadPage (an answer that does not fit; its text has no values) and what
    `DataverseClient.page` raises.
    """
    decoder = _Decoder(table, columns)
    wanted = [id_ for id_ in dict.fromkeys(id_.lower() for id_ in ids) if GUID.fullmatch(id_)]
    asked = set(wanted)
    free = asyncio.Semaphore(QUERIES_AT_ONCE)
    rows: dict[str, RowNow] = {}

    async def read(batch: list[str]) -> None:
        async with free:
            async for head in client.rows(table, decoder.select, batch):
                rows.update((row.id, row) for row in decoder.decode(head) if row.id in asked)

    await run_together(*(read(wanted[n : n + IDS_IN_A_QUERY]) for n in range(0, len(wanted), IDS_IN_A_QUERY)))
    return rows


class _Decoder:
    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._names = list(dict.fromkeys(columns))
        self.select = list(dict.fromkeys((table.key, MODIFIED, *self._names)))
        names = {"id": table.key, "modified": MODIFIED, "etag": "@odata.etag"}
        names |= {f"c{n}": name for n, name in enumerate(self._names)}
        types: dict[str, Any] = {"id": str, "modified": _MOMENT | None}
        fields: list[Any] = [(field, types.get(field, bool | int | None)) for field in names if field != "etag"]
        row = msgspec.defstruct("Row", [*fields, ("etag", str | None, None)], rename=names)
        self._item: Any = msgspec.json.Decoder(row)

    def decode(self, head: Head) -> list[RowNow]:
        """Return the rows of one answer. Raises BadPage."""
        try:
            return [self._row(*astuple(self._item.decode(row))) for row in head.value]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadPage(f"Dynamics 365 sent rows that do not fit the query: {error}.") from error
        except OverflowError:
            raise BadPage(f"Dynamics 365 sent a time in {MODIFIED} that is none in UTC.") from None

    def _row(self, id_: str, modified: datetime | None, *cells: Any) -> RowNow:
        *values, etag = cells
        whole = modified and modified.astimezone(UTC).replace(microsecond=0)
        return RowNow(id_.lower(), etag, whole, dict(zip(self._names, values, strict=True)))
