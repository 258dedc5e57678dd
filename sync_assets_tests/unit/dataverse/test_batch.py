"""Updates by `$batch`: each row gets its result, whatever becomes of the others and of the connection."""

import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import strategies as st

from sync_assets.dataverse import batch
from sync_assets.dataverse.batch import (
    REASON_LENGTH,
    UPDATE_TRIES,
    RowUpdate,
    UpdateResult,
    masked,
    outcome,
    update_rows,
)
from sync_assets.dataverse.client import D365Refused, DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.http.transport import HttpError, Response, SignInRefused, Unavailable
from sync_assets_tests.support.little_server import LittleServer, Request, answer, dataverse_of
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTACT = Table("contact", "contacts", "contactid", True, {})
STALE = 'W/"1"'
CONTACTS = 1000


def rows(sandbox: SandboxProcess) -> dict[str, dict[str, Any]]:
    return {row["contactid"]: row for row in sandbox.admin.dump_d365()}


def new(sandbox: SandboxProcess, count: int, **values: Any) -> list[str]:
    return sandbox.admin.create("contact", *({"lastname": f"Byron{n}", **values} for n in range(count)))


def kinds(results: list[UpdateResult]) -> list[str]:
    return [result.kind for result in results]


def batches(sandbox: SandboxProcess, since: int) -> list[dict[str, Any]]:
    return [entry for entry in sandbox.admin.journal("d365", since) if entry["path"].endswith("/$batch")]


# --- what becomes of rows ---


async def test_a_thousand_rows_take_ten_requests_and_answer_in_their_order(
    client: DataverseClient, shared: SandboxProcess
) -> None:
    before = rows(shared)
    ids = sorted(before, reverse=True)[:1000]
    updates = [RowUpdate(id_, {"donotemail": not before[id_]["donotemail"], "donotfax": True}) for id_ in ids]
    since = shared.admin.last()
    results = await update_rows(client, CONTACT, updates)
    assert results == [UpdateResult(id_, "done") for id_ in ids]
    assert len(batches(shared, since)) == 10
    now = rows(shared)
    assert all(now[id_]["donotemail"] is not before[id_]["donotemail"] and now[id_]["donotfax"] for id_ in ids)
    untouched = set(before[ids[0]]) - {"donotemail", "donotfax", "modifiedon", "versionnumber", "@odata.etag"}
    assert all(now[id_][name] == before[id_][name] for id_ in ids for name in untouched)


async def test_each_row_fares_by_itself(client: DataverseClient, shared: SandboxProcess) -> None:
    shared.admin.settings("d365", inactive_read_only=True)
    good, current, stale, inactive, odd, last = new(shared, 6)
    shared.admin.change("contact", [inactive], statecode=1)
    gone = str(uuid.uuid4())
    before = rows(shared)
    results = await update_rows(
        client,
        CONTACT,
        [
            RowUpdate(good.upper(), {"donotemail": True}),
            RowUpdate(gone, {"donotemail": True}),
            RowUpdate(current, {"donotemail": True, "preferredcontactmethodcode": 3}, before[current]["@odata.etag"]),
            RowUpdate(stale, {"donotemail": True}, STALE),
            RowUpdate(inactive, {"donotemail": True}),
            RowUpdate(odd, {"donotemail": True, "new_nothing": True}),
            RowUpdate(last, {"preferredcontactmethodcode": None}),
        ],
    )
    assert kinds(results) == ["done", "missing", "done", "changed", "refused", "refused", "done"]
    assert [result.id for result in results] == [good.upper(), gone, current, stale, inactive, odd, last]
    now = rows(shared)
    assert [now[id_]["donotemail"] for id_ in (good, current, stale, inactive, odd, last)] == [True, True] + [False] * 4
    assert (now[current]["preferredcontactmethodcode"], now[last]["preferredcontactmethodcode"]) == (3, None)
    assert gone not in now, "a row that was missing has been made"
    assert results[1].reason == "Dynamics 365 has no such row (404 0x80040217)."
    assert "412 0x80060882" in results[3].reason
    assert "inactive" in results[4].reason
    assert "of new_nothing (400 0x80048d19)" in results[5].reason


