"""With a key, no payload is readable in the database's files, and everything else is as without one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import LedgerError, PayloadKeyMissing
from sync_assets.ledger.scratch import scratch_ledger
from sync_assets.ledger.storage.payload_cipher import MARK, PayloadCipher
from sync_assets_tests.support.ledgers import Clock, capture, claim, frame, push, row, settle, stored, workers
from sync_assets_tests.support.postgres import PostgresServer, running_server

CIPHER = PayloadCipher([os.urandom(32)])
PERSON = "Jane-Doe-of-Basel"


@pytest.fixture
def encrypted(url: str, clock: Clock) -> Iterator[Ledger]:
    with Ledger.open(url, clock=clock, cipher=CIPHER) as opened:
        yield opened


def payloads(ledger: Ledger) -> set[bytes]:
    result = [payload for one in stored(ledger).values() for payload in (one.payload, one.update_payload)]
    return {payload for payload in result if payload is not None}


@pytest.mark.postgresql
def test_new_and_changed_rows_are_stored_encrypted_and_claimed_as_they_were(encrypted: Ledger) -> None:
    capture(encrypted, row("anna", insert_only="1990"), row("bert"))
    assert len(payloads(encrypted)) == 3
    assert all(payload.startswith(MARK) for payload in payloads(encrypted))
    first = {one.id: (one.payload, one.update_payload) for one in push(encrypted)}
    assert set(first.values()) == {('{"value":"a","once":"1990"}', '{"value":"a"}'), ('{"value":"a"}', None)}
    capture(encrypted, row("anna", "b", insert_only="1990"))
    assert all(payload.startswith(MARK) for payload in payloads(encrypted))
    assert [(one.operation, one.update_payload) for one in push(encrypted)] == [("update", '{"value":"b"}')]
    assert payloads(encrypted) == set()


@pytest.mark.postgresql
def test_a_plan_reads_the_encrypted_copy(encrypted: Ledger, url: str) -> None:
    capture(encrypted, row("anna"))
    with scratch_ledger(url, CIPHER) as copy:
        assert [one.payload for one in claim(copy)] == ['{"value":"a"}']


def test_payloads_from_before_the_key_are_sent(url: str, clock: Clock) -> None:
    with Ledger.open(url, clock=clock) as ledger:
        capture(ledger, row("anna"))
    with Ledger.open(url, clock=clock, cipher=CIPHER) as ledger:
        assert [one.payload for one in push(ledger)] == ['{"value":"a"}']


def test_with_a_lost_key_nothing_is_claimed_until_the_rows_are_read_again(url: str, clock: Clock) -> None:
    with Ledger.open(url, clock=clock, cipher=CIPHER) as ledger:
        capture(ledger, row("anna"), row("bert"))
        settle(ledger, "done", *claim(ledger, limit=1))
        capture(ledger, row("anna", "b"), row("bert", "b"))
    with Ledger.open(url, clock=clock, cipher=PayloadCipher([os.urandom(32)])) as ledger:
        with pytest.raises(PayloadKeyMissing):
            claim(ledger)
        assert not workers(ledger)
        capture(ledger, row("anna", "b"), row("bert", "b"), resend=True)
        assert [one.payload for one in push(ledger)] == ['{"value":"b"}'] * 2


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from running_server({"fsync": "off", "full_page_writes": "on", "wal_level": "replica"})


def people(count: int) -> list[dict[str, Any]]:
    """Return rows whose payloads PostgreSQL stores as they are: too short to be compressed."""
    payload = f'{{"name":"{PERSON}"}}'
    return [row(f"row{n}") | {"payload": payload, "update_payload": payload} for n in range(count)]


def readable_in_files(server: PostgresServer, cipher: PayloadCipher | None) -> bool:
    """Capture, push and vacuum; return True if a name is in a file of the server: table, write-ahead log."""
    with server.database() as url:
        plain = url.replace("+psycopg", "")
        with Ledger.open(url, cipher=cipher) as ledger:
            capture(ledger, page=frame(people(50)))
            assert len(push(ledger)) == 50
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute("VACUUM sync_record")
            connection.execute("CHECKPOINT")
            result = connection.execute("SHOW data_directory").fetchone()
        assert result
        files = [file for file in Path(result[0]).rglob("*") if file.is_file()]
        assert len(files) > 100
        return any(PERSON.encode() in file.read_bytes() for file in files)


def test_a_delivered_payload_is_in_no_file_of_the_server(server: PostgresServer) -> None:
    assert not readable_in_files(server, CIPHER)
    assert readable_in_files(server, None)  # in heap or write-ahead log, long after Campaign acknowledged it


def test_a_backup_of_pending_records_is_unreadable_without_the_key(tmp_path: Path) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db", cipher=CIPHER) as ledger:
        capture(ledger, page=frame(people(50)))
    shutil.copyfile(tmp_path / "ledger.db", tmp_path / "backup.db")
    assert PERSON.encode() not in (tmp_path / "backup.db").read_bytes()
    with Ledger.open(f"sqlite:///{tmp_path}/backup.db") as ledger, pytest.raises(LedgerError, match="key"):
        claim(ledger)
