"""The Dagster runs of `sync`, until nothing more can be done.

Each step is a real run in this process. What one pass leaves pending (a record that is to be tried again later, records
leased to another worker) the next pass takes up; the loop ends when nothing is pending, when a pass moved nothing, or
when something stopped a flow.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from sync_assets.config.models import TableConfig
from sync_assets.defs.instance.command_line import dagster_instance
from sync_assets.defs.partitions import table_tags, today
from sync_assets.defs.resources import systems
from sync_assets.defs.tables.active_runs import end_killed
from sync_assets.defs.tables.asset_metadata import campaign_key, d365_key
from sync_assets.defs.tables.assets import table_assets
from sync_assets.defs.tables.sensors import BACKLOG_TAG
from sync_assets.errors import SyncAssetsError, in_our_words
from sync_assets.push.target import CONTACT
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import OtherSystems
from sync_assets.runtime.workers import release_dead

PATIENCE_SECONDS = 300.0
"""How long `sync` waits for records that are leased to others or to be tried again later."""

JOB = "sync"
"""The name of its runs in the UI, where that of `dg.materialize` would say nothing."""

Troubled = dict[str, list[SyncAssetsError | str]]
"""Table -> why it could not go on. The others go on without it."""


def run_flows(
    runtime: Runtime, tables: Sequence[TableConfig], quiet: Collection[str], instance: dg.DagsterInstance | None
) -> Troubled:
    """Runs all flows of the tables but the quiet ones, then those of opt-outs.

    Args:
        runtime: Afterwards holds the problems of all flows.
        tables: In link order.
        quiet: Names of tables that need no capture.
        instance: Dagster's, if not the one that DAGSTER_HOME names.

    Raises:
        OtherSystems: The ledger belongs to other systems.
    """
    with nullcontext(instance) if instance else dagster_instance() as opened:
        return _run_flows(runtime, tables, quiet, opened)


def _run_flows(
    runtime: Runtime, tables: Sequence[TableConfig], quiet: Collection[str], instance: dg.DagsterInstance
) -> Troubled:
    troubled: Troubled = {}
    for config in tables:
        end_killed(instance, runtime.ledger, config.table)
        if _goes(runtime, config) and config.table not in quiet:
            with _noted(runtime, config, troubled):
                _capture_and_push(runtime, config, instance)
            for problem in runtime.problems:
                if isinstance(problem, OtherSystems):
                    raise problem  # as true of all other flows
    _push_the_rest(runtime, tables, instance, troubled)
    if runtime.config.opt_out.active and any(config.table == CONTACT and _goes(runtime, config) for config in tables):
        from sync_assets.commands.opt_out_runs import sync_opt_outs  # paramiko is slow to import  # noqa: PLC0415

        sync_opt_outs(runtime, instance, execute)
    return troubled


@contextmanager
def _noted(runtime: Runtime, config: TableConfig, troubled: Troubled) -> Iterator[None]:
    """Around the runs of a table: what stops them is noted as the table's."""
    problems, stopped = len(runtime.problems), len(runtime.stopped)
    yield
    if found := [*runtime.problems[problems:], *runtime.stopped[stopped:]]:
        troubled.setdefault(config.table, []).extend(found)


def _push_the_rest(
    runtime: Runtime, tables: Sequence[TableConfig], instance: dg.DagsterInstance, troubled: Troubled
) -> None:
    """What the first runs left. What is wrong with one table keeps no other from its work."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    before: dict[str, int] | None = None
    read_again: dict[str, list[str]] = {}
    while going := [config for config in tables if config.table not in troubled and _goes(runtime, config)]:
        for config in going:
            if _pending(runtime, config):
                with _noted(runtime, config, troubled):
                    run_flow(runtime, config, instance, [campaign_key(config)])
        for config in going:
            unread = runtime.ledger.unread(config.table)
            if unread and unread != read_again.get(config.table):
                read_again[config.table] = unread
                with _noted(runtime, config, troubled):
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
    run_flow(runtime, config, instance, [d365_key(config), campaign_key(config)])


def _goes(runtime: Runtime, config: TableConfig) -> bool:
    return config.table not in runtime.ledger.in_maintenance()


def _pending(runtime: Runtime, config: TableConfig) -> int:
    counts = runtime.ledger.counts().get(config.table)
    return counts.pending if counts else 0


def run_flow(
    runtime: Runtime,
    config: TableConfig,
    instance: dg.DagsterInstance,
    selection: list[dg.AssetKey],
) -> None:
    """One Dagster run of a table, of today's partition. One that only sends does not keep sensors from following the
    table's changes."""
    tags = table_tags(config.table) | ({BACKLOG_TAG: "yes"} if selection == [campaign_key(config)] else {})
    execute(runtime, instance, table_assets(runtime), selection, today(), tags)


def execute(
    runtime: Runtime,
    instance: dg.DagsterInstance,
    assets: list[dg.AssetsDefinition],
    selection: list[dg.AssetKey],
    partition: str | None,
    tags: dict[str, str],
    resources: dict[str, Any] | None = None,
) -> None:
    """One Dagster run. What stops it is in `runtime.problems` afterwards: the assets tell. partition: None where the
    assets have none."""
    before = len(runtime.problems), len(runtime.stopped)
    try:
        job = dg.define_asset_job(JOB, selection=dg.AssetSelection.assets(*selection))
        named = dg.Definitions(assets=assets, jobs=[job], resources={**systems(), **(resources or {})})
        result = named.resolve_job_def(JOB).execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            partition_key=partition,
            tags=tags,
        )
    except dg.DagsterError as error:  # before any step of it ran: that keeps no other flow from its work
        named = ", ".join(key.to_user_string() for key in selection)
        runtime.problems.append(SyncAssetsError(in_our_words(error, f"run of {named}")))
        return
    if runtime.interrupted:
        raise KeyboardInterrupt
    if not result.success and before == (len(runtime.problems), len(runtime.stopped)):
        runtime.problems.append(
            SyncAssetsError(f"The Dagster run {result.run_id} failed.", "Look at its events in the UI, under Runs.")
        )