# --- when requests fail ---


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "throttle", "retry_after": 1},
        {"kind": "unavailable"},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 504},
        {"kind": "unauthorized"},
        {"kind": "cut_before"},
        {"kind": "cut_after"},
    ],
)
async def test_a_request_that_fails_once_is_sent_again(
    client: DataverseClient, shared: SandboxProcess, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ROWS_IN_A_BATCH", 5)
    ids = new(shared, 20)
    shared.admin.faults({"system": "d365", "times": 1, "path": "batch", **fault})
    results = await update_rows(client, CONTACT, [RowUpdate(id_, {"donotemail": True}) for id_ in ids])
    assert kinds(results) == ["done"] * 20
    assert shared.admin.fault_rules()[0]["fired"] == 1
    now = rows(shared)
    assert all(now[id_]["donotemail"] for id_ in ids)


async def test_a_server_that_fails_again_a_role_that_may_not_write_and_an_unknown_table_end_it(
    client: DataverseClient, shared: SandboxProcess
) -> None:
    updates = [RowUpdate(id_, {"donotemail": True}) for id_ in new(shared, 5)]
    shared.admin.fault("d365", "status", status=500, path="batch")
    with pytest.raises(Unavailable, match="twice") as failed:
        await update_rows(client, CONTACT, updates)
    assert failed.value.status == 500
    shared.admin.clear_faults()
    shared.admin.fault("d365", "forbidden", path="batch")
    since = shared.admin.last()
    with pytest.raises(D365Refused, match=r"organisation-level write on contact\.") as raised:
        await update_rows(client, CONTACT, updates)
    assert raised.value.code == "0x80040220"
    assert len(batches(shared, since)) == 1
    shared.admin.clear_faults()
    with pytest.raises(D365Refused, match="contactz"):
        await update_rows(client, Table("contactz", "contactzs", "contactzid", True, {}), updates[:1])


# --- what cannot be asked for ---


@pytest.mark.parametrize(
    ("id_", "if_match"),
    [
        ("", "*"),
        ("ada@example.com", "*"),
        ("0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b)\r\nX: y", "*"),
        ("0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b", ""),
        ("0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b", "1001"),
        ("0f3a9c12-5b7d-4e21-9a60-3c1d2e4f5a6b", 'W/"1"\r\nX: y'),
    ],
)
def test_an_update_without_a_row_or_without_if_match_cannot_be_made(id_: str, if_match: str) -> None:
    with pytest.raises(ValueError, match="must be") as raised:
        RowUpdate(id_, {"donotemail": True}, if_match)
    assert "ada" not in str(raised.value)


async def test_an_update_that_changes_nothing_and_a_row_that_stands_in_the_updates_twice_cannot_be_made(
    client: DataverseClient,
) -> None:
    id_ = str(uuid.uuid4())
    with pytest.raises(ValueError, match="empty"):
        RowUpdate(id_, {})
    with pytest.raises(ValueError, match="twice"):
        await update_rows(client, CONTACT, [RowUpdate(id_, {"a": True}), RowUpdate(id_.upper(), {"a": False})])


# --- what a refusal leaves behind ---

WORDS = st.text(st.characters(codec="utf-8", categories=("L", "P", "Zs")), max_size=500)
IDS = st.one_of(
    st.uuids().map(str),
    st.uuids().map(lambda id_: str(id_).upper()),
    st.emails(domains=st.just("example.com")).filter(lambda address: re.fullmatch(r"[a-z0-9.@]{12,}", address)),
    st.integers(10_000, 10**15).map(str),
    st.from_regex(r"\A[A-Z]{2,4}[0-9]{4,8}\Z"),
    st.from_regex(r"\A\+49 [0-9]{3,4} [0-9]{4,7}\Z"),
)


def part(status: int, code: str, message: str = "", values: dict[str, Any] | None = None) -> UpdateResult:
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return outcome(RowUpdate(str(uuid.uuid4()), values or {"a": 1}), Response(status, httpx.Headers(), body), CONTACT)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("The contact is inactive.", "The contact is inactive."),
        ("Plug-in Acme.Block: not while case CAS-01042-X1 is open.", "Plug-in Acme.Block: not while case … is open."),
        ("Contact With Id = 9FDC7CF8-5E7B-ED11-81AD-000D3A3A1A3B Does Not Exist", "Contact With Id = … Does Not Exist"),
        ("jane.doe@example.com is 42,5 years old", "… is … years old"),
        ("call +49 (0) 711 123456-0", "call +… (…) …"),
        ("'donotemail' of 'Jane Doe' may not be 'true'", "'donotemail' of '…' may not be 'true'"),
        ("address1_line1 is too long (0x80044330)\r\n  at line 7", "address1_line1 is too long (0x80044330) at line …"),
        ("am 2026-11-26T10:00:00Z gesperrt", "am … gesperrt"),
    ],
)
def test_a_refusal_quotes_the_server_with_ids_addresses_and_numbers_masked(message: str, shown: str) -> None:
    assert masked(message) == shown
    result = part(400, "0x80040265", message)
    assert result.reason.endswith(f"does not allow it. It says: {shown}") or "inactive" in result.reason


