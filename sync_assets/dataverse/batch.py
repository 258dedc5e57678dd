"""Update existing rows, many in one request (`$batch`), and return which updates succeeded and why the others did not.

`read_links` reads many links in one request, for polls of change feeds: a batch counts as one request for the rate.

Each update is a PATCH with `If-Match`, which can change a row and never create one. The updates are independent: there
is no change set, and a refused update does not stop the rest. Source:
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/execute-batch-operations-using-web-api
"""

import asyncio
import re
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec
from multidict import CIMultiDict

from sync_assets.config.values import GUID
from sync_assets.dataverse.client import API, D365Refused, DataverseClient, error_of, refusal
from sync_assets.dataverse.metadata import Table
from sync_assets.http.redaction import redact
from sync_assets.http.retry import UPDATE_TRIES, RequestOptions, backoff, is_lost, retry_after
from sync_assets.http.transport import HttpError, Response, SignInRefused, Unavailable
from sync_assets.task_group import run_together

ROWS_IN_A_BATCH = 100
"""Dataverse takes up to 1,000; a request that is lost is sent again whole."""
BATCHES_AT_ONCE = 4
REASON_LENGTH = 300
THROTTLED = frozenset({429, 503})

_GUID = re.compile(GUID.pattern, re.IGNORECASE)
_IF_MATCH = re.compile(r'\*|W/"[\x21\x23-\x7e]*"')


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """Columns to set in the row `id`.

    `if_match`: update only while the row has this etag (`W/"…"`); `*`: whatever etag it has.

    Raises ValueError for an update that could do harm: `If-Match` is never left out, since that would create a row
    where there is none (docs/dev/references/dataverse.md 3.1).
    """

    id: str
    values: Mapping[str, bool | int | None]
    if_match: str = "*"

    def __post_init__(self) -> None:
        if not _GUID.fullmatch(self.id):
            raise ValueError("RowUpdate.id must be a GUID")
        if not _IF_MATCH.fullmatch(self.if_match):
            raise ValueError('RowUpdate.if_match must be an etag such as W/"1001", or *')
        if not self.values:
            raise ValueError("RowUpdate.values is empty: even that would count as a change of the row")


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The result of one update.

    `reason`: our text, for a refusal with the server's, see `masked`; at most 300 characters.

    done     the row is as requested
    missing  there is no such row
    changed  the row has another etag; after a lost answer our own write may have changed it: read the row again
    refused  never for this row as it is

    unanswered: an earlier request with this update got no answer, so it may still take effect.
    """

    id: str
    kind: Literal["done", "missing", "changed", "refused"]
    reason: str = ""
    unanswered: bool = False


async def update_rows(client: DataverseClient, table: Table, updates: Sequence[RowUpdate]) -> list[UpdateResult]:
    """Send updates in batches, some of them at once; return a result for each update, in their order.

    Throttling stops every task of the client. After an error that is raised, any of the updates may have been carried
    out; all of them can be sent again without harm.

    Raises:
        ValueError: a row is in `updates` twice; parallel requests have no order.
        D365Refused: the role may not write, or the table is unknown.
        HttpError: an answer cannot be matched with the updates.
        Unavailable, and what `Endpoint.send` raises.
    """
    if len({update.id.lower() for update in updates}) != len(updates):
        raise ValueError("a row stands in the updates twice")
    starts = range(0, len(updates), ROWS_IN_A_BATCH)
    slices = [_Slice(client, table, updates[start : start + ROWS_IN_A_BATCH]) for start in starts]
    free = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def carry_out(part: _Slice) -> list[UpdateResult]:
        async with free:
            return await part.carry_out()

    return [result for part in await run_together(*map(carry_out, slices)) for result in part]


@dataclass(slots=True)
class _Slice:
    """The updates of one request; those without a result are sent again until each has one."""

    client: DataverseClient
    table: Table
    updates: Sequence[RowUpdate]
    results: dict[int, UpdateResult] = field(default_factory=dict[int, UpdateResult])
    unanswered: set[int] = field(default_factory=set[int])  # updates that were left without an answer once
    failed: Counter[int] = field(default_factory=Counter[int])  # how often Dataverse failed on an update
    status: int = 0  # of the last answer to a whole request
    lost: set[int] = field(default_factory=set[int])  # updates of a request that got no answer

    async def carry_out(self) -> list[UpdateResult]:
        patience = self.client.endpoint.patience
        left = list(range(len(self.updates)))
        give_up_at, attempt = time.monotonic() + patience, 0
        while True:
            parts = await self._send(left)
            again = [number for number, part in zip(left, parts, strict=True) if not self._acknowledge(number, part)]
            if not again:
                unanswered = self.lost | self.unanswered
                return [replace(self.results[n], unanswered=n in unanswered) for n in range(len(self.updates))]
            if len(again) < len(left):  # there is progress, so the patience starts anew
                give_up_at, attempt = time.monotonic() + patience, 0
            wait = self._wait(
                [part for part in parts if part and (part.status in THROTTLED or part.status >= 500)], attempt
            )
            if time.monotonic() + wait > give_up_at:
                status = max((part.status for part in parts if part and part.status in THROTTLED), default=self.status)
                raise Unavailable(
                    f"Dynamics 365 kept answering {status} to updates of a $batch for {patience:.0f} s.", status=status
                )
            await asyncio.sleep(wait)
            left, attempt = again, attempt + 1

    async def _send(self, numbers: Sequence[int]) -> list[Response | None]:
        def observe(kind: str, status: int | None, seconds: float) -> None:
            if is_lost(kind, status):
                self.lost.update(numbers)

        updates = [self.updates[number] for number in numbers]
        # Setting the same values twice does no harm.
        answer = await _post(self.client, [_patch(self.table, update) for update in updates], observer=observe)
        self.status = answer.status
        if answer.status >= 500:
            return [None] * len(updates)
        if not is_multipart(answer) and not 200 <= answer.status < 300:
            raise _error_for_all(answer, self.table) or refusal(answer, self.table.name)
        parts = read_parts(answer)
        if len(parts) > len(updates):
            raise HttpError(f"Dynamics 365 gave {len(parts)} answers to the {len(updates)} updates of a $batch.")
        for update, part in zip(updates, parts, strict=False):
            if part and (row_id(part) or update.id.lower()) != update.id.lower():
                raise HttpError("Dynamics 365 answered the updates of a $batch in another order than it was asked.")
        return parts + [None] * (len(updates) - len(parts))

    def _acknowledge(self, number: int, part: Response | None) -> bool:
        """Store the result of one update. Return False if the update must be sent again."""
        if part is None:
            if number in self.unanswered:
                raise Unavailable(
                    f"Dynamics 365 twice left updates of a $batch without an answer (status {self.status}).",
                    status=self.status,
                )
            self.unanswered.add(number)
            return False
        if part.status in THROTTLED:
            return False
        if part.status >= 500:
            self.failed[number] += 1
            if self.failed[number] < UPDATE_TRIES:
                return False
        self.results[number] = outcome(self.updates[number], part, self.table)
        return True

    def _wait(self, parts: Sequence[Response], attempt: int) -> float:
        """Return the seconds until the next attempt. parts: those to be sent again.

        A `Retry-After` holds back every task of the client (docs/dev/references/dataverse.md 4).
        """
        waits = (retry_after(part.headers) for part in parts)
        longest = max((seconds for seconds in waits if seconds is not None), default=None)
        wait = backoff(attempt, longest)
        if longest is not None or any(part.status in THROTTLED for part in parts):
            self.client.endpoint.pause.hold(wait)
        return wait


def _patch(table: Table, update: RowUpdate) -> list[bytes]:
    return [
        f"PATCH {API}/{table.set_name}({update.id.lower()}) HTTP/1.1".encode(),
        b"Content-Type: application/json; type=entry",
        f"If-Match: {update.if_match}".encode(),
        b"",
        msgspec.json.encode(dict(update.values)),
    ]


async def _post(client: DataverseClient, parts: Sequence[Sequence[bytes]], **options: Any) -> Response:
    """Send a batch, and again if its answer is lost. parts: the lines of each request. options: RequestOptions."""
    boundary = f"batch_{uuid.uuid4()}"
    head = [b"Content-Type: application/http", b"Content-Transfer-Encoding: binary", b""]
    lines = [line for part in parts for line in (f"--{boundary}".encode(), *head, *part)]
    return await client.endpoint.send(
        "POST",
        "$batch",
        body=b"\r\n".join([*lines, f"--{boundary}--".encode(), b""]),
        headers={"Content-Type": f'multipart/mixed; boundary="{boundary}"', "Prefer": "odata.continue-on-error"},
        call=RequestOptions(repeat_unknown=True, **options),
    )


async def read_links(
    client: DataverseClient, links: Sequence[str], prefer: str, patience: float
) -> list[Response | None]:
    """Read links in one request. Return the answers in their order, None where one is missing.

    prefer: the header of each part. Raises what `Endpoint.send` raises.
    """
    lines = [f"Prefer: {prefer}".encode(), b"", b""]
    parts = [[f"GET {client.endpoint.checked(link)} HTTP/1.1".encode(), *lines] for link in links]
    answer = await _post(client, parts, patience=patience)
    answers = read_parts(answer) if is_multipart(answer) else []
    return [*answers, *[None] * len(links)][: len(links)]


# --- outcomes ---------------------------------------------------------------------------------------------------------

_NO_PRIVILEGE, _NO_USER, _NO_TABLE = "0x80040220", "0x80072560", "0x8006088a"
_NO_ROW = frozenset({"0x80040217", "0x0", ""})
_DUPLICATES = frozenset({"0x80040237", "0x80060892", "0x80040333"})
"""Codes of a 412 that is about another row with the same values, not about the etag."""
_MEANINGS = {
    "0x80040203": "a value or the row's state does not allow it",
    "0x8004022e": "the row is read-only",
    "0x80040233": "the row's state does not allow it",
    "0x80040265": "a plug-in or process of the organisation does not allow it",
    "0x80044330": "a value is out of its range",
    "0x80048d19": "Dynamics 365 does not understand the change",
} | dict.fromkeys(_DUPLICATES, "another row has the same values")
_READ_ONLY = re.compile(r"\b(inactive|read-?only|deactivated)\b", re.IGNORECASE)


def outcome(update: RowUpdate, part: Response, table: Table) -> UpdateResult:
    """Return the result of an update from its part.

    Raises D365Refused, SignInRefused if every other row would fail alike.
    """
    if 200 <= part.status < 300:
        return UpdateResult(update.id, "done")
    if error := _error_for_all(part, table):
        raise error
    code, message = error_of(part)
    if part.status == 404 and code in _NO_ROW:
        return UpdateResult(update.id, "missing", f"Dynamics 365 has no such row ({_shown(part, code)}).")
    if part.status == 412 and code not in _DUPLICATES:
        return UpdateResult(update.id, "changed", f"The row has changed since it was read ({_shown(part, code)}).")
    names = [name for name in update.values if re.search(rf"\b{re.escape(name)}\b", message)]
    about = f" of {', '.join(names)}" if names else ""
    meaning = _MEANINGS.get(code) or ("the server failed" if part.status >= 500 else "")
    if _READ_ONLY.search(message):
        meaning = "the row seems to be inactive or read-only"
    text = f"Dynamics 365 refuses the change{about} ({_shown(part, code)})" + (f": {meaning}." if meaning else ".")
    if message.strip():
        text += f" It says: {masked(message)}"
    return UpdateResult(update.id, "refused", text if len(text) <= REASON_LENGTH else f"{text[: REASON_LENGTH - 1]}…")


_TOKEN = re.compile(r"\w(?:[\w.,:/+-]*\w)?")
_CODE_OR_NAME = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[a-z][a-z0-9_]*")
"""Words that may contain digits: error codes, and names of columns such as `address1_line1`."""


def masked(message: str) -> str:
    """Return a refusal's message in one line, without ids, addresses, numbers and quoted texts.

    Names of the data model and error codes stay.
    """

    def hidden(match: re.Match[str]) -> str:
        token = match[0]
        return token if token.isalpha() or _CODE_OR_NAME.fullmatch(token) or not re.search(r"\d", token) else "…"

    return _TOKEN.sub(hidden, _GUID.sub("…", redact(message, None)))


def _error_for_all(part: Response, table: Table) -> HttpError | D365Refused | None:
    """Return the error for a refusal that every other row would meet as well; None if it is about this row."""
    code, _ = error_of(part)
    if code == _NO_PRIVILEGE:
        return D365Refused(
            f"The application user may not write to the table {table.name} in Dynamics 365.",
            f"Give its security role organisation-level write on {table.name}.",
            code,
        )
    if code in {_NO_USER, _NO_TABLE}:
        return refusal(part, table.name)
    if part.status == 401:
        return SignInRefused(
            "Dynamics 365 refused our token (401) for a part of a $batch.",
            "Check the credentials and that this application may use the API.",
        )
    return None


def _shown(part: Response, code: str) -> str:
    return f"{part.status} {code}".rstrip()


_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"]+)"|([^\s;,"]+))', re.IGNORECASE)
_STATUS_LINE = re.compile(rb"(?:^|\n)HTTP/\d(?:\.\d)?[ \t]+([1-5]\d\d)(?:[ \t][^\n]*)?\n")
_ROW = re.compile(rf"\(({GUID.pattern})\)\s*$", re.IGNORECASE)


def is_multipart(answer: Response) -> bool:
    return answer.headers.get("content-type", "").lstrip().lower().startswith("multipart/mixed")


def read_parts(answer: Response) -> list[Response | None]:
    """Return the parts in their order; None for an unreadable part, so that those after it keep their places.

    A last part without a closing boundary is left out: it may be cut off. Raises HttpError if it is no multipart
    answer.
    """
    header = _BOUNDARY.search(answer.headers.get("content-type", "")) if is_multipart(answer) else None
    if header is None:
        raise HttpError(
            "Dynamics 365 answered a $batch with something that is not multipart/mixed with a boundary.",
            "Check D365_URL, and proxies on the way.",
        )
    boundary = re.escape((header[1] or header[2]).encode("utf-8", "surrogateescape"))
    # A boundary may be the beginning of a longer one, so it only counts before an end of line.
    mark = re.compile(rb"\n--" + boundary + rb"(--)?[ \t]*(?=\n|$)")
    body = b"\n" + answer.body.replace(b"\r\n", b"\n")
    parts: list[Response | None] = []
    begins: int | None = None  # start of the part that the next boundary ends; None: before the first boundary
    for match in mark.finditer(body):
        if begins is not None:
            parts.append(_part(body[begins : match.start() + 1]))
        begins = match.end()
        if match[1]:
            break
    return parts


def _part(piece: bytes) -> Response | None:
    line = _STATUS_LINE.search(piece)
    if line is None:
        return None
    head, _, body = piece[line.end() - 1 :].partition(b"\n\n")
    pairs = (text.partition(b":") for text in head.split(b"\n") if b":" in text)
    headers = CIMultiDict[str](
        (name.strip().decode("utf-8", "replace"), value.strip().decode("utf-8", "replace"))
        for name, _, value in pairs
        if name.strip()
    )
    return Response(int(line[1]), headers, body.strip())


def row_id(part: Response) -> str | None:
    """Return the id of the row that a part is about, in lower case; None if it has no `OData-EntityId`."""
    match = _ROW.search(part.headers.get("odata-entityid", ""))
    return match[1].lower() if match else None
