"""Pages of a first load: their rows as new records; SQLite carries them over into its file beside other pages."""

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import State
from sync_assets.ledger.records.captures import LARGE_PAGE
from sync_assets.ledger.storage import database
from sync_assets_tests.support.ledgers import capture, claim, frame, guid, payload_of, row, stored

ROWS = LARGE_PAGE + 200


def rows_of(page: int) -> list[dict[str, Any]]:
    return [row(f"anna {page} {n}", str(n)) for n in range(ROWS)]


def file_of(ledger_url: str) -> Path:
    return Path(make_url(ledger_url).database or "")


def test_new_known_and_invalid_rows_are_stored(ledger: Ledger) -> None:
    capture(ledger, row("anna"))
    captured = capture(ledger, row("anna", "b"), row("bert"), row("carl", validation_error="too long"))
    assert (captured.new, captured.changed, captured.invalid) == (1, 1, 1)
    assert {one.id: one.state for one in stored(ledger).values()} == {
        guid("anna"): State.PENDING,
        guid("bert"): State.PENDING,
        guid("carl"): State.REJECTED,
    }
    assert {one.id for one in claim(ledger)} == {guid("anna"), guid("bert")}


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.none() | st.integers(-(2**63), 2**63 - 1)
ROW = st.fixed_dictionaries(
    {"payload": TEXTS, "update_payload": st.none() | TEXTS, "hash": st.binary(min_size=16, max_size=16),
     "validation_error": st.none() | TEXTS, "row_version": NUMBERS}
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROW, max_size=4))
def test_new_rows_are_stored_with_any_values(ledger: Ledger, rows: list[dict[str, Any]]) -> None:
    page = frame([{"id": str(uuid.uuid4()), **one} for one in rows])
    assert capture(ledger, page=page).feed.version
    result = stored(ledger)
    for one in page.iter_rows(named=True):
        record = result[one["id"]]
        assert record.payload is None if one["validation_error"] is not None else payload_of(record) == one["payload"]
        assert (record.desired_hash, record.validation_error) == (one["hash"], one["validation_error"])
        assert record.row_version == one["row_version"]


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
