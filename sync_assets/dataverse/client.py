"""The Dataverse client: metadata, the change feed, and rows by id.

Here: which request fetches what, and what the error codes of answers mean. Not here: retries, waits and token renewal
(`http.Endpoint`). Source:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/compose-http-requests-handle-errors
"""

import re
import ssl
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import msgspec

from sync_assets.dataverse.metadata import Column, ColumnType, ListedTable, Table
from sync_assets.dataverse.page_parser import Head, read_head
from sync_assets.errors import SyncAssetsError
from sync_assets.http.client import CachedTokens, Endpoint, LinkTrail
from sync_assets.http.retry import RequestOptions
from sync_assets.http.transport import HttpError, Limits, Response, TransportOptions, members, parsed
from sync_assets.task_group import run_together
from sync_assets.words import did_you_mean

API = "/api/data/v9.2"
CONNECTIONS = 16
"""Requests in flight at most; Dataverse allows 52 per user and server."""
MAX_PAGE = 5000
LIMITS = Limits(largest=64 << 20, seconds=300.0)
"""A page of 5,000 rows has some 10 MB; 64 MiB allow 13 KB for each row."""
IDS_IN_A_QUERY = 250
"""A URL may have 32,768 characters (docs/dev/references/dataverse.md 2.1); an id takes 45 of them."""

_TYPES: dict[str, ColumnType] = {
    "BigInt": "bigint",
    "Boolean": "boolean",
    "Customer": "lookup",
    "DateTime": "datetime",
    "Decimal": "decimal",
    "Double": "double",
    "EntityName": "string",
    "Integer": "integer",
    "Lookup": "lookup",
    "Memo": "memo",
    "Money": "money",
    "Owner": "lookup",
    "Picklist": "picklist",
    "State": "state",
    "Status": "status",
    "String": "string",
    "Uniqueidentifier": "guid",
}
_CASTS: dict[ColumnType, str] = {
    "boolean": "Boolean",
    "picklist": "Picklist",
    "state": "State",
    "status": "Status",
    "multiselect": "MultiSelectPicklist",
    "datetime": "DateTime",
}
"""Column types whose metadata is complete only in its typed form: labels of options, and whether a date has a time."""

_DESCRIBED = "LogicalName,AttributeType,AttributeTypeName,IsValidForRead,IsValidForUpdate,IsSecured,AttributeOf"
"""The metadata members that are read of every column."""


class D365Refused(SyncAssetsError):
    """Raised when Dataverse refuses a request; `code` is its error code."""

    def __init__(self, cause: str, remedy: str = "", code: str = "") -> None:
        self.code = code
        super().__init__(cause, remedy)


NO_SUCH_TABLE = ("0x80060888", "0x80040217")
"""Error codes for metadata that does not exist (docs/dev/references/dataverse.md 3.4)."""
NO_SUCH_COLUMN = "0x80060888"
"""Error code for a column that does not exist, in `$select` or in a condition."""
EXPIRED = "0x80044352"
"""Error code for an expired delta link."""
_TRACKING_OFF = "Change tracking is not enabled in Dynamics 365{about}."
_SWITCH_ON = "Switch it on in the table's properties (Advanced options, Track changes) and publish."


class FeedExpired(D365Refused):
    """Raised when the delta link has expired: the table must be read in full again."""


class ServerFailed(D365Refused):
    """Raised when Dynamics 365 answered 500, which it also does when it lacks memory for an answer."""


class SetUpRefused(D365Refused):
    """Raised when Dynamics 365 refuses until a person corrects the mapping, a privilege or the table."""


class TrackingOff(SetUpRefused):
    """Raised when change tracking is not enabled for the table."""


_HEADERS = {"OData-MaxVersion": "4.0", "OData-Version": "4.0", "If-None-Match": "null"}


