"""Several processes open a ledger at once, and each of them quickly."""

import os
import subprocess
import sys

from sync_assets.ledger import Ledger
from sync_assets_tests.support.forked_commands import start_module


def test_processes_may_open_a_new_ledger_at_once(new_url: str) -> None:
    opened = ["open_alone", new_url, "ada"]
    processes = [start_module("sync_assets_tests.integration.ledger.worker", opened, os.environ) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    with Ledger.open(new_url) as ledger:
        assert ledger.reports.counts() == {}


def test_opening_an_up_to_date_ledger_is_cheap(url: str) -> None:
    """Neither Alembic nor Polars is loaded: `sync-assets status` has to be quick."""
    program = (
        f"import sys; from sync_assets.ledger import Ledger; Ledger.open({url!r}).reports.counts(); "
        "assert not {'alembic', 'polars'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
