"""A scratch ledger: a whole copy that behaves as the real one, and the real one never notices."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import LedgerError
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.scratch import ledger_to_read, scratch_ledger
from sync_assets.ledger.storage.migrate import HEAD, VERSION_TABLE
from sync_assets.ledger.storage.schema import metadata
from sync_assets_tests.support.ledgers import capture, guid, many, push, read_anew, row, session_of, stored
from sync_assets_tests.support.scratch_ledgers import Real
from sync_assets_tests.unit.ledger.opt_out_rows import THEN, decision, state, there

Opened = Callable[[str], AbstractContextManager[Ledger]]


def trample(ledger: Ledger) -> None:
    """Changes whatever can be changed."""
    read_anew(ledger)
    capture(ledger, page=many(9, "c", prefix="pending"))
    capture(ledger, page=many(20, prefix="more"), deleted=["settled2"], complete=True, missing_are_deleted=True)
    ledger.claims.retry()
    for table in ("contact", "new_order", "contact"):
        push(ledger, table=table)
    ledger.counts.add("engine_calls", "contact", {"insert": 7})
    ledger.leases.take("contact", session_of(ledger, "us"))


def test_a_copy_holds_what_the_real_one_holds(real: Real) -> None:
    with Ledger.open(real.url) as ledger:
        counts, reasons = ledger.reports.counts(), ledger.blocked.waiting_reasons("new_order")
        feed, rejects, records = ledger.feeds.feed("contact"), ledger.reports.rejects(), stored(ledger)
    with scratch_ledger(real.url) as copy:
        assert copy.reports.counts()["contact"].records == counts["contact"].records == 14
        assert (copy.feeds.feed("contact"), copy.reports.rejects()) == (feed, rejects)
        assert copy.blocked.waiting_reasons("new_order") == reasons
        same = ("seq", "state", "block_reason", "desired_hash", "acked_hash", "payload", "attempts", "outcome_unknown")
        assert {id_: [getattr(one, name) for name in same] for id_, one in stored(copy).items()} == {
            id_: [getattr(one, name) for name in same] for id_, one in records.items()
        }


@pytest.mark.postgresql
def test_an_opt_out_is_decided_in_a_copy_after_another_was_in_the_real_ledger(real: Real) -> None:
    def decide(ledger: Ledger) -> None:
        state(ledger, ("settled2", True, THEN))
        ledger.opt_outs.decide([rules.due_again(there(ledger, "settled2"), ask=True)], "day", [decision("settled2")])

    with Ledger.open(real.url) as ledger:
        decide(ledger)
    with scratch_ledger(real.url) as copy:
        decide(copy)
        assert copy.opt_out_decisions.decisions() == [decision("settled2"), decision("settled2")]


def test_writes_to_the_copy_leave_the_real_ledger_as_it_was(real: Real) -> None:
    before = real.everything()
    with scratch_ledger(real.url) as copy:
        trample(copy)
        assert copy.reports.counts()["contact"].synced > 20
    assert real.everything() == before


@pytest.mark.parametrize("opened", [scratch_ledger, ledger_to_read])
def test_where_there_is_no_ledger_the_copy_is_empty_and_none_is_made(
    new_url: str, temporary: Path, opened: Opened
) -> None:
    real = Real(new_url)
    with opened(new_url) as copy:
        capture(copy, row("anna"), complete=True)
        assert [one.operation for one in push(copy)] == ["insert"]
    assert real.folder is None or not real.folder.exists()
    assert real.folder or real.everything() == {}


def test_a_newer_ledger_is_reported_under_its_own_name(url: str, temporary: Path) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    try:
        with pytest.raises(LedgerError, match="written by a newer sync_assets") as raised, scratch_ledger(url):
            pass
        assert str(make_url(url).database) in str(raised.value)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{HEAD}'")
        engine.dispose()


def test_the_real_one_may_be_written_meanwhile(real: Real) -> None:
    with Ledger.open(real.url) as ledger, scratch_ledger(real.url) as copy:
        capture(ledger, row("late"))
        assert guid("late") in stored(ledger)
        assert guid("late") not in stored(copy)
        trample(copy)
        assert guid("late") in stored(ledger)


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_however_it_ends(real: Real, end: type[BaseException]) -> None:
    """That no file is left is seen by the fixture `temporary`, of PostgreSQL's connections here."""
    before = real.everything()
    with pytest.raises(end), scratch_ledger(real.url) as copy:  # noqa: PT012
        trample(copy)
        raise end
    assert real.everything() == before


def test_a_file_that_is_no_ledger_is_reported(tmp_path: Path, temporary: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes" * 100)
    with pytest.raises(LedgerError, match=r"notes\.txt is no ledger"), scratch_ledger(f"sqlite:///{path}"):
        pass
    assert path.read_text().startswith("not a database")


def test_a_full_disk_is_reported_with_the_remedy(temporary: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.db"
    with closing(sqlite3.connect(large)) as connection:
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("INSERT INTO notes VALUES (zeroblob(40000000))")
        connection.commit()
    program = (
        "import resource, signal; from sync_assets.ledger.errors import LedgerError\n"
        "from sync_assets.ledger.scratch import scratch_ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, 1000000))\n"
        f"try:\n    with scratch_ledger('sqlite:///{large}'): pass\nexcept LedgerError as error: print(error)"
    )
    environment = {**os.environ, "TMPDIR": str(temporary)}
    completed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert "TMPDIR" in completed.stdout, completed.stdout + completed.stderr


@pytest.mark.parametrize("ledgers", ["postgresql"], indirect=True)
class TestPostgres:
    def test_a_lost_connection_is_reported_and_never_leads_to_the_real_tables(self, real: Real) -> None:
        before = real.everything()
        with suppress(LedgerError), scratch_ledger(real.url) as copy:
            engine = sa.create_engine(real.url)
            with engine.connect() as connection:
                others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                connection.exec_driver_sql(f"{others} AND pid <> pg_backend_pid()")
            engine.dispose()
            for _ in range(3):
                with pytest.raises(LedgerError, match=r"can't be reached|was lost"):
                    capture(copy, row("anna"))
        assert real.everything() == before

    def test_the_real_tables_are_not_locked_while_the_copy_is_at_work(self, real: Real) -> None:
        engine = sa.create_engine(real.url)
        with scratch_ledger(real.url) as copy:
            trample(copy)
            with engine.begin() as connection:
                connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
                for table in metadata.tables:
                    connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        engine.dispose()


@pytest.mark.postgresql
def test_a_current_ledger_that_is_only_read_is_not_copied_and_stays_as_it_is(real: Real) -> None:
    with Ledger.open(real.url) as ledger:
        counts, where = ledger.reports.counts(), ledger.where
    before = real.everything()
    with ledger_to_read(real.url) as ledger:
        assert (ledger.reports.counts(), ledger.where) == (counts, where)
    assert real.everything() == before
    with ledger_to_read(real.url) as ledger, Ledger.open(real.url) as another:
        another.counts.add("engine_calls", "contact", {"insert": 7})
        assert ledger.counts.numbers("engine_calls", datetime.now(UTC).date())["insert"] == 7, (
            "a copy would not show it"
        )
