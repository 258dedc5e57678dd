"""Whole syncs while Dynamics 365 sends pages of too many bytes, or a row without an id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from sync_assets.dataverse import client
from sync_assets.http.transport import Limits
from sync_assets_tests.conftest import SandboxFactory
from sync_assets_tests.support.program import CONTACT, Program

ORDERS = {"table": "new_order", "resource": "cusOrder", "key": "cusOrderId", "fields": {"new_name": "cusName"}}


@pytest.fixture
def two_tables(sandbox_factory: SandboxFactory, tmp_path: Path) -> Program:
    sandbox = sandbox_factory(contacts=20)
    sandbox.admin.settings("campaign", hide_orphans=False)
    return Program(sandbox, tmp_path, dict(CONTACT), further=[dict(ORDERS)])


def test_a_row_without_an_id_stops_its_table_alone(two_tables: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    page = client.DataverseClient.page

    async def nulled(self: client.DataverseClient, link: str, **how: Any) -> bytes:
        return re.sub(rb'"contactid": ?"[^"]+"', b'"contactid":null', await page(self, link, **how), count=1)

    admin = two_tables.sandbox.admin
    with monkeypatch.context() as patch:
        patch.setattr(client.DataverseClient, "page", nulled)
        done = two_tables.sync()
    assert done.status != 0
    assert [str(error) for error in done.problems] == [
        "Dynamics 365 sent a row of contact whose id (contactid) is null. Its page was not stored. Find the row in "
        "Dynamics 365, or a proxy that changes answers; the capture goes on at this page."
    ]
    assert admin.dump_campaign() == []
    assert len(admin.dump_campaign("cusOrder")) == len(admin.dump_d365("new_order")) > 0
    assert two_tables.sync().status == 0
    two_tables.assert_in_step()


def test_pages_of_too_many_bytes_are_asked_for_with_fewer_rows(
    sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 250 rows of more than 64 MiB, in small: 125 rows of more than 300 kB."""
    page = client.DataverseClient.page
    sizes: list[int] = []

    async def watched(self: client.DataverseClient, link: str, **how: Any) -> bytes:
        sizes.append(how["size"])
        return await page(self, link, **how)

    sandbox = sandbox_factory(contacts=200)
    sandbox.admin.change("contact", 200, description="x" * 2000)
    fields = CONTACT["fields"] | {"description": {"to": "cusInterests", "truncate": True}}
    program = Program(sandbox, tmp_path, CONTACT | {"fields": fields})
    monkeypatch.setattr(client, "LIMITS", Limits(largest=300_000))
    monkeypatch.setattr(client.DataverseClient, "page", watched)
    done = program.sync()
    assert done.status == 0, done.problems
    assert max(size for size in sizes if size > 1) > 250 > min(size for size in sizes if size > 1)
    program.assert_in_step()
