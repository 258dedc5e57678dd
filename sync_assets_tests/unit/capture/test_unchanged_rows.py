"""Which rows of a page are left unread, and that a table which is read once more comes out as if all had been read."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from sync_assets.capture.context import CaptureResult
from sync_assets.capture.page_preparation import UnchangedRowFilter, UnchangedRows
from sync_assets.capture.table_capture import Capture
from sync_assets.dataverse.client import DataverseClient
from sync_assets.dataverse.page_parser import Head, peek, row_hashes
from sync_assets_tests.support.ledgers import payload_of, push, stored
from sync_assets_tests.support.program import CONTACT, Program, capturing
from sync_assets_tests.support.sample_tables import mapping

RULES = mapping({"lastname": "cusText"})
TOMBSTONE = {"id": "2E", "reason": "deleted"}


def sent(name: str, modified: str | None = "2026-11-24T23:59:59Z", **more: Any) -> dict[str, Any]:
    return {"@odata.etag": 'W/"1"', "contactid": name, "modifiedon": modified, **more}


def head(*rows: dict[str, Any], link: str = "next") -> Head:
    result = peek(json.dumps({"value": rows, "@odata.nextLink": link}).encode())
    assert result
    return result


def knows(*names: str) -> Any:
    """A ledger that knows the rows with these ids."""

    def same_rows(ids: Sequence[str], hashes: Sequence[int]) -> list[int]:
        assert len(ids) == len(hashes)
        return [index for index, id_ in enumerate(ids) if id_ in names]

    return same_rows


class TestAPage:
    def part(self, page: Head, *known: str) -> tuple[list[str], UnchangedRows]:
        to_read, unchanged = UnchangedRowFilter(RULES, knows(*known)).part(page)
        assert (to_read.next_link, to_read.delta_link) == (page.next_link, page.delta_link)
        return [json.loads(bytes(raw))["contactid"] for raw in to_read.value], unchanged

    def test_rows_that_the_ledger_knows_are_left_unread(self) -> None:
        page = head(sent("A"), sent("b"), sent("c"))
        read, unchanged = self.part(page, "a", "c")
        assert read == ["b"]
        hashes = row_hashes(page.value, RULES.fingerprint)
        assert unchanged == [("a", hashes[0]), ("c", hashes[2])]
        assert not set(hashes) & set(row_hashes(page.value, "other rules"))

    def test_all_of_a_page_is_read_in_which_an_id_stands_twice_since_the_last_one_counts(self) -> None:
        assert self.part(head(sent("a"), sent("b"), sent("A", "2026-11-25T00:00:00Z")), "a", "b")[1] == ()

    def test_all_of_a_page_with_a_deletion_is_read(self) -> None:
        page = head(sent("a"), TOMBSTONE)
        assert UnchangedRowFilter(RULES, knows("a")).part(page) == (page, ())

    @pytest.mark.parametrize("wrong", [{"contactid": 7}, {"contactid": None}])
    def test_all_of_a_page_is_read_that_is_not_as_it_should_be(self, wrong: dict[str, Any]) -> None:
        assert self.part(head(sent("a"), {**sent("b"), **wrong}), "a", "b")[1] == ()


# --- whole reads ------------------------------------------------------------------------------------------------------


class Reader:
    """Reads a table in full, as often as it is told to, and sees how many rows were left unread."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.runtime = program.runtime()

    def capture(self, **options: Any) -> AbstractAsyncContextManager[Capture]:
        return capturing(self.runtime, page_size=20, **options)

    async def read(self) -> tuple[CaptureResult, int]:
        """What a full read of all rows came to, and how many of them were left unread."""
        feed = self.runtime.ledger.feeds.feed("contact")
        if feed:
            self.runtime.ledger.feeds.reset_feed("contact", feed.version)
        left: list[int] = []
        save_page = self.runtime.ledger.captures.save_page

        def saved(*arguments: Any, **options: Any) -> Any:
            result = save_page(*arguments, **options)
            left.append(len(arguments[1].unchanged))
            return result

        self.runtime.ledger.captures.save_page = saved  # type: ignore[method-assign]
        try:
            async with self.capture() as capture:
                return await capture.run(), sum(left)
        finally:
            self.runtime.ledger.captures.save_page = save_page  # type: ignore[method-assign]

    async def first(self) -> None:
        await self.read()
        push(self.runtime.ledger)

    def configure(self, table: dict[str, Any] | None = None, **fields: Any) -> None:
        """Other rules: columns and where they go, or others of the table. Without any: those of the beginning."""
        self.runtime.close()
        self.program.table = {**CONTACT, "fields": fields or CONTACT["fields"], **(table or {})}
        self.runtime = self.program.runtime()


@pytest.fixture
def reader(program: Program) -> Iterator[Reader]:
    one = Reader(program)
    yield one
    one.runtime.close()


async def test_a_table_is_read_once_more_without_reading_what_did_not_change(reader: Reader) -> None:
    await reader.first()
    before = stored(reader.runtime.ledger)
    result, left = await reader.read()
    assert left == 50
    assert (result.rows, result.unchanged, result.new, result.changed) == (50, 50, 0, 0)
    assert result.full_read
    assert stored(reader.runtime.ledger) == before


