"""Writes to rows that exist, many in one request (`$batch`): which were done, and why the others were not.

Each update is a PATCH with `If-Match`, which can change a row and never make one. They are independent of each other:
no change set, and one that is refused does not stop the rest. Source: dataverse-web-api.md sections 3.1, 3.3, 3.4, 4.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from sync_assets.dataverse.batch_response import is_multipart, read_parts, row_id
from sync_assets.dataverse.client import API, D365Refused, DataverseClient, refusal
from sync_assets.dataverse.metadata import Table
from sync_assets.http.client import HttpError, Response, SignInRefused, Unavailable, backoff, retry_after
from sync_assets.http.redaction import redact

MOST_IN_A_BATCH = 1000
TRIES = 4
"""How often an update is sent that Dataverse fails on (500, 502, 504) until it counts as refused."""
REASON_LENGTH = 300
THROTTLED = frozenset({429, 503})

_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_IF_MATCH = re.compile(r'\*|W/"[\x21\x23-\x7e]*"')


@dataclass(frozen=True, slots=True)
class RowUpdate:
    """Columns to set in the row `id`. `if_match`: only while the row has this etag (`W/"…"`); `*`: whatever it has.

    Raises ValueError for what could not be sent without harm: there is no way to leave `If-Match` out, which would
    make a row where there is none (section 3.1).
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
    """What became of one update. `reason`: in our words, and of a refusal also in the server's, see `masked`; at most
    300 characters.

    done     the row is as we asked
    missing  there is no such row
    changed  the row has another etag by now; after a lost answer it may be our own write that changed it: read it again
    refused  never for this row as it is
    """

    id: str
    kind: Literal["done", "missing", "changed", "refused"]
    reason: str = ""


async def update_rows(
    client: DataverseClient, table: Table, updates: Sequence[RowUpdate], *, size: int = 100, parallel: int = 4
) -> list[UpdateResult]:
    """Carries out the updates, `size` in a request and `parallel` requests at once; a result for each, in their order.

    No row may stand in `updates` twice (ValueError): what runs at once has no order. Throttling stops every worker of
    the client. What says nothing about single rows is raised, and then any of the updates may have been carried out;
    all of them can be sent again without harm. Raises D365Refused (the role may not write, the table is not known),
    Unavailable, HttpError (an answer that cannot be matched with what was asked), and what `Endpoint.send` raises.
    """
    if len({update.id.lower() for update in updates}) != len(updates):
        raise ValueError("a row stands in the updates twice")
    size = max(1, min(size, MOST_IN_A_BATCH))
    slices = [_Slice(client, table, updates[start : start + size]) for start in range(0, len(updates), size)]
    free = asyncio.Semaphore(max(1, parallel))

    async def carry_out(part: _Slice) -> list[UpdateResult]:
        async with free:
            return await part.carry_out()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(carry_out(part)) for part in slices]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # the others ended for the same reason, or were cancelled
    return [result for task in tasks for result in task.result()]


@dataclass(slots=True)
class _Slice:
    """One request's worth of updates, sent again, those that are open, until each has its result."""

    client: DataverseClient
    table: Table
    updates: Sequence[RowUpdate]
    results: dict[int, UpdateResult] = field(default_factory=dict[int, UpdateResult])
    unheard: set[int] = field(default_factory=set[int])  # left without an answer once
    failed: Counter[int] = field(default_factory=Counter[int])  # how often Dataverse failed on an update
    status: int = 0  # of the last answer to a whole request

    async def carry_out(self) -> list[UpdateResult]:
        patience = self.client.endpoint.patience
        left = list(range(len(self.updates)))
        give_up_at, attempt = time.monotonic() + patience, 0
        while True:
            parts = await self._send([self.updates[number] for number in left])
            again = [number for number, part in zip(left, parts, strict=True) if not self._settle(number, part)]
            if not again:
                return [self.results[number] for number in range(len(self.updates))]
            if len(again) < len(left):  # there is progress, so it pays to go on
                give_up_at, attempt = time.monotonic() + patience, 0
            wait = self._wait([part for part in parts if part], attempt)
            if time.monotonic() + wait > give_up_at:
                status = max((part.status for part in parts if part and part.status in THROTTLED), default=self.status)
                raise Unavailable(
                    f"Dynamics 365 kept answering {status} to updates of a $batch for {patience:.0f} s.", status=status
                )
            await asyncio.sleep(wait)
            left, attempt = again, attempt + 1

    async def _send(self, updates: Sequence[RowUpdate]) -> list[Response | None]:
        """The answer to each of the updates, None where there is none."""
        boundary = f"batch_{uuid.uuid4()}"
        answer = await self.client.endpoint.send(
            "POST",
            "$batch",
            body=_body(self.table, updates, boundary),
            headers={
                "Content-Type": f'multipart/mixed; boundary="{boundary}"',
                "Prefer": "odata.continue-on-error",
            },
            repeat_unknown=True,  # the same flags twice do no harm
        )
        self.status = answer.status
        if answer.status >= 500:
            return [None] * len(updates)
        if not is_multipart(answer) and not 200 <= answer.status < 300:
            raise _stopping(answer, self.table) or refusal(answer, self.table.name)
        parts = read_parts(answer)
        if len(parts) > len(updates):
            raise HttpError(f"Dynamics 365 gave {len(parts)} answers to the {len(updates)} updates of a $batch.")
        for update, part in zip(updates, parts, strict=False):
            if part and (row_id(part) or update.id.lower()) != update.id.lower():
                raise HttpError("Dynamics 365 answered the updates of a $batch in another order than it was asked.")
        return parts + [None] * (len(updates) - len(parts))

    def _settle(self, number: int, part: Response | None) -> bool:
        """Takes in the answer to one update; False: it is to be sent again."""
        if part is None:
            if number in self.unheard:
                raise Unavailable(
                    f"Dynamics 365 twice left updates of a $batch without an answer (status {self.status}).",
                    status=self.status,
                )
            self.unheard.add(number)
            return False
        if part.status in THROTTLED:
            return False
        if part.status >= 500:
            self.failed[number] += 1
            if self.failed[number] < TRIES:
                return False
        self.results[number] = outcome(self.updates[number], part, self.table)
        return True

    def _wait(self, parts: Sequence[Response], attempt: int) -> float:
        """Seconds until the next try. What Dataverse says about waiting goes for every worker (section 4)."""
        told = max((seconds for part in parts if (seconds := _told(part)) is not None), default=None)
        wait = backoff(attempt) if told is None else told + random.uniform(0, 0.25)  # noqa: S311
        if told is not None or any(part.status in THROTTLED for part in parts):
            self.client.endpoint.pause.hold(wait)
        return wait


