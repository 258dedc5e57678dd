"""`sync`: every flow through Dagster, until nothing more can be done.

Each step is a real Dagster run in this process. What one pass leaves pending (a record that is to be tried again
later, records leased to another worker) the next pass takes up; the loop ends when nothing is pending, when a pass
moved nothing, or when something stopped a flow.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from sync_assets.campaign.client import CampaignRefused
from sync_assets.config import TableConfig
from sync_assets.d365.client import D365Refused
from sync_assets.errors import SyncAssetsError, in_our_words
from sync_assets.ingress.assets import table_assets
from sync_assets.ingress.guardrails import BeyondLimits, check_configuration
from sync_assets.ingress.preflight import CHECKS, findings_of
from sync_assets.ingress.runs import end_killed
from sync_assets.ingress.sensors import BACKLOG_TAG
from sync_assets.ingress.shown import campaign_key, d365_key
from sync_assets.ingress.target import CONTACT
from sync_assets.ingress.workers import release_dead
from sync_assets.operations.instance import dagster_instance
from sync_assets.operations.report import document, held_back, in_maintenance, unknown_tables
from sync_assets.opt_out.names import active
from sync_assets.partitions import table_tags, today
from sync_assets.runtime import Runtime
from sync_assets.systems import OtherSystems

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
    """Runs the flows of all mapped tables, or of `only`. Safe to kill and repeat at any moment. Raises OtherSystems,
    LedgerError before anything is sent. instance: Dagster's, if not the one that DAGSTER_HOME names."""
    if error := unknown_tables(runtime, only):
        raise error
    tables = [config for config in runtime.config.in_link_order if not only or config.table in only]
    runtime.settings.require("d365", "campaign")
    gc.freeze()  # Dagster and our modules stay: the collector need not walk through them while records are sent
    runtime.ledger  # noqa: B018  an unusable ledger, or one of other systems, is told before anything else
    troubled: Troubled = {}
    try:
        check_configuration(runtime.config, tables)
    except BeyondLimits as error:
        runtime.problems.append(error)
    else:
        with nullcontext(instance) if instance else dagster_instance() as opened:
            troubled = _run_flows(runtime, tables, opened)
    if runtime.config.logs.export:
        _export_log(runtime)
    outcome = document(runtime, runtime.calls, runtime.opt_outs)
    for table, counts in outcome["tables"].items():
        counts["problem"] = str(troubled[table][0]) if table in troubled else None
    paused = in_maintenance(outcome, [config.table for config in tables])
    status = _status(runtime, outcome, [config.table for config in tables], troubled) or (2 if paused else 0)
    said = [*runtime.warnings, *paused, *held_back(outcome), *runtime.stopped]
    return Synced(outcome, runtime.problems, said, status)


Troubled = dict[str, list[SyncAssetsError | str]]
"""Table -> why it could not go on. The others go on without it."""


def _run_flows(runtime: Runtime, tables: Sequence[TableConfig], instance: dg.DagsterInstance) -> Troubled:
    """Runs all flows of the tables, then those of opt-outs."""
    release_dead(runtime.ledger)
    troubled: Troubled = {}
    for config in tables:
        end_killed(instance, runtime.ledger, config.table)
        if _goes(runtime, config):
            with _noted(runtime, config, troubled):
                _capture_and_push(runtime, config, instance)
            for problem in runtime.problems:
                if isinstance(problem, OtherSystems):
                    raise problem  # as true of all other flows
    _push_the_rest(runtime, tables, instance, troubled)
    if active(runtime.config) and any(config.table == CONTACT and _goes(runtime, config) for config in tables):
        from sync_assets.operations.opt_outs import sync_opt_outs  # paramiko is slow to import  # noqa: PLC0415

        sync_opt_outs(runtime, instance, execute)
    return troubled


@contextmanager
def _noted(runtime: Runtime, config: TableConfig, troubled: Troubled) -> Iterator[None]:
    """Around the runs of a table: what stops them is noted as the table's."""
    problems, stopped = len(runtime.problems), len(runtime.stopped)
    yield
    if found := [*runtime.problems[problems:], *runtime.stopped[stopped:]]:
        troubled.setdefault(config.table, []).extend(found)


def _export_log(runtime: Runtime) -> None:
    """That it could not be written is told, and is no reason to call the sync a failure as a whole."""
    from sync_assets.operations.log_export import export_log  # noqa: PLC0415

    try:
        export_log(runtime)
    except SyncAssetsError as error:
        runtime.stopped.append(f"The log was not written to the Campaign SFTP: {error}")


def _status(runtime: Runtime, outcome: dict[str, Any], tables: Sequence[str], troubled: Troubled) -> int:
    """0 nothing pending; 2 something failed, is held, held back, waiting or pending, or a table could not run while
    others could; 1 none could, or what kept a flow from running is not the matter of a table."""
    of_tables = [problem for found in troubled.values() for problem in found]
    if any(problem not in of_tables or not _of_its_table_alone(problem) for problem in runtime.problems):
        return 1
    if runtime.problems:
        return 1 if all(table in troubled for table in tables) else 2
    left = any(outcome["tables"][table][state] for table in tables for state in LEFT)
    opt_outs = CONTACT in tables and any(outcome["opt_out"][state] for state in OPT_OUTS_LEFT)
    return 2 if left or opt_outs or runtime.stopped else 0


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


def _of_its_table_alone(problem: SyncAssetsError) -> bool:
    """Is it the data model of one table that does not fit, or are we refused that table? Broken guardrails, and systems
    out of reach, are no such thing."""
    wrong = [finding for finding in findings_of(problem) if not finding.passed]
    of_the_model = bool(wrong) and all(finding.check in CHECKS for finding in wrong)
    return of_the_model or isinstance(problem, D365Refused | CampaignRefused)


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
        result = dg.materialize(
            assets,
            selection=dg.AssetSelection.assets(*selection),
            instance=instance,
            resources=resources,
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
