"""The Dataverse client against the sandbox: sign-in, metadata, the feed, and what refusals mean."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec
import pytest

from sync_assets.dataverse.client import (
    D365Refused,
    DataverseClient,
    FeedExpired,
    ServerFailed,
    SetUpRefused,
    TrackingOff,
    refusal,
)
from sync_assets.dataverse.page_parser import Head
from sync_assets.http.transport import HttpError, Response, SignInRefused
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.ledger_access import RunOptions
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTACTS = 30

T = TypeVar("T")
Use = Callable[[DataverseClient], Awaitable[T]]


def use(sandbox: SandboxProcess, work: Use[T], **more: str) -> T:
    async def run() -> T:
        async with Runtime(sandbox.env | more, use=RunOptions(any_ledger=True)).d365() as client:
            return await work(client)

    return asyncio.run(run())


async def follow(client: DataverseClient, link: str, *, tracked: bool, size: int = 5000) -> tuple[list[str], str]:
    """All pages: the ids of their rows, deletions as `-id`, and the delta link."""
    ids: list[str] = []
    while True:
        page = msgspec.json.decode(await client.page(link, tracked=tracked, size=size, table="contact"))
        ids += [row.get("contactid") or f"-{row['id']}" for row in page["value"]]
        if "@odata.deltaLink" in page:
            return ids, page["@odata.deltaLink"]
        link = page["@odata.nextLink"]


async def first_read(client: DataverseClient, size: int = 5000) -> tuple[list[str], str]:
    table = await client.table("contact", [])
    return await follow(client, client.first_page(table, ["firstname"]), tracked=True, size=size)


def test_metadata_names_types_and_labels(shared: SandboxProcess) -> None:
    contact = use(shared, lambda client: client.table("contact"))
    assert (contact.set_name, contact.key, contact.change_tracking) == ("contacts", "contactid", True)
    types = {name: contact.columns[name].type for name in ("contactid", "birthdate", "modifiedon", "gendercode")}
    assert types == {"contactid": "guid", "birthdate": "date", "modifiedon": "datetime", "gendercode": "picklist"}
    assert contact.columns["gendercode"].labels == {1: "Male", 2: "Female"}
    assert contact.columns["donotemail"].labels == {0: "Allow", 1: "Do Not Allow"}
    assert contact.columns["new_interests"].type == "multiselect"
    assert contact.columns["parentcustomerid"].select_name == "_parentcustomerid_value"


def test_an_unknown_table_is_named(shared: SandboxProcess) -> None:
    with pytest.raises(D365Refused, match=r"has no table `new_nothing`"):
        use(shared, lambda client: client.table("new_nothing"))


def test_a_feed_is_followed_over_pages_to_its_delta_link_and_then_brings_changes_only(shared: SandboxProcess) -> None:
    async def work(client: DataverseClient) -> tuple[list[str], list[str], list[str]]:
        everything, delta = await first_read(client, size=7)
        nothing, delta = await follow(client, delta, tracked=False)
        changed = await asyncio.to_thread(shared.admin.change, "contact", 2, jobtitle="New")
        [gone] = await asyncio.to_thread(shared.admin.create, "contact", {"lastname": "Brief"})
        await asyncio.to_thread(shared.admin.delete, "contact", [gone])
        news, _ = await follow(client, delta, tracked=False)
        assert nothing == []
        return everything, news, [*changed, f"-{gone}"]

    everything, news, expected = use(shared, work)
    assert len(everything) == len(set(everything)) == 30
    assert sorted(news) == sorted(expected)


def ids_and_values(heads: list[Head]) -> dict[str, str | None]:
    rows = [msgspec.json.decode(row) for head in heads for row in head.value]
    return {row["contactid"]: row["jobtitle"] for row in rows}


def test_single_rows_are_read_by_their_ids_as_they_are_now(shared: SandboxProcess) -> None:
    async def work(client: DataverseClient) -> tuple[list[str], list[Head]]:
        everything, _ = await first_read(client)
        wanted = await asyncio.to_thread(shared.admin.change, "contact", everything[:3], jobtitle="Reader")
        [gone] = await asyncio.to_thread(shared.admin.create, "contact", {"lastname": "Brief"})
        await asyncio.to_thread(shared.admin.delete, "contact", [gone])
        table = await client.table("contact", [])
        return wanted, [head async for head in client.rows(table, ["contactid", "jobtitle"], [*wanted, gone])]

    wanted, heads = use(shared, work)
    assert ids_and_values(heads) == dict.fromkeys(wanted, "Reader")


def test_links_travel_as_they_were_given_and_an_expired_position_differs_from_other_refusals(
    shared: SandboxProcess,
) -> None:
    async def work(client: DataverseClient) -> None:
        _, delta = await first_read(client)
        await follow(client, delta, tracked=False)
        assert delta.endswith((await asyncio.to_thread(shared.admin.journal, "d365"))[-1]["path"])
        await asyncio.to_thread(shared.admin.expire, "contact")
        await follow(client, delta, tracked=False)

    with pytest.raises(FeedExpired):
        use(shared, work)


def test_the_sign_in_is_not_led_astray_by_the_bundle_that_requests_believes_in(
    shared: SandboxProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_text("")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(other))
    assert use(shared, lambda client: client.who_am_i())


def test_a_wrong_secret_is_explained_and_not_shown(shared: SandboxProcess) -> None:
    with pytest.raises(SignInRefused, match="AADSTS7000215") as raised:
        use(shared, lambda client: client.who_am_i(), D365_CLIENT_SECRET="hush-hush")
    assert "D365_CLIENT_SECRET" in str(raised.value)
    assert "hush-hush" not in str(raised.value)


def test_a_certificate_of_an_unknown_authority_is_refused(shared: SandboxProcess) -> None:
    with pytest.raises(HttpError, match="SYNC_ASSETS_CA_BUNDLE"):
        use(shared, lambda client: client.who_am_i(), SYNC_ASSETS_CA_BUNDLE="")


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "expected"),
    [
        (400, "0x80044352", "", FeedExpired, "The next sync reads the table in full."),
        (410, "0x80044352", "", FeedExpired, "The next sync reads the table in full."),
        (400, "0x80072491", "Entity contact isn't enabled", TrackingOff, "Switch it on"),
        (403, "0x80040220", "SecLib::Crm", SetUpRefused, "organisation-level read"),
        (403, "0x80072560", "", SetUpRefused, "application user"),
        (
            400,
            "0x80060888",
            "Could not find a property named 'x1' on type 'Microsoft.Dynamics.CRM.contact'.",
            SetUpRefused,
            "column x1 (table contact)",
        ),
        (403, "", "", SetUpRefused, "403"),
        (404, "0x0", "", SetUpRefused, "Check D365_URL"),
        (500, "0x80040216", "boom", ServerFailed, "answered 500 0x80040216"),
    ],
)
def test_the_meaning_of_a_refusal(status: int, code: str, message: str, kind: type, expected: str) -> None:
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    error = refusal(Response(status, httpx.Headers(), body), "contact")
    assert type(error) is kind
    assert expected in str(error)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, "0x80060888", "Invalid delta token '919042!08/22/2017 08:10:44'.", FeedExpired),  # after a restore
        (400, "0x80060888", "", FeedExpired),
        (400, "0x80040203", "Invalid argument", FeedExpired),
        (410, "", "", FeedExpired),
        (
            400,
            "0x80060888",
            "Could not find a property named 'x1' on type 'Microsoft.Dynamics.CRM.contact'.",
            SetUpRefused,
        ),
        (400, "0x80072491", "Entity contact isn't enabled", TrackingOff),
        (400, "0x80040220", "SecLib::Crm", SetUpRefused),
        (403, "", "", SetUpRefused),
        (404, "0x80060888", "", SetUpRefused),
        (500, "0x80040216", "", ServerFailed),
    ],
)
def test_a_cursor_that_is_not_understood_has_expired(status: int, code: str, message: str, kind: type) -> None:
    answer = Response(status, httpx.Headers(), msgspec.json.encode({"error": {"code": code, "message": message}}))
    assert type(refusal(answer, "contact", of_cursor=True)) is kind
    assert type(refusal(answer, "contact")) is not FeedExpired


def test_tables_with_change_tracking_are_listed_with_their_labels(shared: SandboxProcess) -> None:
    listed = {table.name: table for table in use(shared, lambda client: client.tables())}
    assert list(listed) == ["account", "contact", "new_order", "new_orderline"]
    assert (listed["new_orderline"].label, listed["new_orderline"].custom) == ("Order Line", True)
    assert not listed["contact"].custom


def test_a_table_is_described_with_labels_lengths_and_targets(shared: SandboxProcess) -> None:
    plain = use(shared, lambda client: client.table("contact"))
    contact = use(shared, lambda client: client.described("contact"))
    assert contact.columns.keys() == plain.columns.keys()
    result = {name: contact.columns[name] for name in ("firstname", "description", "parentcustomerid", "gendercode")}
    assert {name: column.label for name, column in result.items()} == {
        "firstname": "First Name",
        "description": "Description",
        "parentcustomerid": "Company Name",
        "gendercode": "Gender",
    }
    assert [column.max_length for column in result.values()] == [50, 2000, None, None]
    assert result["parentcustomerid"].targets == ("account", "contact")
    assert result["gendercode"].labels == {1: "Male", 2: "Female"}