def test_a_reason_names_the_columns_that_dataverse_names_and_is_cut() -> None:
    values = {f"new_column_with_a_long_name_{n}": True for n in range(20)}
    message = f"No access to {', '.join(values)}, not even for Ada."
    result = part(400, "0x80040203", message, values)
    assert "new_column_with_a_long_name_0, new_column_with_a_long_name_1" in result.reason
    assert len(result.reason) == REASON_LENGTH


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "0x80040217", "missing"),
        (404, "", "missing"),
        (404, "0x80048d02", "refused"),  # a plug-in's own 404
        (412, "0x80060882", "changed"),
        (412, "", "changed"),
        (412, "0x80060892", "refused"),  # an alternate key is taken
        (400, "0x80040265", "refused"),
        (304, "", "refused"),
    ],
)
def test_the_meaning_of_a_part(status: int, code: str, kind: str) -> None:
    assert part(status, code).kind == kind


def test_a_part_that_lacks_a_privilege_or_a_token_stops_all() -> None:
    with pytest.raises(D365Refused, match="organisation-level write on contact"):
        part(403, "0x80040220", "Principal user is missing prvWriteContact")
    with pytest.raises(SignInRefused):
        part(401, "")


# --- on the wire ---

Served = Callable[[Request, list[str]], bytes | Awaitable[bytes]]


@asynccontextmanager
async def served(directory: Path, script: Served) -> AsyncIterator[tuple[DataverseClient, LittleServer]]:
    """A client of a server that answers a batch by `script(request, ids of its rows in their order)`."""

    def result(request: Request) -> bytes | Awaitable[bytes]:
        return script(request, re.findall(r"contacts\((.{36})\)", request.body.decode()))

    async with LittleServer(directory, result) as server, dataverse_of(server) as client:
        yield client, server


def multipart(*parts: str, status: int = 200) -> bytes:
    """Each part as `204`, or with headers and body behind it."""
    body = "".join(f"--x\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {part}\r\n\r\n\r\n" for part in parts)
    return answer(status, f"{body}--x--\r\n".encode(), Content_Type="multipart/mixed; boundary=x")


def some(count: int) -> list[RowUpdate]:
    return [RowUpdate(str(uuid.UUID(int=n + 1)), {"donotemail": True}) for n in range(count)]


async def test_the_request_is_as_documented(tmp_path: Path) -> None:
    first, second = some(1)[0], RowUpdate(str(uuid.UUID(int=255)).upper(), {"donotfax": None, "gendercode": 2}, 'W/"7"')
    async with served(tmp_path, lambda *_: multipart("204", "204")) as (client, server):
        await update_rows(client, CONTACT, [first, second])
    [request] = server.requests
    assert (request.method, request.target) == ("POST", "/api/data/v9.2/$batch")
    assert request.headers["prefer"] == "odata.continue-on-error"
    match = re.fullmatch(r'multipart/mixed; boundary="(batch_[0-9a-f-]{36})"', request.headers["content-type"])
    assert match
    lines = [
        "--B",
        "Content-Type: application/http",
        "Content-Transfer-Encoding: binary",
        "",
        "PATCH /api/data/v9.2/contacts(00000000-0000-0000-0000-000000000001) HTTP/1.1",
        "Content-Type: application/json; type=entry",
        "If-Match: *",
        "",
        '{"donotemail":true}',
        "--B",
        "Content-Type: application/http",
        "Content-Transfer-Encoding: binary",
        "",
        "PATCH /api/data/v9.2/contacts(00000000-0000-0000-0000-0000000000ff) HTTP/1.1",
        "Content-Type: application/json; type=entry",
        'If-Match: W/"7"',
        "",
        '{"donotfax":null,"gendercode":2}',
        "--B--",
        "",
    ]
    assert request.body.decode().replace(match[1], "B") == "\r\n".join(lines)


