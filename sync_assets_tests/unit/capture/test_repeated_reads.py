"""Full reads of a table that was read before: unchanged rows change nothing, others are captured."""

from collections.abc import Iterator
from typing import Any

import pytest

from sync_assets.capture.context import CaptureResult
from sync_assets.dataverse.client import DataverseClient
from sync_assets_tests.support.ledgers import payload_of, push, stored
from sync_assets_tests.support.program import CONTACT, Program, capturing


class Reader:
    """Reads a table in full, again and again."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.runtime = program.runtime()

    async def read(self) -> CaptureResult:
        feed = self.runtime.ledger.feeds.feed("contact")
        if feed:
            self.runtime.ledger.feeds.reset_feed("contact", feed.version)
        async with capturing(self.runtime, page_size=20) as capture:
            return await capture.run()

    async def first(self) -> None:
        await self.read()
        push(self.runtime.ledger)

    def configure(self, **fields: Any) -> None:
        """Map other columns."""
        self.runtime.close()
        self.program.table = {**CONTACT, "fields": fields}
        self.runtime = self.program.runtime()


@pytest.fixture
def reader(program: Program) -> Iterator[Reader]:
    reader = Reader(program)
    yield reader
    reader.runtime.close()


async def test_unchanged_rows_change_no_record(reader: Reader) -> None:
    await reader.first()
    before = stored(reader.runtime.ledger)
    result = await reader.read()
    assert (result.rows, result.unchanged, result.new, result.changed) == (50, 50, 0, 0)
    assert result.full_read
    assert stored(reader.runtime.ledger) == before


async def test_changes_inserts_and_deletes_are_captured_among_unchanged_rows(reader: Reader) -> None:
    admin = reader.program.sandbox.admin
    await reader.first()
    ids = [row["contactid"] for row in admin.dump_d365()]
    admin.change("contact", ids[:3], lastname="Changed")
    admin.delete("contact", [ids[3]])
    [new] = admin.create("contact", {"lastname": "New", "firstname": "Row"})
    try:
        result = await reader.read()
        assert (result.new, result.changed) == (1, 3)
        assert result.unchanged == 46
        records = stored(reader.runtime.ledger)
        assert new in records
        assert "Changed" in payload_of(records[ids[0]])
        assert records[ids[3]].out_of_scope == 1
        assert [id_ for id_ in ids if records[id_].out_of_scope] == [ids[3]]
    finally:
        admin.delete("contact", [new])
        admin.create("contact", {"contactid": ids[3], "lastname": "Again"})


@pytest.mark.parametrize("apply_updates", [True, False])
async def test_options_without_a_label_are_reported_each_time(reader: Reader, apply_updates: bool) -> None:
    fields = {"lastname": "lastName", "gendercode": {"to": "cusJobTitle", "apply_updates": apply_updates}}
    reader.configure(**fields)
    await reader.first()
    removed = {"column": "gendercode", "set": {"options": {1: "Male"}}}
    reader.program.sandbox.admin.post("/d365/metadata", {"table": "contact", **removed})
    try:
        reader.configure(**fields)
        result = await reader.read()
        push(reader.runtime.ledger)
        again = await reader.read()
        assert result.unknown_codes["gendercode"] == again.unknown_codes["gendercode"] != set()
    finally:
        reader.program.sandbox.admin.post("/d365/metadata", {"table": "contact"})


@pytest.mark.parametrize("half", [b"\\ud83d", b"\xf0\x9f"], ids=["surrogate", "UTF-8"])
async def test_half_a_character_in_a_changed_row_spoils_no_other_row(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, half: bytes
) -> None:
    """Its page is repaired, and the page after it is read."""
    await reader.first()
    [changed] = reader.program.sandbox.admin.change("contact", 1, lastname="HALF of it")
    page = DataverseClient.page

    async def mangled(self: DataverseClient, *arguments: Any, **options: Any) -> bytes:
        return (await page(self, *arguments, **options)).replace(b"HALF", half)

    monkeypatch.setattr(DataverseClient, "page", mangled)
    result = await reader.read()
    assert (result.rows, result.changed, result.unchanged) == (50, 1, 49)
    assert "\ufffd of it" in payload_of(stored(reader.runtime.ledger)[changed])