class DataverseClient:
    """One organisation."""

    def __init__(self, url: str, tokens: CachedTokens, *, context: ssl.SSLContext) -> None:
        self.url = url.rstrip("/")
        self.endpoint = Endpoint(
            "Dynamics 365",
            self.url + API,
            tokens,
            TransportOptions(context, _HEADERS, CONNECTIONS, limits=LIMITS),
        )

    async def table(self, name: str, columns: Collection[str] | None = None) -> Table:
        """Return the metadata of a table, with all its columns. `columns`: those whose labels are needed."""
        path = f"EntityDefinitions(LogicalName='{quote(name)}')"
        try:
            head, attributes = await run_together(
                self.read(f"{path}?$select=LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled", name),
                self.read(f"{path}/Attributes?$select={_DESCRIBED}", name),
            )
        except D365Refused as error:
            if error.code not in NO_SUCH_TABLE:
                raise
            meant = did_you_mean(name, [table.name for table in await self.tables()])
            raise SetUpRefused(
                f"Dynamics 365 has no table `{name}`.",
                f"Did you mean `{meant}`?" if meant else "Write its logical name, in the singular as in `contact`.",
                error.code,
            ) from error
        with understood(f"the table {name}"):
            all_columns = list(map(_column, attributes["value"]))
            labelled = [column for column in all_columns if columns is None or column.name in columns]
            kinds: set[ColumnType] = {column.type for column in labelled if column.type in _CASTS}
            typed: dict[str, dict[str, Any]] = {}
            for part in await run_together(*(self._typed(path, kind) for kind in kinds)):
                typed |= part
            return Table(
                name=str(head["LogicalName"]),
                set_name=str(head["EntitySetName"]),
                key=str(head["PrimaryIdAttribute"]),
                change_tracking=bool(head.get("ChangeTrackingEnabled")),
                columns={column.name: _typed_column(column, typed.get(column.name)) for column in all_columns},
            )

    async def tables(self) -> list[ListedTable]:
        """Return all tables that have change tracking enabled, sorted by name."""
        tracked = "ChangeTrackingEnabled eq true and IsIntersect eq false"
        answer = await self.read(
            f"EntityDefinitions?$select=LogicalName,DisplayName,IsCustomEntity&$filter={quote(tracked)}"
        )
        with understood("its tables"):
            labels = {str(item["LogicalName"]): _label({"Label": item.get("DisplayName")}) for item in answer["value"]}
            custom = {str(item["LogicalName"]): bool(item.get("IsCustomEntity")) for item in answer["value"]}
        return [ListedTable(name, label, custom[name]) for name, label in sorted(labels.items())]

    async def described(self, name: str) -> Table:
        """Return the metadata of `table`, and the columns' labels, lengths and targets, which help people to choose."""
        table = await self.table(name)
        path = f"EntityDefinitions(LogicalName='{quote(name)}')/Attributes"
        asked = {
            "": "DisplayName",
            "/Microsoft.Dynamics.CRM.StringAttributeMetadata": "MaxLength",
            "/Microsoft.Dynamics.CRM.MemoAttributeMetadata": "MaxLength",
            "/Microsoft.Dynamics.CRM.LookupAttributeMetadata": "Targets",
        }
        answers = await run_together(
            *(self.read(f"{path}{cast}?$select=LogicalName,{attributes}", name) for cast, attributes in asked.items())
        )
        described: dict[str, dict[str, Any]] = {}
        with understood(f"the columns of {name}"):
            for answer in answers:
                for item in answer["value"]:
                    described.setdefault(item["LogicalName"], {}).update(item)
            known = table.columns.values()
            columns = {column.name: _described_column(column, described.get(column.name, {})) for column in known}
        return replace(table, columns=columns)

    async def _typed(self, path: str, column_type: ColumnType) -> dict[str, dict[str, Any]]:
        cast = _CASTS[column_type]
        options = "&$expand=OptionSet,GlobalOptionSet"
        more = {"DateTime": ",DateTimeBehavior", "Boolean": "&$expand=OptionSet"}.get(cast, options)
        typed = f"{path}/Attributes/Microsoft.Dynamics.CRM.{cast}AttributeMetadata"
        answer = await self.read(f"{typed}?$select=LogicalName{more}", path)
        return {item["LogicalName"]: item for item in answer["value"]}

    def first_page(self, table: Table, select: Iterable[str]) -> str:
        """Return the link that starts a full tracked read of `table`."""
        return f"{self.endpoint.base_url}/{table.set_name}?$select={','.join(select)}"

    async def page(
        self, link: str, *, tracked: bool, size: int = MAX_PAGE, table: str = "", patience: float | None = None
    ) -> bytes:
        """Return the body of one page. `tracked`: True for a first page and its next links, False for a delta link.

        Raises FeedExpired, TrackingOff, D365Refused, and what Endpoint.send raises.
        """
        prefer = f"odata.maxpagesize={size}"
        if tracked:
            prefer = f"odata.track-changes,{prefer}"
        answer = await self.endpoint.send(
            "GET", link, headers={"Prefer": prefer}, call=RequestOptions(patience=patience)
        )
        if answer.status != 200:
            of_cursor = "token=" in link.lower() and "filter=" not in link.lower()  # of the feed, not of a query
            raise refusal(answer, table, of_cursor=of_cursor)
        return answer.body

    async def pages(self, link: str, *, size: int, table: str) -> AsyncIterator[Head]:
        """Yield the envelopes of a page and of those after it. Raises what `page` raises, BadPage and EndlessRead."""
        trail = LinkTrail("Dynamics 365", table, link)
        while link:
            head = read_head(await self.page(link, tracked=False, size=size, table=table))
            yield head
            link = trail.follow(head.next_link, len(head.value))

    async def rows(
        self, table: Table, select: Iterable[str], ids: Sequence[str], *, size: int = MAX_PAGE, column: str = ""
    ) -> AsyncIterator[Head]:
        """Yield the present rows with these ids, in envelopes that `PageParser` reads; deleted rows are missing.

        Queried by `In` (docs/dev/references/dataverse.md 2.2), IDS_IN_A_QUERY ids at a time. `size`: most rows of a
        page. `column`: holds the values `ids`; by default the primary key. Raises what `pages` raises.
        """
        columns = ",".join(select)
        for start in range(0, len(ids), IDS_IN_A_QUERY):
            batch = ids[start : start + IDS_IN_A_QUERY]
            listed = msgspec.json.encode(batch).decode()
            wanted = f"Microsoft.Dynamics.CRM.In(PropertyName='{column or table.key}',PropertyValues={listed})"
            link = f"{self.endpoint.base_url}/{table.set_name}?$select={columns}&$filter={quote(wanted)}"
            async for head in self.pages(link, size=size if column else min(len(batch), size), table=table.name):
                yield head

    async def record_count(self, table: str) -> int | None:
        """Return the number of rows, from a snapshot up to a day old; None if the answer lacks it."""
        answer = await self.read(f"RetrieveTotalRecordCount(EntityNames=['{quote(table)}'])", table)
        with understood("the number of rows"):
            counts = answer.get("EntityRecordCountCollection") or {}
            described = dict(zip(counts.get("Keys") or [], counts.get("Values") or [], strict=False))
            return int(described[table]) if table in described else None

    async def who_am_i(self) -> str:
        """Return the id of the application user that we are signed in as."""
        answer = await self.read("WhoAmI")
        with understood("our user"):
            return str(answer["UserId"])

    async def organization_id(self) -> str:
        """Return the id of the organisation, which stays the same when its URL changes."""
        answer = await self.read("WhoAmI")
        with understood("its organisation"):
            return str(answer["OrganizationId"]).lower()

    async def times(self) -> list[datetime]:
        """Return the server's time by the Date header, and the time of the contact that was changed last, as given."""
        answer = await self.endpoint.send("GET", "contacts?$select=modifiedon&$orderby=modifiedon desc&$top=1")
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            rows = members(answer.body).get("value") if answer.status == 200 else None
            newest = [datetime.fromisoformat(row["modifiedon"]) for row in rows or []]
            return [parsedate_to_datetime(answer.headers["Date"]), *newest]
        return []

    async def change_tracking_days(self) -> int | None:
        """Return the days that a delta link is valid (`expirechangetrackingindays`); None if the answer lacks it."""
        answer = await self.read("organizations?$select=expirechangetrackingindays")
        with understood("the organisation"):
            value = (answer.get("value") or [{}])[0].get("expirechangetrackingindays")
            return int(value) if value is not None else None

    async def read(self, path: str, table: str = "", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the JSON of an answer. Raises D365Refused, HttpError, and what Endpoint.send raises."""
        answer = await self.endpoint.send("GET", path, headers=headers)
        if answer.status != 200:
            raise refusal(answer, table)
        document = parsed(answer.body, dict[str, Any])
        if document is None:
            raise HttpError(
                f"{self.url} answered with something that is not JSON.",
                "Check D365_URL: is it the organisation's URL?",
            )
        return document

    async def aclose(self) -> None:
        await self.endpoint.aclose()


@contextmanager
def understood(name: str) -> Iterator[None]:
    """Turn errors from reading an answer of an unexpected shape into HttpError. name: of the subject, for its text."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
        raise HttpError(  # without the error, whose text may quote the answer
            f"Dynamics 365 sent an answer about {name} that cannot be read.", "Check D365_URL, and proxies on the way."
        ) from None


def _column(item: dict[str, Any]) -> Column:
    type_name = (item.get("AttributeTypeName") or {}).get("Value", "")
    type_ = "multiselect" if type_name == "MultiSelectPicklistType" else _TYPES.get(item.get("AttributeType", ""))
    # Virtual columns such as `statuscodename` belong to another column and can't be selected
    # (docs/dev/references/dataverse.md 2.2).
    readable = item.get("IsValidForRead", True) and not (type_ is None and item.get("AttributeOf"))
    updatable = bool(item.get("IsValidForUpdate", True))
    secured = bool(item.get("IsSecured", False))
    return Column(item["LogicalName"], type_ or "other", readable=bool(readable), updatable=updatable, secured=secured)


def _typed_column(column: Column, typed: dict[str, Any] | None) -> Column:
    if typed is None:
        return column
    if column.type == "datetime":
        behavior = (typed.get("DateTimeBehavior") or {}).get("Value")
        return replace(column, type="date") if behavior == "DateOnly" else column
    options = typed.get("OptionSet") or typed.get("GlobalOptionSet") or {}
    listed = options.get("Options") or [options[key] for key in ("FalseOption", "TrueOption") if options.get(key)]
    return replace(column, labels={int(option["Value"]): _label(option) for option in listed})


def _described_column(column: Column, described: dict[str, Any]) -> Column:
    return replace(
        column,
        label=_label({"Label": described.get("DisplayName")}),
        max_length=int(longest) if (longest := described.get("MaxLength")) is not None else None,
        targets=tuple(map(str, described.get("Targets") or ())),
    )


def _label(option: dict[str, Any]) -> str:
    label = option.get("Label") or {}
    own = label.get("UserLocalizedLabel") or next(iter(label.get("LocalizedLabels") or []), None) or {}
    return str(own.get("Label") or "")


_MEANINGS: dict[str, tuple[type[D365Refused], str, str]] = {
    EXPIRED: (
        FeedExpired,
        "The position in the change feed has expired{about}.",
        "The next sync reads the table in full.",
    ),
    "0x80072491": (TrackingOff, _TRACKING_OFF, _SWITCH_ON),
    "0x80072492": (TrackingOff, _TRACKING_OFF, _SWITCH_ON),
    "0x80040220": (
        SetUpRefused,
        "The application user lacks a privilege in Dynamics 365{about}.",
        "Give its security role organisation-level read on the table.",
    ),
    "0x80072560": (
        SetUpRefused,
        "The application is not a user of this Dynamics 365 organisation.",
        "Make an application user for D365_CLIENT_ID in the Power Platform admin centre.",
    ),
    NO_SUCH_COLUMN: (SetUpRefused, "Dynamics 365 does not know {column}{about}.", "Correct the mapping."),
    "0x80040217": (SetUpRefused, "Dynamics 365 has no such row or table{about}.", "Check the configuration."),
    "404": (
        SetUpRefused,
        "Dynamics 365 does not know what was asked for{about} (404).",
        "Check D365_URL and the tables of the configuration.",
    ),
    "403": (SetUpRefused, "Dynamics 365 refuses access{about} (403).", "Check the application user's role."),
}
"""Error code, else status -> error class, cause, remedy. The statuses of most codes are documented nowhere."""


def error_of(answer: Response) -> tuple[str, str]:
    """Return (code in small letters, or empty; message) of a refused answer. The message may quote values."""
    error: Any = members(answer.body).get("error")
    if not isinstance(error, dict):
        return "", ""
    code, message = str(error.get("code", "")), str(error.get("message", ""))
    return code.lower() if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", code) else "", message


def refusal(answer: Response, table: str = "", *, of_cursor: bool = False) -> D365Refused:
    """Return the error for a refused answer. Source: docs/dev/references/dataverse.md 3.4.

    of_cursor: the request followed a link with a token. A token that Dynamics 365 refuses counts as expired, as after a
    restore: the codes for that are documented nowhere, and a full read shows any other cause.
    """
    code, message = error_of(answer)
    column = re.search(r"property named '(\w+)'", message)
    unknown = (ServerFailed if answer.status == 500 else D365Refused, "", "")
    kind, cause, remedy = _MEANINGS.get(code) or _MEANINGS.get(str(answer.status)) or unknown
    if of_cursor and answer.status in (400, 410) and (kind is D365Refused or (code == NO_SUCH_COLUMN and not column)):
        kind, cause, remedy = _MEANINGS[EXPIRED]
    described = cause.format(
        about=f" (table {table})" if table else "", column=f"column {column[1]}" if column else "a column of the query"
    )
    return kind(described or f"Dynamics 365 answered {answer.status} {code}".strip() + ".", remedy, code)
