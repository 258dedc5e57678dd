"""Many tables without links under the sensors and the shipped `dagster.yaml`: latency, runs, memory and history.

`python -m sync_assets_tests.bench.many_tables --tables 60 --changes 45 --every 4 [--root CHECKOUT]` prints one JSON
document. Each change is of the next table. The sandbox has copies of its tables `account` and `cusStore`.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from unittest import mock

from sync_assets.cli.instance import PACKAGED
from sync_assets.defs.partitions import today
from sync_assets.ledger import Ledger
from sync_assets.sandbox import __main__ as sandbox
from sync_assets.sandbox.campaign import resources
from sync_assets.sandbox.dataverse import organization
from sync_assets_tests.bench.latency import percentile
from sync_assets_tests.bench.measure import ROOT, checkout_environment
from sync_assets_tests.support.dagster_dev import dagster_daemon
from sync_assets_tests.support.program import Program
from sync_assets_tests.support.sandbox_process import Admin

PATIENCE = 300.0


def names(number: int) -> list[str]:
    return [f"new_copy{at:02}" for at in range(number)]


def serve(number: int, arguments: list[str]) -> int:
    """Run a sandbox with so many copies of a table and of a resource."""
    [account] = [table for table in organization.TABLES if table.name == "account"]
    [key, *columns] = account.columns
    copies = [
        replace(
            account, name=name, set_name=f"{name}s", schema_name=f"new_Copy{name[-2:]}", key=f"{name}id",
            columns=(replace(key, name=f"{name}id"), *columns), collections={},
        )
        for name in names(number)
    ]  # fmt: skip
    custom = resources._custom

    def with_copies() -> list[Any]:
        apis, plain = ("customResources",), cast("Any", {"cusName": "string"})
        made = [resources._custom_resource(f"cusCopy{at:02}", "Copy", apis, plain) for at in range(number)]
        return [*custom(), *made]

    with (
        mock.patch.object(organization, "TABLES", (*organization.TABLES, *copies)),
        mock.patch.object(resources, "_custom", with_copies),
        mock.patch.object(sys, "argv", ["sandbox", *arguments]),
    ):
        return sandbox.main()


class Systems:
    """The sandbox in a process of its own, as `Program` uses one."""

    def __init__(self, number: int, folder: Path) -> None:
        file = folder / "env"
        words = ["--serve", str(number), "--contacts", "0", "--env-file", str(file), "--until-stdin-closes"]
        command = [sys.executable, "-m", "sync_assets_tests.bench.many_tables", *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
        while not file.exists():
            assert self.process.poll() is None, "the sandbox did not start"
            time.sleep(0.05)
        self.env = dict(line.split("=", 1) for line in file.read_text().splitlines())
        self.admin = Admin(self.env["SANDBOX_ADMIN_URL"])


def measure(number: int, changes: int, every: float, root: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="many-", ignore_cleanup_errors=True) as folder:
        systems = Systems(number, Path(folder))
        tables = [
            {"table": name, "resource": f"cusCopy{name[-2:]}", "key": f"cusCopy{name[-2:]}Id", "api": "customResources",
             "fields": {"name": "cusName"}}
            for name in names(number)
        ]  # fmt: skip
        home = Path(folder) / "home"
        home.mkdir()
        program = Program(
            systems, home, table=tables[0], further=tables[1:],  # type: ignore[arg-type]
            guardrails={"max_custom_entities": 100}, runs={"start_date": today()}, more={"SYNC_ASSETS_AUTOSTART": "1"},
        )  # fmt: skip
        environment = program.env | checkout_environment(root)
        shutil.copy(PACKAGED, home / "dagster" / "dagster.yaml")
        for name in names(number):
            systems.admin.create(name, {"name": "First"})
        try:
            with dagster_daemon(home, environment) as daemon:
                began = time.monotonic()
                while systems.admin.engine_calls()["insert"] < number:
                    assert time.monotonic() - began < PATIENCE, daemon.said
                    time.sleep(0.2)
                load = time.monotonic() - began
                time.sleep(20)
                figures = {"tables": number, "first_load_s": round(load, 1)}
                figures |= _changes(systems.admin, number, changes, every)
                return {**figures, "memory_mb": _memory(home), **_history(home)}
        finally:
            systems.process.kill()


def _changes(admin: Admin, number: int, changes: int, every: float) -> dict[str, Any]:
    seconds: list[float] = []
    for at in range(changes):
        name, since, began = names(number)[at % number], admin.last(), time.time()
        admin.create(name, {"name": f"Change {uuid.uuid4().hex[:6]}"})
        while True:
            taken = [one for one in admin.journal("campaign", since) if one["engine"] == "insert"]
            if taken:
                seconds.append(datetime.fromisoformat(taken[0]["at"]).timestamp() - began)
                break
            assert time.time() - began < PATIENCE
            time.sleep(0.02)
        time.sleep(max(0.0, every - (time.time() - began)))
    ordered = sorted(seconds)
    return {"median_s": round(statistics.median(ordered), 2), "p95_s": round(percentile(ordered, 0.95), 2),
            "max_s": round(ordered[-1], 2), "changes": len(ordered)}  # fmt: skip


def _memory(home: Path) -> list[int]:
    """Return the resident memory of each process that works on a run, in MB."""
    with Ledger.open(f"sqlite:///{home / 'dagster' / 'ledger.db'}") as ledger:
        workers = {beat.worker for beat in ledger.runs.heartbeats().values() if beat.worker}
    statuses = [Path(f"/proc/{worker.split('|')[2]}/status").read_text() for worker in workers]
    lines = [line for status in statuses for line in status.splitlines() if line.startswith("VmRSS")]
    return sorted(int(line.split()[1]) // 1024 for line in lines)


def _history(home: Path) -> dict[str, int]:
    files = [file for file in (home / "dagster" / "history").rglob("*") if file.is_file()]
    runs = [file for file in files if file.suffix == ".db" and len(file.stem) == 36]
    return {"runs": len(runs), "history_kb": sum(file.stat().st_size for file in files) // 1024}


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        raise SystemExit(serve(int(sys.argv[2]), sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=20)
    parser.add_argument("--changes", type=int, default=45)
    parser.add_argument("--every", type=float, default=4.0)
    parser.add_argument("--root", type=Path, default=ROOT)
    given = parser.parse_args()
    print(json.dumps(measure(given.tables, given.changes, given.every, given.root.resolve())))


if __name__ == "__main__":
    main()
