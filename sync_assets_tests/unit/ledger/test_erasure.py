"""After a sync the ledger holds ids, hashes and times, not people."""

from pathlib import Path
from typing import Any

import pytest

from sync_assets.ledger import Ledger
from sync_assets_tests.support.ledgers import capture, claim, frame, push, row, settle, stored

PERSON = "Jane-Doe-of-Basel"


def people(count: int, size: int) -> list[dict[str, Any]]:
    payload = f'{{"name":"{PERSON}"}}'.ljust(size)
    return [row(f"row{n}") | {"payload": payload, "update_payload": payload} for n in range(count)]


def test_settled_records_have_no_payload(ledger: Ledger) -> None:
    capture(ledger, page=frame(people(20, 100)))
    push(ledger)
    assert {(one.payload, one.update_payload) for one in stored(ledger).values()} == {(None, None)}


@pytest.mark.parametrize("size", [200, 3000, 20_000])
def test_erased_payloads_are_gone_from_the_file(tmp_path: Path, size: int) -> None:
    """Of every size: within a page, filling one, and spilling into pages of their own."""
    path = tmp_path / "ledger.db"
    with Ledger.open(f"sqlite:///{path}") as ledger:
        capture(ledger, page=frame(people(300, size)))
        settle(ledger, "refused", *claim(ledger, limit=5), reason="no")
    assert PERSON.encode() in path.read_bytes()
    with Ledger.open(f"sqlite:///{path}") as ledger:
        ledger.claims.retry()
        push(ledger)
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.db"]
    assert PERSON.encode() not in path.read_bytes()


def test_nothing_stays_between_the_rows_of_a_larger_ledger(tmp_path: Path) -> None:
    """Rows of different lengths that grow when they are claimed: pages are split, and copies stay behind in them."""
    path = tmp_path / "ledger.db"
    with Ledger.open(f"sqlite:///{path}") as ledger:
        page = [one | {"payload": one["payload"] + "x" * (n * 37 % 700)} for n, one in enumerate(people(2000, 300))]
        capture(ledger, page=frame(page))
        owner = "a worker's name, which is some hundred characters long".ljust(110)
        while claimed := claim(ledger, owner, limit=64):
            settle(ledger, "done", *reversed(claimed), owner=owner)
    assert PERSON.encode() not in path.read_bytes()


def test_payloads_that_are_still_to_be_sent_survive(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, page=frame(people(20, 300)))
        settle(ledger, "refused", *claim(ledger, limit=5), reason="no")
        push(ledger)
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        assert sum(one.payload is not None for one in stored(ledger).values()) == 5
        assert ledger.claims.retry() == 5
        assert len(claim(ledger, limit=10)) == 5
