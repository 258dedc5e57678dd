"""Rows as they are now: asked for by id, many at once, and told with what an update needs of them."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_assets.dataverse.batch import RowUpdate, update_rows
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.metadata import Table
from sync_assets.dataverse.page_parser import BadPage
from sync_assets.dataverse.row_queries import rows_now
from sync_assets_tests.support.sandbox_process import SandboxProcess

CONTACTS = 1000

CONTACT = Table("contact", "contacts", "contactid", True, {})
COLUMNS = ["donotemail", "preferredcontactmethodcode"]


def rows(sandbox: SandboxProcess) -> dict[str, dict[str, Any]]:
    return {row["contactid"]: row for row in sandbox.admin.dump_d365()}


async def test_a_thousand_rows_among_ids_that_are_gone(client: DataverseClient, shared: SandboxProcess) -> None:
    there = rows(shared)
    ids = [*there, *(str(uuid.uuid4()) for _ in range(100))]
    since = shared.admin.last()
    result = await rows_now(client, CONTACT, COLUMNS, ids)
    assert len(shared.admin.journal("d365", since)) == -(-len(ids) // 250)
    assert result.keys() == there.keys()
    for id_, row in there.items():
        assert result[id_].id == id_
        assert result[id_].etag == row["@odata.etag"]
        assert result[id_].modified == datetime.fromisoformat(row["modifiedon"])
        assert result[id_].values == {name: row[name] for name in COLUMNS}


async def test_ids_in_any_case_once_or_twice_are_the_same_row(client: DataverseClient, shared: SandboxProcess) -> None:
    [id_] = shared.admin.change("contact", 1, donotemail=True, preferredcontactmethodcode=None)
    result = await rows_now(client, CONTACT, COLUMNS, [id_.upper(), id_])
    assert result.keys() == {id_}
    assert result[id_].values == {"donotemail": True, "preferredcontactmethodcode": None}


async def test_an_answer_in_several_pages_is_followed(client: DataverseClient, shared: SandboxProcess) -> None:
    shared.admin.settings("d365", page_limit=40)
    ids = list(rows(shared))[:300]
    since = shared.admin.last()
    assert (await rows_now(client, CONTACT, COLUMNS, ids)).keys() == set(ids)
    assert len(shared.admin.journal("d365", since)) == 7 + 2


async def test_times_are_whole_seconds_in_utc(client: DataverseClient, shared: SandboxProcess) -> None:
    shared.admin.settings("d365", milliseconds=True)
    [id_] = shared.admin.change("contact", 1, donotemail=False)
    shown = rows(shared)[id_]["modifiedon"]
    assert "." in shown
    modified = (await rows_now(client, CONTACT, [], [id_]))[id_].modified
    assert modified
    assert (modified.microsecond, modified.tzinfo) == (0, UTC)
    assert timedelta(0) <= datetime.fromisoformat(shown) - modified < timedelta(seconds=1)


async def test_the_etag_is_good_for_an_update_until_the_row_changes(
    client: DataverseClient, shared: SandboxProcess
) -> None:
    [id_] = shared.admin.create("contact", {"lastname": "Byron"})
    etag = (await rows_now(client, CONTACT, COLUMNS, [id_]))[id_].etag
    assert etag
    update = RowUpdate(id_, {"donotemail": True}, etag)
    kinds = [(await update_rows(client, CONTACT, [update]))[0].kind for _ in range(2)]
    assert kinds == ["done", "changed"]
    assert (await rows_now(client, CONTACT, COLUMNS, [id_]))[id_].values["donotemail"] is True


async def test_a_column_of_another_type_is_reported_without_its_values(
    client: DataverseClient, shared: SandboxProcess
) -> None:
    [id_] = shared.admin.create("contact", {"lastname": "Byron", "firstname": "Augusta"})
    with pytest.raises(BadPage, match="firstname") as raised:
        await rows_now(client, CONTACT, ["firstname"], [id_])
    assert "Augusta" not in str(raised.value)