def _told(part: Response) -> float | None:
    """Seconds of a part's own `Retry-After`, if it is to be sent again."""
    if part.status not in THROTTLED and part.status < 500:
        return None
    try:
        return retry_after(part.headers)
    except OverflowError:  # a date of a year that no calendar has
        return None


def _body(table: Table, updates: Sequence[RowUpdate], boundary: str) -> bytes:
    lines: list[bytes] = []
    for update in updates:
        lines += [
            f"--{boundary}".encode(),
            b"Content-Type: application/http",
            b"Content-Transfer-Encoding: binary",
            b"",
            f"PATCH {API}/{table.set_name}({update.id.lower()}) HTTP/1.1".encode(),
            b"Content-Type: application/json; type=entry",
            f"If-Match: {update.if_match}".encode(),
            b"",
            msgspec.json.encode(dict(update.values)),
        ]
    return b"\r\n".join([*lines, f"--{boundary}--".encode(), b""])


# --- what a part means ----------------------------------------------------------------------------------------------

_NO_PRIVILEGE, _NO_USER, _NO_TABLE = "0x80040220", "0x80072560", "0x8006088a"
_NO_ROW = frozenset({"0x80040217", "0x0", ""})
_DUPLICATES = frozenset({"0x80040237", "0x80060892", "0x80040333"})
"""Codes of a 412 that speaks of another row with the same values, not of the etag."""
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
    """The result that a part stands for. Raises D365Refused, SignInRefused where it goes for every row alike."""
    if 200 <= part.status < 300:
        return UpdateResult(update.id, "done")
    if error := _stopping(part, table):
        raise error
    code, message = _said(part)
    if part.status == 404 and code in _NO_ROW:
        return UpdateResult(update.id, "missing", f"Dynamics 365 has no such row ({_shown(part, code)}).")
    if part.status == 412 and code not in _DUPLICATES:
        return UpdateResult(update.id, "changed", f"The row has changed since it was read ({_shown(part, code)}).")
    names = [name for name in update.values if re.search(rf"\b{re.escape(name)}\b", message)]
    about = f" of {', '.join(names)}" if names else ""
    meaning = _MEANINGS.get(code) or ("the server failed" if part.status >= 500 else "")
    if _READ_ONLY.search(message):
        meaning = "the row seems to be inactive or read-only"
    told = f"Dynamics 365 refuses the change{about} ({_shown(part, code)})" + (f": {meaning}." if meaning else ".")
    if message.strip():
        told += f" It says: {masked(message)}"
    return UpdateResult(update.id, "refused", told if len(told) <= REASON_LENGTH else f"{told[: REASON_LENGTH - 1]}…")


_TOKEN = re.compile(r"\w(?:[\w.,:/+-]*\w)?")
_CODE_OR_NAME = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[a-z][a-z0-9_]*")
"""Words that may have digits: error codes, and names of columns such as `address1_line1`."""


def masked(message: str) -> str:
    """What Dynamics 365 says of a refusal, in one line: ids, addresses, numbers and quoted texts that are no names of
    the data model are taken out."""

    def hidden(found: re.Match[str]) -> str:
        token = found[0]
        return token if token.isalpha() or _CODE_OR_NAME.fullmatch(token) or not re.search(r"\d", token) else "…"

    return _TOKEN.sub(hidden, _GUID.sub("…", redact(message, None)))


def _stopping(part: Response, table: Table) -> HttpError | D365Refused | None:
    """The error for a refusal that every other row would meet as well; None for one of this row."""
    code, _ = _said(part)
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


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Error


def _said(part: Response) -> tuple[str, str]:
    """(code in lower case, or empty; message, which may quote values: see `masked`)."""
    try:
        error = msgspec.json.decode(part.body, type=_ErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "", ""
    return error.code.lower() if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", error.code) else "", error.message
