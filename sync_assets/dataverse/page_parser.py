"""Parse a page of rows from Dataverse into a typed Polars frame, and its tombstones into ids. Pure.

The rows are decoded into typed structs, so that a wrong type is an error with its place, and a number stays the text
that was sent (Money and Decimal are exact). Source:
https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/select-columns
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl
from msgspec.structs import astuple

from sync_assets.config.values import GUID
from sync_assets.dataverse.metadata import ColumnType
from sync_assets.errors import SyncAssetsError
from sync_assets.http.transport import parsed

_JSON_TYPES: dict[ColumnType, Any] = {
    "boolean": bool | None,
    "integer": int | None,
    "bigint": int | None,
    "picklist": int | None,
    "state": int | None,
    "status": int | None,
    "decimal": msgspec.Raw,
    "money": msgspec.Raw,
    "double": msgspec.Raw,
    "other": msgspec.Raw,
}
"""Column type -> the JSON that its values must be; all other types are strings or null."""


ROW_VERSION = "row version"
"""The column of a page beside the selected ones. Names of Dataverse's columns have no spaces."""
AT_ONCE = 128
"""Rows decoded in one step, which holds the interpreter lock for about half a millisecond: threads that fetch and store
other pages wait no longer than that.
"""


def frame_type(column_type: ColumnType) -> pl.DataType:
    """Return the Polars type of a column in a page: numbers with a fraction are exact text, times are text as sent."""
    if column_type == "boolean":
        return pl.Boolean()
    return pl.Int64() if _JSON_TYPES.get(column_type, str) == (int | None) else pl.String()


class BadPage(SyncAssetsError):
    """Raised for a page that does not fit the metadata. Its text contains no values of the page."""


@dataclass(frozen=True, slots=True)
class Page:
    """One parsed page.

    Attributes:
        rows: one column per selected column, and ROW_VERSION.
        deleted: ids, in lower case.
        next_link, delta_link: exactly one of them is set in a complete answer.
        older: number of rows left out, since the ledger has newer ones.
    """

    rows: pl.DataFrame
    deleted: list[str]
    next_link: str | None
    delta_link: str | None
    older: int = 0


class Head(msgspec.Struct):
    """The envelope of an answer, with its rows not decoded yet."""

    value: list[msgspec.Raw]
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")
    delta_link: str | None = msgspec.field(default=None, name="@odata.deltaLink")


def row_versions(etags: Sequence[str | None]) -> pl.Series:
    """Return the `versionnumber` in each etag, `W/"<versionnumber>"`; null for an etag of another form.

    The versions of an organization's rows increase with each write.
    """
    texts = pl.Series(ROW_VERSION, etags, pl.String)
    return texts.str.extract(r'^W/"([0-9]{1,19})"$').cast(pl.Int64, strict=False)


class _Tombstone(msgspec.Struct):
    id: str
    reason: str


class PageParser:
    """Parse pages of one selection.

    columns: the names in `$select` with their types. table, key: the table and its primary key, which no row may lack;
    empty for rows that may.
    """

    def __init__(self, columns: Mapping[str, ColumnType], *, table: str = "", key: str = "") -> None:
        self._columns = dict(columns)
        self._table, self._key = table, key
        fields = {f"c{n}": name for n, name in enumerate(self._columns)}
        types = [(f"c{n}", _JSON_TYPES.get(type_, str | None)) for n, type_ in enumerate(self._columns.values())]
        row = msgspec.defstruct(
            "Row", [*types, ("etag", str | None, None)], rename={**fields, "etag": "@odata.etag"}, gc=False
        )
        self._item = msgspec.json.Decoder(row)

    def parse(self, head: Head) -> Page:
        """Parse one answer, given its envelope. Raises BadPage if a value does not have its column's type."""
        try:
            return self._parse(head)
        except msgspec.ValidationError as error:
            raise BadPage(f"Dynamics 365 sent a page that does not fit the table's metadata: {error}.") from error
        except msgspec.DecodeError as error:
            raise BadPage("Dynamics 365 sent something that is not a page of rows (not JSON).") from error

    def _parse(self, head: Head) -> Page:
        raws = head.value
        deleted: list[str] = []
        etags: list[str | None] = []
        columns: list[list[Any]] = [[] for _ in self._columns]
        for at in range(0, len(raws), AT_ONCE):
            items = self._decode(raws[at : at + AT_ONCE], deleted)
            for column, values in zip((*columns, etags), zip(*map(astuple, items), strict=True), strict=False):
                column.extend(values)
        ids = [*columns[list(self._columns).index(self._key)], *deleted] if self._key else []
        if wrong := "null" if None in ids else "" if _are_guids(ids) else "no GUID":
            raise BadPage(
                f"Dynamics 365 sent a row of {self._table} whose id ({self._key}) is {wrong}. Its page was not stored.",
                "Find the row in Dynamics 365, or a proxy that changes answers; the capture goes on at this page.",
            )
        return Page(self._frame(columns).with_columns(row_versions(etags)), deleted, head.next_link, head.delta_link)

    def _decode(self, raws: Sequence[msgspec.Raw], deleted: list[str]) -> list[Any]:
        """Return the decoded rows, and append the ids of tombstones to `deleted`."""
        try:
            return self._item.decode_lines(b"\n".join(raws))
        # A tombstone lacks a row's columns, a text may have bytes that are not UTF-8; anything else raises again below.
        except (msgspec.DecodeError, UnicodeDecodeError):
            items: list[Any] = []
            for raw in raws:
                text = bytes(raw).decode("utf-8", "replace")
                if tombstone := _tombstone(text):
                    deleted.append(tombstone.id.lower())
                else:
                    items.append(self._item.decode(text))
            return items

    def _frame(self, columns: Sequence[list[Any]]) -> pl.DataFrame:
        series: list[pl.Series] = []
        for (name, type_), values in zip(self._columns.items(), columns, strict=True):
            if _JSON_TYPES.get(type_) is msgspec.Raw:
                series.append(_texts(name, values))
                continue
            try:
                series.append(pl.Series(name, values, dtype=frame_type(type_)))
            except (TypeError, OverflowError):  # the error's text quotes the number
                raise BadPage(f"Dynamics 365 sent a number in {name} that has more than 64 bits.") from None
        return pl.DataFrame(series)


