"""Pages of a first load: made ready before their transaction; SQLite carries them over into its file beside others."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from sync_assets.ledger import Ledger, State
from sync_assets.ledger.prepared_page import LedgerPage
from sync_assets.ledger.records.captures import LARGE_PAGE
from sync_assets.ledger.storage import database
from sync_assets_tests.support.ledgers import capture, claim, frame, guid, row, stored

ROWS = LARGE_PAGE + 200


def rows_of(page: int) -> list[dict[str, Any]]:
    return [row(f"anna {page} {n}", str(n)) for n in range(ROWS)]


def said(record: Any) -> dict[str, Any]:
    return {name: value for name, value in record._mapping.items() if name not in ("seq", "id")}


def file_of(ledger_url: str) -> Path:
    return Path(make_url(ledger_url).database or "")


class TestMadeReady:
    def test_its_rows_are_stored_as_those_of_any_page(self, ledger: Ledger) -> None:
        ready, plain = ledger.captures.new_page("contact", frame(rows_of(1))), LedgerPage(frame(rows_of(2)))
        told = [capture(ledger, page=page) for page in (ready, plain)]
        assert [one.new for one in told] == [ROWS, ROWS]
        assert ledger.reports.counts()["contact"].pending == 2 * ROWS
        records = stored(ledger)
        first, second = ([records[guid(f"anna {page} {n}")] for n in range(ROWS)] for page in (1, 2))
        assert [said(one) for one in first] == [said(one) for one in second]

    def test_it_is_not_stored_as_a_page_of_another_table(self, ledger: Ledger) -> None:
        capture(ledger, page=ledger.captures.new_page("contact", frame([row("anna")])), table="account")
        assert [one.table_name for one in stored(ledger).values()] == ["account"]
        assert ledger.reports.counts().keys() == {"account"}

    def test_rows_that_are_no_rows_are_refused_as_those_of_any_page(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="id is missing"):
            ledger.captures.new_page("contact", frame([row("anna")]).drop("id"))

    def test_known_rows_and_refused_ones_are_stored_as_what_they_are(self, ledger: Ledger) -> None:
        capture(ledger, row("anna"))
        page = ledger.captures.new_page(
            "contact", frame([row("anna", "b"), row("bert"), row("carl", refusal="too long")])
        )
        told = capture(ledger, page=page)
        assert (told.new, told.changed, told.invalid) == (1, 1, 1)
        assert {one.id: one.state for one in stored(ledger).values()} == {
            guid("anna"): State.PENDING,
            guid("bert"): State.PENDING,
            guid("carl"): State.FAILED,
        }
        assert {one.id for one in claim(ledger)} == {guid("anna"), guid("bert")}

    def test_an_empty_page_may_be_made_ready(self, ledger: Ledger) -> None:
        assert capture(ledger, page=ledger.captures.new_page("contact", frame([]))).new == 0


@pytest.mark.parametrize("ledgers", ["sqlite"], indirect=True)  # PostgreSQL has a process for that
class TestCheckpoints:
    def test_large_pages_stand_in_the_file_while_the_ledger_is_open(self, ledger: Ledger, url: str) -> None:
        empty = file_of(url).stat().st_size
        for page in range(database._LARGE_EVERY):
            capture(ledger, *rows_of(page))
        assert ledger.database._checkpointer
        ledger.database._checkpointer.join()
        assert file_of(url).stat().st_size > empty + ROWS * 100

    def test_small_pages_leave_it_to_the_log(self, ledger: Ledger, url: str) -> None:
        empty = file_of(url).stat().st_size
        for page in range(3 * database._LARGE_EVERY):
            capture(ledger, row(f"anna {page}"))
        assert ledger.database._checkpointer is None
        assert file_of(url).stat().st_size == empty

    def test_a_page_is_stored_when_there_is_no_thread_to_be_had(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        for page in range(2 * database._LARGE_EVERY):
            assert capture(ledger, *rows_of(page)).new == ROWS
        assert ledger.database._checkpointer is None

    def test_closing_waits_for_one_that_is_under_way(self, url: str) -> None:
        with Ledger.open(url) as ledger:
            for page in range(database._LARGE_EVERY):
                capture(ledger, *rows_of(page))
        assert not file_of(url).with_name(file_of(url).name + "-wal").exists()
        assert "checkpoint" not in {thread.name for thread in threading.enumerate() if thread.is_alive()}
