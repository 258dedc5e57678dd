"""No change is lost while a read of several pages goes on, whatever time the delta link at its end stands for."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sync_assets.dataverse.client import TrackingOff
from sync_assets_tests.support.table_reading import Reading

N = 14  # rows, in pages of four
EITHER = pytest.mark.parametrize("taken", ["start", "end"])
"""The moment of a read of several pages that its delta link stands for."""


@pytest.fixture
def reading(small_pages: Reading) -> Iterator[Reading]:
    with small_pages.begin(N):
        yield small_pages


def everything_happens(reading: Reading, at: str) -> None:
    """Rows change, come and go before the first request of a kind: some of each page."""
    ids = [row["contactid"] for row in reading.admin.dump_d365()]

    def happens(number: int) -> None:
        if reading.asked()[-1] == at:
            reading.before = lambda number: None
            reading.admin.change("contact", ids[::3], lastname="Changed meanwhile")
            reading.admin.delete("contact", ids[1::3])
            reading.admin.create("contact", {"lastname": "New meanwhile"}, {"lastname": "Another"})

    reading.before = happens


@EITHER
@pytest.mark.parametrize("at", ["ids", "next ids", "rows", "next", "changes"])
def test_changes_during_a_first_load_arrive(reading: Reading, taken: str, at: str) -> None:
    reading.admin.settings("d365", delta_link_taken=taken)
    everything_happens(reading, at)
    reading.read()
    assert reading.captured() == reading.expected()


@pytest.mark.parametrize("at", ["rows", "next", "changes"])
@pytest.mark.parametrize(("taken", "mapping"), [("start", "more"), ("end", "few")])
def test_changes_while_a_table_is_read_again_arrive(reading: Reading, taken: str, at: str, mapping: str) -> None:
    reading.read()
    reading.acknowledge()
    reading.admin.settings("d365", delta_link_taken=taken)
    reading.mapping = mapping
    reading.read_whole_table_next()
    everything_happens(reading, at)
    reading.read()
    assert reading.captured() == reading.expected()


class TestWhatItAsksFor:
    def test_a_table_of_one_page_is_asked_for_once(self, reading: Reading) -> None:
        reading.read(page_size=N)
        assert reading.asked() == ["rows", "changes"]
        reading.read(page_size=N)
        assert reading.asked() == ["changes"]
        reading.read_whole_table_next()
        reading.read(page_size=N)
        assert reading.asked() == ["rows", "changes"]
        reading.admin.expire()
        reading.read(page_size=N)
        assert reading.asked() == ["changes", "rows", "changes"]

    def test_a_first_load_of_several_pages_reads_the_ids_first(self, reading: Reading) -> None:
        reading.read()
        ids = ["ids", "next ids", "next ids", "next ids"]
        assert reading.asked() == ["rows", *ids, "rows", "next", "next", "next", "changes", "changes"]
        reading.read()
        assert reading.asked() == ["changes"]

    def test_a_link_that_has_expired_is_not_asked_again_after_the_read_of_all_rows(self, reading: Reading) -> None:
        reading.read()
        first = reading.asked()
        reading.admin.expire()
        reading.read()
        assert reading.asked() == ["changes", *first]

    def test_changes_of_several_pages_are_asked_for_twice_and_not_read_by_id_in_the_same_version(
        self, reading: Reading
    ) -> None:
        reading.read()
        reading.acknowledge()
        reading.admin.change("contact", 6, lastname="Changed")
        result = reading.read()
        assert reading.asked() == ["changes", "next", "changes", "next", "changes"]
        assert (result.rows, result.changed, result.unchanged) == (6, 6, 0)

    def test_rows_without_versions_are_read_by_id_the_second_time(self, reading: Reading) -> None:
        reading.admin.settings("d365", etags="opaque")
        try:
            reading.read()
            reading.acknowledge()
            reading.admin.change("contact", 6, lastname="Changed")
            result = reading.read()
        finally:
            reading.admin.settings("d365", etags="version")
        assert reading.asked() == ["changes", "next", "changes", "by id", "next", "by id", "changes"]
        assert (result.rows, result.changed, result.unchanged) == (12, 6, 6)

    def test_deletions_of_several_pages_are_not_read_by_id(self, reading: Reading) -> None:
        reading.read()
        reading.acknowledge()
        reading.admin.delete("contact", 6)
        assert reading.read().deleted == 6
        assert "by id" not in reading.asked()
        assert reading.captured() == reading.expected()


def test_a_link_that_was_kept_and_names_a_column_that_is_gone_is_not_waited_for(reading: Reading) -> None:
    """The mapping no longer has the column, but the link from before does, and cannot be asked any more."""
    reading.mapping = "more"
    reading.read()
    reading.acknowledge()
    reading.admin.settings("d365", removed_column_error="unknown_property", metadata_change_expires=False)
    reading.mapping = "few"
    try:

        def removed(number: int) -> None:
            if reading.asked()[-1] == "next":
                reading.before = lambda number: None
                reading.admin.post("/d365/metadata", {"table": "contact", "column": "emailaddress1", "remove": True})

        reading.before = removed
        reading.read()
        assert reading.asked().count("ids") == 1
        assert reading.captured() == reading.expected()
    finally:
        restored = {"column": "emailaddress1", "set": {"type": "string"}}
        reading.admin.post("/d365/metadata", {"table": "contact", **restored})
        reading.admin.settings("d365", removed_column_error="expired", metadata_change_expires=True)


def test_change_tracking_that_is_switched_off_meanwhile_is_reported(reading: Reading) -> None:
    reading.read()
    reading.read_whole_table_next()

    def off(number: int) -> None:
        if reading.asked()[-1] == "changes":
            reading.admin.post("/d365/tracking", {"table": "contact", "enabled": False})

    reading.before = off
    try:
        with pytest.raises(TrackingOff):
            reading.read()
    finally:
        reading.before = lambda number: None
        reading.admin.post("/d365/tracking", {"table": "contact", "enabled": True})


class TestIdsThatAreARowAndDeleted:
    """In one read of changes, as it comes about when a row is deleted and made anew with its id."""

    def anew(self, reading: Reading, patch: pytest.MonkeyPatch, *ids: str) -> None:
        """They change, and the last page of changes tells that they were deleted."""
        reading.admin.change("contact", list(ids), lastname="Anew")
        page = reading.d365.page

        async def result(link: str, **how: Any) -> bytes:
            body = json.loads(await page(link, **how))
            if not how["tracked"] and "@odata.deltaLink" in body and body["value"]:
                body["value"] += [{"id": id_, "reason": "deleted"} for id_ in ids]
            return json.dumps(body).encode()

        patch.setitem(vars(reading.d365), "page", result)

    def test_a_row_that_was_made_anew_stays(self, reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
        reading.read()
        reading.acknowledge()
        self.anew(reading, monkeypatch, next(iter(reading.captured())))
        result = reading.read()
        assert (reading.asked(), result.changed, result.deleted) == (["changes", "changes", "by id", "changes"], 1, 0)
        assert reading.captured() == reading.expected()
