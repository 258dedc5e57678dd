"""The numbers that a run reports of a table's assets."""

from pathlib import Path
from typing import Any

from sync_assets.config.models import TableConfig
from sync_assets.defs.tables.table_work import TableWork
from sync_assets.flows import RunOutcome
from sync_assets.ledger import Ledger
from sync_assets.runtime.context import Runtime
from sync_assets_tests.support.ledgers import capture, row
from sync_assets_tests.unit.ledger.linking import order


def test_the_backlog_is_pending_records_without_waiting_ones(tmp_path: Path) -> None:
    mapping = {"table": "order", "resource": "cusOrder", "key": "cusId", "fields": {"new_name": "cusName"}}
    config = TableConfig.model_validate(mapping)
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        capture(ledger, row("anna"))
        order(ledger, "anna")
        capture(ledger, row("free"), table="order")
        runtime = Runtime({}, given=ledger)
        assert (ledger.reports.counts()["order"].pending, ledger.reports.counts()["order"].waiting) == (1, 1)
        log: Any = None
        work = TableWork(runtime, config, log, RunOutcome())
        assert [work.numbers(asset)["backlog"] for asset in work.both] == [1, 1]