async def test_parts_that_are_throttled_are_sent_again_and_hold_up_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ROWS_IN_A_BATCH", 3)
    monkeypatch.setattr(batch, "BATCHES_AT_ONCE", 1)

    async def script(request: Request, ids: list[str]) -> bytes:
        if len(server.requests) == 1:
            return multipart("204", "429 Too Many\r\nRetry-After: 1", "503 Busy")
        return multipart(*["204"] * len(ids))

    async with served(tmp_path, script) as (client, server):
        results = await update_rows(client, CONTACT, some(12))
    assert kinds(results) == ["done"] * 12
    sent = [len(re.findall("PATCH", request.body.decode())) for request in server.requests]
    assert sent == [3, 2, 3, 3, 3]
    assert server.requests[1].at - server.requests[0].at >= 1


async def test_throttling_without_end_is_given_up(tmp_path: Path) -> None:
    async with served(tmp_path, lambda *_: multipart("429 X\r\nRetry-After: 3600")) as (client, server):
        with pytest.raises(Unavailable, match="429"):
            await update_rows(client, CONTACT, some(1))
    assert len(server.requests) == 1


async def test_a_row_that_the_server_fails_on_is_refused_and_the_others_are_done(tmp_path: Path) -> None:
    failing = str(uuid.UUID(int=2))
    broken = '500 X\r\n\r\n{"error":{"code":"0x80040216","message":"Call 555 0100"}}'

    def script(_: Request, ids: list[str]) -> bytes:
        return multipart(*(broken if id_ == failing else "204" for id_ in ids))

    async with served(tmp_path, script) as (client, server):
        results = await update_rows(client, CONTACT, some(3))
    assert kinds(results) == ["done", "refused", "done"]
    assert results[1].reason == "Dynamics 365 refuses the change (500 0x80040216): the server failed. It says: Call …"
    assert len(server.requests) == UPDATE_TRIES


async def test_updates_without_an_answer_are_sent_again_once(tmp_path: Path) -> None:
    answers = [multipart("204", "404"), multipart("204")]
    async with served(tmp_path, lambda *_: answers.pop(0)) as (client, server):
        assert kinds(await update_rows(client, CONTACT, some(3))) == ["done", "missing", "done"]
    assert server.requests[1].body.decode().count("PATCH") == 1

    async with served(tmp_path, lambda *_: multipart("204")) as (client, server):
        with pytest.raises(Unavailable, match="without an answer"):
            await update_rows(client, CONTACT, some(4))
    assert len(server.requests) == 2


async def test_a_server_that_stops_at_the_first_error_is_asked_for_the_rest(tmp_path: Path) -> None:
    answers = [multipart("204", '400 X\r\n\r\n{"error":{"code":"0x80040203"}}', status=400), multipart("204")]
    async with served(tmp_path, lambda *_: answers.pop(0)) as (client, _):
        assert kinds(await update_rows(client, CONTACT, some(3))) == ["done", "refused", "done"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (multipart("204", "204", "204"), "3 answers to the 2 updates"),
        (multipart("204", f"204\r\nOData-EntityId: https://x/contacts({uuid.UUID(int=1)})"), "another order"),
        (answer(200, b"<html>Welcome</html>", Content_Type="text/html"), "multipart/mixed"),
        (answer(200, b"--x", Content_Type="multipart/mixed"), "multipart/mixed"),
    ],
)
async def test_answers_that_cannot_be_matched_are_an_error(tmp_path: Path, content: bytes, words: str) -> None:
    async with served(tmp_path, lambda *_: content) as (client, _):
        with pytest.raises(HttpError, match=words):
            await update_rows(client, CONTACT, some(2))