async def test_changes_inserts_and_deletes_are_seen_among_unread_rows(reader: Reader) -> None:
    admin = reader.program.sandbox.admin
    await reader.first()
    ids = [row["contactid"] for row in admin.dump_d365()]
    admin.change("contact", ids[:3], lastname="Changed")
    admin.delete("contact", [ids[3]])
    [new] = admin.create("contact", {"lastname": "New", "firstname": "Row"})
    try:
        result, left = await reader.read()
        assert left == 46
        assert (result.new, result.changed) == (1, 3)
        assert result.unchanged == 46
        records = stored(reader.runtime.ledger)
        assert new in records
        assert "Changed" in payload_of(records[ids[0]])
        # A record that D365 has no more is let go of, as if every row had been read.
        assert records[ids[3]].out_of_scope == 1
        assert [id_ for id_ in ids if records[id_].out_of_scope] == [ids[3]]
    finally:
        admin.delete("contact", [new])
        admin.create("contact", {"contactid": ids[3], "lastname": "Again"})


async def test_all_rows_are_read_by_other_rules_and_by_the_former_ones_after_them(reader: Reader) -> None:
    await reader.first()
    reader.configure(lastname="firstName", firstname="lastName")
    result, left = await reader.read()
    assert (result.changed, left) == (50, 0)
    push(reader.runtime.ledger)
    _, left = await reader.read()
    assert left == 50
    reader.configure()
    result, left = await reader.read()
    assert (result.changed, left) == (50, 0)


async def test_all_rows_are_read_once_a_read_by_other_rules_has_begun(reader: Reader) -> None:
    """It was stopped at its first page; by the former rules nothing may be taken for read."""
    await reader.first()
    reader.configure(lastname="lastName")
    feed = reader.runtime.ledger.feeds.feed("contact")
    assert feed
    reader.runtime.ledger.feeds.reset_feed("contact", feed.version)

    def stop(result: CaptureResult) -> None:
        raise Stopped

    async with reader.capture(progress=stop) as capture:
        with pytest.raises(Stopped):
            await capture.run()
    reader.configure()
    _, left = await reader.read()
    assert left == 0


class Stopped(Exception):
    pass


ONLY_NAMELESS = {"match": "all", "delete_filtered_out": True, "rules": [{"field": "lastname", "is": "is_null"}]}


async def test_rows_that_a_filter_has_dropped_are_deleted_though_the_run_was_stopped_before(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reader.first()
    reader.configure({"apply_deletes": True, "filters": ONLY_NAMELESS})

    async def stop(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Capture, "_carry_out_deletes", stop)
        with pytest.raises(Stopped):
            await reader.read()
    result, left = await reader.read()
    assert left < 10  # those that the filter lets pass
    assert result.deleted > 40


@pytest.mark.parametrize("apply_updates", [True, False])
async def test_options_without_a_label_are_reported_each_time(reader: Reader, apply_updates: bool) -> None:
    fields = {"lastname": "lastName", "gendercode": {"to": "cusJobTitle", "apply_updates": apply_updates}}
    reader.configure(**fields)
    await reader.first()
    removed = {"column": "gendercode", "set": {"options": {1: "Male"}}}
    reader.program.sandbox.admin.post("/d365/metadata", {"table": "contact", **removed})
    try:
        reader.configure(**fields)
        result, _ = await reader.read()
        push(reader.runtime.ledger)
        again, _ = await reader.read()
        assert result.unknown_codes["gendercode"] == again.unknown_codes["gendercode"] != set()
    finally:
        reader.program.sandbox.admin.post("/d365/metadata", {"table": "contact"})


async def test_a_record_that_moved_while_its_page_was_ready_is_read_after_all(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is asked before the page is stored; here it says of all rows that it knows them."""
    await reader.first()
    before = stored(reader.runtime.ledger)
    ids = [row["contactid"] for row in reader.program.sandbox.admin.dump_d365()]
    reader.program.sandbox.admin.change("contact", ids[-1:], lastname="Meanwhile")
    asked: list[int] = []

    def all_known(table: str, ids: Sequence[str], hashes: Sequence[int]) -> list[int]:
        asked.append(len(ids))
        return list(range(len(ids)))

    monkeypatch.setattr(reader.runtime.ledger.captures, "same_rows", all_known)
    result, _ = await reader.read()
    assert asked
    assert result.changed == 1
    after = stored(reader.runtime.ledger)
    assert "Meanwhile" in payload_of(after[ids[-1]])
    assert {id_: one for id_, one in after.items() if id_ != ids[-1]} == {
        id_: one for id_, one in before.items() if id_ != ids[-1]
    }


@pytest.mark.parametrize("half", [b"\\ud83d", b"\xf0\x9f"], ids=["surrogate", "UTF-8"])
async def test_half_a_character_in_a_row_that_changed_spoils_no_row_beside_it(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, half: bytes
) -> None:
    """A page with one is mended and read as a whole; the page after it is found nevertheless."""
    await reader.first()
    [changed] = reader.program.sandbox.admin.change("contact", 1, lastname="HALF of it")
    page = DataverseClient.page

    async def mangled(self: DataverseClient, *arguments: Any, **options: Any) -> bytes:
        return (await page(self, *arguments, **options)).replace(b"HALF", half)

    monkeypatch.setattr(DataverseClient, "page", mangled)
    result, left = await reader.read()
    assert (result.rows, result.changed, result.unchanged) == (50, 1, 49)
    assert left == 30  # two of the three pages
    assert "\ufffd of it" in payload_of(stored(reader.runtime.ledger)[changed])
