"""`sync`: every flow through Dagster, until nothing more can be done.

Each step is a real Dagster run in this process. What one pass leaves pending (a record that is to be tried again
later, records leased to another worker) the next pass takes up; the loop ends when nothing is pending, when a pass
moved nothing, or when something stopped a flow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from sync_assets.config import TableConfig
from sync_assets.errors import SyncAssetsError
from sync_assets.ingress.assets import campaign_key, d365_key, table_assets
from sync_assets.ingress.preflight import CHECKS, findings_of
from sync_assets.ingress.runs import WORKER_TAG, end_killed
from sync_assets.ingress.spread import BACKLOG_TAG
from sync_assets.ingress.target import CONTACT
from sync_assets.ingress.workers import release_dead, worker_id
from sync_assets.operations.instance import dagster_instance
from sync_assets.operations.report import document, held_back, in_maintenance, unknown_tables
from sync_assets.opt_out.names import active
from sync_assets.partitions import range_tags, split_days, table_tags, today
from sync_assets.runtime import Runtime

PATIENCE_SECONDS = 300.0
"""How long `sync` waits for records that are leased to others or to be tried again later."""

LEFT = ("pending", "waiting", "failed", "held", "deletes_held_back")
"""Counts of a table that are all 0 when nothing is left to be done. What is orphaned does not count: its parent is gone
for good, or it names none, so that only Dynamics 365 can change that."""
OPT_OUTS_LEFT = ("due", "refused", "held", "files_waiting", "files_refused", "rejected_rows")
"""The same for opt-outs; rejected rows are those of this invocation."""


@dataclass(frozen=True, slots=True)
class Synced:
    """`document`: what `sync --json` prints. `problems`: why a flow could not run, `stopped`: why one ended early or
    was not there, and what else somebody should know. `status`: the exit status."""

    document: dict[str, Any]
    problems: list[SyncAssetsError]
    stopped: list[str]
    status: int


def sync(runtime: Runtime, only: Sequence[str] = (), *, instance: dg.DagsterInstance | None = None) -> Synced:
    """Runs the flows of all mapped tables, or of `only`. Safe to kill and repeat at any moment. instance: Dagster's, if
    not the one that DAGSTER_HOME names."""
    if error := unknown_tables(runtime, only):
        raise error
    tables = [config for config in runtime.config.in_link_order if not only or config.table in only]
    runtime.settings.require("d365", "campaign")
    runtime.ledger  # noqa: B018  an unusable ledger is told before anything else
    with nullcontext(instance) if instance else dagster_instance() as opened:
        release_dead(runtime.ledger)
        sound: list[TableConfig] = []
        for config in tables:
            end_killed(opened, config.table)
            before = len(runtime.problems)
            if _goes(runtime, config):
                _capture_and_push(runtime, config, opened)
            if len(runtime.problems) == before:
                sound.append(config)
        if sound and all(map(_of_its_table_alone, runtime.problems)):
            _push_the_rest(runtime, sound, opened)
        if active(runtime.config) and any(config.table == CONTACT and _goes(runtime, config) for config in tables):
            from sync_assets.operations.opt_outs import sync_opt_outs  # paramiko is slow to import  # noqa: PLC0415

            sync_opt_outs(runtime, opened, execute)
    if runtime.config.logs.export:
        _export_log(runtime)
    outcome = document(runtime, runtime.calls, runtime.opt_outs)
    paused = in_maintenance(outcome, [config.table for config in tables])
    status = _status(runtime, outcome, [config.table for config in tables]) or (2 if paused else 0)
    said = [*runtime.warnings, *paused, *held_back(outcome), *runtime.stopped]
    return Synced(outcome, runtime.problems, said, status)


def _export_log(runtime: Runtime) -> None:
    """That it could not be written is told, and is no reason to call the sync a failure as a whole."""
    from sync_assets.operations.log_export import export_log  # noqa: PLC0415

    try:
        export_log(runtime)
    except SyncAssetsError as error:
        runtime.stopped.append(f"The log was not written to the Campaign SFTP: {error}")


def _status(runtime: Runtime, outcome: dict[str, Any], tables: Sequence[str]) -> int:
    """0 nothing pending; 2 something failed, is held, held back, waiting or pending; 1 a flow could not run."""
    if runtime.problems:
        return 1
    left = any(outcome["tables"][table][state] for table in tables for state in LEFT)
    opt_outs = CONTACT in tables and any(outcome["opt_out"][state] for state in OPT_OUTS_LEFT)
    return 2 if left or opt_outs or runtime.stopped else 0


def _push_the_rest(runtime: Runtime, tables: Sequence[TableConfig], instance: dg.DagsterInstance) -> None:
    """Of tables that could be captured: what is wrong with one keeps no other from its work."""
    give_up_at, problems = time.monotonic() + PATIENCE_SECONDS, len(runtime.problems)
    before: dict[str, int] | None = None
    read_again: dict[str, list[str]] = {}
    while len(runtime.problems) == problems and not runtime.stopped:
        going = [config for config in tables if _goes(runtime, config)]
        left = {config.table: runtime.ledger.pending_days(config.table) for config in going}
        for config in going:
            for first, last in split_days(left[config.table], 1):
                where: dict[str, Any] = (
                    {"partition_key": first.isoformat()} if first == last else {"tags": range_tags(first, last)}
                )
                run_flow(runtime, config, instance, [campaign_key(config)], where)
        for config in going:
            unread = runtime.ledger.unread(config.table)
            if unread and unread != read_again.get(config.table):
                read_again[config.table] = unread
                _capture_and_push(runtime, config, instance)
        pending = {config.table: _pending(runtime, config) for config in going}
        if not any(pending.values()) or time.monotonic() > give_up_at:
            return
        due = min(filter(None, (runtime.ledger.next_due(config.table) for config in going)), default=None)
        if pending == before and due is None:
            return
        if pending != before:
            give_up_at = time.monotonic() + PATIENCE_SECONDS  # a pass that moves something may take its time
        before = pending
        pause = (due - datetime.now(UTC)).total_seconds() if due else 0.5
        time.sleep(min(max(pause, 0.1), 5.0))
        release_dead(runtime.ledger)


def _capture_and_push(runtime: Runtime, config: TableConfig, instance: dg.DagsterInstance) -> None:
    run_flow(runtime, config, instance, [d365_key(config), campaign_key(config)], {"partition_key": today()})


def _goes(runtime: Runtime, config: TableConfig) -> bool:
    return config.table not in runtime.ledger.in_maintenance()


def _of_its_table_alone(problem: SyncAssetsError) -> bool:
    """Is it the data model of one table that does not fit? Broken guardrails, and systems out of reach, are no such
    thing: they stop all."""
    wrong = [finding for finding in findings_of(problem) if not finding.passed]
    return bool(wrong) and all(finding.check in CHECKS for finding in wrong)


def _pending(runtime: Runtime, config: TableConfig) -> int:
    counts = runtime.ledger.counts().get(config.table)
    return counts.pending if counts else 0


def _assets(runtime: Runtime) -> list[dg.AssetsDefinition]:
    """Of all tables: those that a run does not select are there as what it depends on."""
    return [asset for config in runtime.config.in_link_order for asset in table_assets(config, runtime)]


def run_flow(
    runtime: Runtime,
    config: TableConfig,
    instance: dg.DagsterInstance,
    selection: list[dg.AssetKey],
    where: dict[str, Any],
) -> None:
    """One Dagster run of a table. One that only sends does not keep sensors from following the table's changes."""
    sends_only = {BACKLOG_TAG: config.table} if selection == [campaign_key(config)] else {}
    execute(runtime, instance, _assets(runtime), selection, where, table_tags(config.table) | sends_only)


def execute(
    runtime: Runtime,
    instance: dg.DagsterInstance,
    assets: list[dg.AssetsDefinition],
    selection: list[dg.AssetKey],
    where: dict[str, Any],
    tags: dict[str, str],
    resources: dict[str, Any] | None = None,
) -> None:
    """One Dagster run. What stops it is in `runtime.problems` afterwards: the assets tell. `where`: the partition."""
    result = dg.materialize(
        assets,
        selection=dg.AssetSelection.assets(*selection),
        instance=instance,
        resources=resources,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        **{**where, "tags": {**tags, WORKER_TAG: worker_id(), **where.get("tags", {})}},
    )
    if runtime.interrupted:
        raise KeyboardInterrupt
    if not result.success and not runtime.problems and not runtime.stopped:
        runtime.problems.append(
            SyncAssetsError(f"The Dagster run {result.run_id} failed.", "Look at its events in the UI, under Runs.")
        )
