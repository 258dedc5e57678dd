"""`rebuild`: rebuild a ledger that was lost, or restored from an older copy.

The steps are in operations/rebuild.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sync_assets.config.models import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.operations.rebuild import begin_anew, new_keys, pages_of, rebuild_table
from sync_assets.operations.status import COLUMNS, document, held_back, unknown_tables
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.validation.guardrails import check_limits

FOUND = ("records", "equal", "differing", "unknown")
"""The counts of a table that a rebuild reports, as in ledger.Rebuild."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The result of a rebuild.

    Attributes:
        document: what `rebuild --json` prints.
        said: further notes for people.
        problem: what stopped it.
    """

    document: dict[str, Any]
    said: list[str]
    problem: SyncAssetsError | None = None


def rebuild(runtime: Runtime, only: Sequence[str] = ()) -> Rebuilt:
    """Rebuild all mapped tables, or `only`, parents first. May be killed and repeated."""
    tables = _tables(runtime, only)
    runtime.settings.require("d365", "campaign")
    runtime.accept_older(lambda: begin_anew(runtime))
    found: dict[str, Any] = {}
    notes: list[str] = []
    problem: SyncAssetsError | None = None
    with new_keys() as keys:
        for config in tables:
            try:
                check_limits(runtime, config, reading=True)
                rebuilt, more = interruptible.run(rebuild_table(runtime, config, keys))
                found[config.table] = {name: asdict(rebuilt)[name] for name in FOUND}
                notes += more
            except SyncAssetsError as error:
                problem = error
                break
    whole = document(runtime, runtime.calls, {})
    for table, counts in found.items():
        counts |= {name: whole["tables"][table][name] for name in COLUMNS}
    notes += held_back({"tables": {t: whole["tables"][t] for t in found}})
    return Rebuilt({"tables": found, "engine_calls": whole["engine_calls"]}, [*dict.fromkeys(notes)], problem)


def rehearse(runtime: Runtime, only: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a rebuild would cost. Reads the number of Campaign's records: one engine call for each table.

    How many of them differ is only known after the comparison; then `plan` shows what a sync would send.
    """
    tables: dict[str, Any] = {}
    for config in _tables(runtime, only):
        records, pages = interruptible.run(pages_of(runtime, config))
        tables[config.table] = {"resource": config.resource, "records": records, "engine_calls": {"read": pages}}
    reads = sum(one["engine_calls"]["read"] for one in tables.values())
    return {"tables": tables, "engine_calls": {"read": reads}, "left_today": runtime.calls_left_today}


def _tables(runtime: Runtime, only: Sequence[str]) -> list[TableConfig]:
    if error := unknown_tables(runtime, only):
        raise error
    return [config for config in runtime.config.in_link_order if not only or config.table in only]
