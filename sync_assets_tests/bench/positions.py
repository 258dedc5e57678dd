"""What a first load costs in each position of the services: engine calls by kind and seconds, whole `sync` processes.

A position is a way in which the real services may be (`support/premises.py`). `sync` runs until nothing is left to do,
three times at most. The sandbox answers on the same machine and takes more than half of its time, so the seconds
compare positions and versions; they are no throughput. PACKAGE measures another checkout of the program, against the
same sandbox.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from sync_assets_tests.bench.measure import BenchError
from sync_assets_tests.support.premises import POSITIONS, Position
from sync_assets_tests.support.program import CONTACT, OURS
from sync_assets_tests.support.sandbox_process import SandboxProcess

ORDERS_EACH = 2
SYNCS = 3
KINDS = ("insert", "update", "delete", "read")
ORDER: dict[str, Any] = {
    "table": "new_order",
    "resource": "cusOrder",
    "key": "cusOrderId",
    "fields": {"new_name": "cusName"},
    "links": [{"field": "new_contactid", "table": "contact", "to": "cusContactLink", "cardinality": "zero_or_one"}],
}


@dataclass(frozen=True)
class Cost:
    """Of one position. `syncs`: until nothing was left; `left`: records that were not synced after the last one;
    `wrong`: records in Campaign that are missing, doubled or without their contact."""

    position: str
    seconds: float
    calls: Counter[str]
    syncs: int
    left: int
    wrong: int


def costs(names: Sequence[str], contacts: int, package: Path | None = None) -> list[Cost]:
    """Measure positions, in the order given."""
    found: list[Cost] = []
    for name in names:
        found.append(_cost(name, contacts, package))
        one = found[-1]
        print(f"{name}: {one.seconds:.1f} s, {dict(one.calls)}", file=sys.stderr, flush=True)
    return found


def _cost(name: str, contacts: int, package: Path | None) -> Cost:
    position = POSITIONS[name]
    with tempfile.TemporaryDirectory(prefix="bench-positions-") as folder, SandboxProcess(contacts) as sandbox:
        _make_orders(sandbox, ORDERS_EACH * contacts)
        position.apply(sandbox.admin)
        sandbox.admin.publish_link("cusOrder", "cusContactLink", "zero_or_one")
        environment = _environment(sandbox, Path(folder), position, package)
        seconds, calls, left, syncs = 0.0, Counter[str](), 1, 0
        while left and syncs < SYNCS:
            syncs += 1
            before = sandbox.admin.engine_calls()
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "sync_assets.cli", "sync", "--json"],
                env=environment,
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds += time.perf_counter() - began
            calls.update({kind: n - before[kind] for kind, n in sandbox.admin.engine_calls().items()})
            if not done.stdout:
                raise BenchError(f"{name}: exit status {done.returncode}: {done.stderr.strip()[-500:]}")
            tables = json.loads(done.stdout)["tables"].values()
            left = sum(counts["pending"] + counts["failed"] + counts.get("waiting", 0) for counts in tables)
            if left:
                print(f"{name}: {left:,} left: {done.stderr.strip()[-500:]}", file=sys.stderr, flush=True)
        return Cost(name, seconds, calls, syncs, left, _wrong(sandbox))


def _make_orders(sandbox: SandboxProcess, wanted: int) -> None:
    """The sample has fewer orders than are wanted; the rest are spread over the contacts."""
    contacts = [row["contactid"] for row in sandbox.admin.dump_d365("contact")]
    missing = wanted - sandbox.admin.totals()["d365"]["new_order"]
    rows = [{"new_name": f"order {n}", "new_contactid": contacts[n % len(contacts)]} for n in range(max(0, missing))]
    for at in range(0, len(rows), 5000):
        sandbox.admin.create("new_order", *rows[at : at + 5000])


def _environment(sandbox: SandboxProcess, home: Path, position: Position, package: Path | None) -> dict[str, str]:
    tables = [position.table(CONTACT), position.table(ORDER)]
    if package:  # before `address: auto` a table without it was addressed by its URL
        tables = [table | {"address": "filter"} if "filter" in table else table for table in tables]
    config = home / "config.yaml"
    config.write_text(yaml.safe_dump({"privacy_acknowledged": True, "tables": tables}), encoding="utf-8")
    (home / "dagster").mkdir()
    other = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    ours = {"SYNC_ASSETS_CONFIG": str(config), "DAGSTER_HOME": str(home / "dagster")}
    return other | sandbox.env | ours | {"PYTHONPATH": str(package or Path(__file__).parents[2])}


def _wrong(sandbox: SandboxProcess) -> int:
    """Compare Campaign with Dynamics 365: rows without exactly one record, and orders without their own contact."""
    admin, wrong = sandbox.admin, 0
    contacts = Counter(str(one["externalId"] or "") for one in admin.dump_campaign("profile"))
    wrong += sum(contacts[row["contactid"]] != 1 for row in admin.dump_d365("contact"))
    of_pkey = {one["PKey"]: one["externalId"] for one in admin.dump_campaign("profile")}
    orders: dict[str, list[Any]] = {}
    for one in admin.dump_campaign("cusOrder"):
        orders.setdefault(one["cusOrderId"], []).append(of_pkey.get((one["cusContactLink"] or {}).get("PKey")))
    return wrong + sum(
        orders.get(row["new_orderid"]) != [row["_new_contactid_value"]] for row in admin.dump_d365("new_order")
    )


def show(found: Sequence[Cost], contacts: int) -> None:
    """Print a table: beside each position's calls, what they are more than the documented one's."""
    table = Table(title=f"first load of {contacts:,} contacts and {ORDERS_EACH * contacts:,} orders")
    for name in ("position", "s", "ratio", *KINDS, "syncs", "left", "wrong"):
        table.add_column(name, justify="left" if name == "position" else "right")
    for one in found:
        calls = [f"{one.calls[kind]:,}" for kind in KINDS]
        seconds = f"{one.seconds:.1f}", f"{one.seconds / found[0].seconds:.2f}"
        table.add_row(one.position, *seconds, *calls, str(one.syncs), f"{one.left:,}", f"{one.wrong:,}")
    Console(width=150).print(table)


def main(arguments: Sequence[str]) -> None:
    """`python -m sync_assets_tests.bench.positions [CONTACTS [PACKAGE [POSITION ...]]]`, all positions by default."""
    contacts = int(arguments[0]) if arguments else 100_000
    package = Path(arguments[1]).resolve() if len(arguments) > 1 and arguments[1] != "." else None
    show(costs(arguments[2:] or list(POSITIONS), contacts, package), contacts)


if __name__ == "__main__":
    main(sys.argv[1:])
