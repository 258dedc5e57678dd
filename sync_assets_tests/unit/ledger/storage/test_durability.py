"""A commit of the ledger survives a power cut: a claim above all, since its requests follow at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import State
from sync_assets_tests.support.ledgers import capture, claim, many, row, settle, stored
from sync_assets_tests.support.postgres import PostgresServer
from sync_assets_tests.unit.ledger.storage.synced_files import SyncedFiles, synced_files


@pytest.fixture
def after_power_cut(tmp_path: Path) -> Callable[[SyncedFiles], Ledger]:
    def opened(files: SyncedFiles) -> Ledger:
        (tmp_path / "left").mkdir()
        files.leave(tmp_path / "left")
        return Ledger.open(f"sqlite:///{tmp_path}/left/ledger.db")

    return opened


def test_a_power_cut_after_a_claim_loses_no_claim(
    tmp_path: Path, after_power_cut: Callable[[SyncedFiles], Ledger]
) -> None:
    with synced_files() as files, Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, page=many(40))
        claimed = claim(ledger, limit=30)
        with after_power_cut(files) as left:
            assert {record.seq for record in stored(left).values() if record.outcome_unknown} == {
                record.seq for record in claimed
            }


@pytest.mark.parametrize("pages", [1, 3])
def test_a_power_cut_after_a_capture_or_an_acknowledgement_loses_neither(
    tmp_path: Path, after_power_cut: Callable[[SyncedFiles], Ledger], pages: int
) -> None:
    """Large pages leave the checkpoint to a thread."""
    with synced_files() as files, Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        for page in range(pages):
            capture(ledger, page=many(1500, prefix=f"page {page} "))
        settle(ledger, "done", *claim(ledger, limit=5))
        capture(ledger, row("last"))
        with after_power_cut(files) as left:
            assert left.reports.counts() == ledger.reports.counts()
            states = [record.state for record in stored(left).values()]
            assert (states.count(State.SYNCED), len(states)) == (5, 1500 * pages + 1)


def test_a_server_that_does_not_wait_for_the_disk_by_default_waits_for_ours(postgres: PostgresServer) -> None:
    with postgres.database() as url:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
        engine.dispose()
        with Ledger.open(url) as ledger:
            kept = ledger.database.write(lambda it: it.exec_driver_sql("SHOW synchronous_commit").scalar_one())
    assert kept == "on"