def read_head(body: bytes) -> Head:
    """Return the envelope of an answer, which has the next link, long before the rows are decoded. Raises BadPage.

    Half a surrogate pair in one text must not stop the other rows: it becomes U+FFFD.
    """
    head = parsed(body, Head) or parsed(_without_lone_surrogates(body), Head)
    if head is None:
        raise BadPage(
            "Dynamics 365 sent something that is not a page of rows (not JSON, nested too deeply, or no rows)."
        )
    return head


def has_news(body: bytes) -> tuple[bool, str | None]:
    """Return True if an answer of the feed has changes or more pages, and its delta link. Raises BadPage."""
    head = read_head(body)
    return bool(head.value or head.next_link or not head.delta_link), head.delta_link


def changed_ids(head: Head, key: str) -> list[str]:
    """Return the ids of the rows and tombstones of a page, in lower case, each once. Raises BadPage."""
    versions, deleted = changes(head, key)
    return list(dict.fromkeys([*versions, *deleted]))


def changes(head: Head, key: str) -> tuple[dict[str, int | None], list[str]]:
    """Return the versions of the rows of a page, by id, and the ids of its tombstones, in lower case. Raises BadPage.

    Of a row that the page has several times, the highest version. Other members are ignored. key: the column of the
    table's primary key.
    """
    members = [("key", str | None, None), ("id", str | None, None), ("etag", str | None, None)]
    item = msgspec.defstruct("Item", members, rename={"key": key, "etag": "@odata.etag"})
    try:
        items: list[Any] = msgspec.json.Decoder(item).decode_lines(b"\n".join(head.value))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadPage("Dynamics 365 sent changes that are neither rows nor deletions.") from error
    if not _are_guids([item.key or item.id or "" for item in items]):
        raise BadPage("Dynamics 365 sent a change without an id, or with one that is no GUID.")
    rows = [item for item in items if item.key]
    highest: dict[str, int | None] = {}  # in the order of the page
    for row, version in zip(rows, row_versions([row.etag for row in rows]), strict=True):
        id_ = row.key.lower()
        highest[id_] = max(version or 0, highest.get(id_) or 0) or None
    return highest, [item.id.lower() for item in items if not item.key]


_GUID = f"(?i)^(?:{GUID.pattern})$"


def _are_guids(ids: Sequence[str]) -> bool:
    """Return True if all are GUIDs: ids are put into addresses, queries and Campaign's keys as they are."""
    return bool(pl.Series(ids, dtype=pl.String).str.contains(_GUID).all())


def _tombstone(text: str) -> _Tombstone | None:
    if '"reason"' not in text:
        return None
    tombstone = parsed(text, _Tombstone)
    return tombstone if tombstone and tombstone.reason == "deleted" else None


def _texts(name: str, values: Sequence[msgspec.Raw]) -> pl.Series:
    """Return raw JSON values as texts (`_text`); numbers and nulls, the usual case, are split in one step."""
    packed = b"\n".join(values).decode("utf-8", "replace")  # JSON never has a line feed inside a number or a string
    if '"' in packed or "{" in packed or "[" in packed or not values:
        return pl.Series(name, [_text(value) for value in values], dtype=pl.String)
    texts = pl.Series(name, packed.split("\n"), dtype=pl.String)
    return texts.set(texts == "null", None)


def _text(raw: msgspec.Raw) -> str | None:
    """Return a raw JSON value as text: a number exactly as it was written, a string unquoted, null as None."""
    text = bytes(raw).decode("utf-8", "replace")
    if text == "null":
        return None
    return str(msgspec.json.decode(text)) if text.startswith('"') else text


_SURROGATES = re.compile(
    rb"\\\\"  # an escaped backslash: the characters after it are no escape
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    rb"|\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


def _without_lone_surrogates(body: bytes) -> bytes:
    """Replace half surrogate pairs, and bytes that are not UTF-8, by U+FFFD; all else stays byte for byte."""
    whole = _SURROGATES.sub(lambda match: b"\\ufffd" if len(match[0]) == 6 else match[0], body)
    return whole.decode("utf-8", "replace").encode()
