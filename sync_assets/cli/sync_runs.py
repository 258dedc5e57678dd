"""Execute the steps of a sync (`sync_steps.py`), each as a Dagster run in this process."""

import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from sync_assets.cli.instance import dagster_instance
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import CHANGES, campaign_key, d365_key, file_chain, key_of
from sync_assets.defs.partitions import WORK, add_partition, run_tags, today
from sync_assets.defs.resources import systems
from sync_assets.defs.tables.assets import table_assets
from sync_assets.defs.tables.run_requests import end_killed
from sync_assets.errors import EndsAllTables, SyncAssetsError, public_message
from sync_assets.flows import RunOutcome
from sync_assets.ledger.repositories.opt_out_files import OptOutFile
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.interruptible import INTERRUPTS
from sync_assets.runtime.workers import release_dead
from sync_assets.sync_steps import sync_steps

if TYPE_CHECKING:
    from sync_assets.opt_out.export.folder import FolderPoll

SETTLING_SECONDS = 60.0
"""How long a growing file is waited for, beyond the time that it needs to settle."""
POLL_SECONDS = 1.0
JOB = "sync"
"""The name of its runs in the UI; that of `dg.materialize` would be meaningless there."""

Failures = dict[str, list[SyncAssetsError | str]]
"""Table -> why it could not go on. The others go on without it."""


def run_flows(
    runtime: Runtime, tables: Sequence[TableConfig], quiet: Collection[str], instance: dg.DagsterInstance | None
) -> tuple[RunOutcome, Failures]:
    """Run all flows of the tables except the quiet ones, then those of opt-outs.

    instance: the Dagster instance; None: that of DAGSTER_HOME. Returns also the tables that could not go on.
    """
    outcome, failures = RunOutcome(), Failures()
    with nullcontext(instance) if instance else dagster_instance() as opened:
        end_killed(opened, runtime.ledger, *(config.table for config in tables))
        opt_outs: _OptOutRuns | None = None
        for step in sync_steps(runtime, tables, failures, quiet, waits=True):
            if step.of_table:
                both = [d365_key(step.of_table, runtime), campaign_key(step.of_table, runtime)]
                keys = {"capture": both[:1], "push": both[1:]}.get(step.work, both)
                done = run_flow(runtime, step.of_table, opened, keys)
                if step.work == "capture":
                    outcome.counts.update(done.counts)
                else:
                    _note(runtime.use.announce, step.of_table, done, outcome, failures)
                if any(isinstance(problem, EndsAllTables) for problem in outcome.problems):
                    return outcome, failures
            elif step.work == "wait":
                time.sleep(step.seconds)
                release_dead(runtime.ledger)
            elif opt_outs is None:
                opt_outs = _OptOutRuns(runtime, opened)
                try:
                    opt_outs.consume()
                except SyncAssetsError as error:  # what the tables did is reported all the same
                    outcome.problems.append(error)
            elif not opt_outs.settle():
                break
        if opt_outs:
            outcome.add(opt_outs.outcome())
        if instance is None:  # else the history is the caller's
            from sync_assets.defs.history import prune_daily  # not needed by other commands  # noqa: PLC0415

            try:
                prune_daily(runtime, runtime.ledger, opened)
            except Exception as error:  # noqa: BLE001  any of Dagster's storages: a file may be locked
                why = public_message(error, "history")
                outcome.note([f"Old runs were not deleted, which is tried again tomorrow: {why}"])
    return outcome, failures


def _note(
    announce: Callable[[str], None],
    config: TableConfig,
    run_outcome: RunOutcome,
    outcome: RunOutcome,
    failures: Failures,
) -> None:
    """Add the outcome of a table's run to that of all, and announce its problems: other tables may take hours."""
    outcome.add(run_outcome)
    if problems := [*run_outcome.problems, *run_outcome.stopped]:
        failures.setdefault(config.table, []).extend(problems)
        for problem in problems:
            announce(str(problem))


def run_flow(
    runtime: Runtime, config: TableConfig, instance: dg.DagsterInstance, selection: list[dg.AssetKey]
) -> RunOutcome:
    """Run one Dagster run of a table, in today's partition."""
    outcome = RunOutcome()
    request = dg.RunRequest(asset_selection=selection, partition_key=today(), tags=run_tags(runtime, config.table))
    execute(runtime, outcome, instance, table_assets(runtime, outcome), request)
    return outcome


def execute(
    configuration: Configuration,
    outcome: RunOutcome,
    instance: dg.DagsterInstance,
    assets: list[dg.AssetsDefinition],
    request: dg.RunRequest,
) -> None:
    """Run one Dagster run of assets that add to `outcome`. request: its selection, partition and tags."""
    selection = request.asset_selection or []
    try:
        name, installation = configuration.installation.named(JOB), configuration.installation
        job = dg.define_asset_job(name, selection=dg.AssetSelection.assets(*selection))
        resources = systems(configuration.environment, installation)
        defs = dg.Definitions(assets=assets, jobs=[job], resources={**resources})
        result = defs.resolve_job_def(name).execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            partition_key=request.partition_key,
            tags=dict(request.tags),
        )
    except dg.DagsterError as error:  # before any step ran: the other flows go on
        named = ", ".join(key.to_user_string() for key in selection)
        outcome.problems.append(SyncAssetsError(public_message(error, f"run of {named}")))
        return
    if not result.success:
        error = result.get_run_failure_event().job_failure_data.error
        if error and error.cls_name in INTERRUPTS:  # Dagster raises none of them
            raise KeyboardInterrupt
    if not (result.success or outcome.problems or outcome.stopped):
        outcome.problems.append(
            SyncAssetsError(f"The Dagster run {result.run_id} failed.", "Look at its events in the UI, under Runs.")
        )


Version = tuple[str, datetime, int]


def _version(file: OptOutFile) -> Version:
    return file.name, file.modified, file.size


class _OptOutRuns:
    """The runs of opt-outs: of the files that wait in the folder, and of what is due without one; and their outcome.

    A file that may still be written is waited for, `settle_seconds` and a minute: a user who runs `sync` expects that
    the files in the folder are processed. A file that grows for longer is left for the next sync; all else goes on.
    """

    def __init__(self, runtime: Runtime, instance: dg.DagsterInstance) -> None:
        self._runtime, self._instance = runtime, instance
        self._tried: dict[Version, list[str]] = {}
        self._announced: set[str] = set()
        self._found = RunOutcome()
        self._refused: list[str] = []
        end_killed(instance, runtime.ledger, WORK)

    def _run(self, keys: list[dg.AssetKey], partition: str | None = None) -> RunOutcome:
        from sync_assets.defs.opt_out.assets import opt_out_assets  # paramiko is slow to import  # noqa: PLC0415

        runtime, outcome = self._runtime, RunOutcome()
        assets = [*table_assets(runtime), *opt_out_assets(runtime, outcome)]
        request = dg.RunRequest(asset_selection=keys, partition_key=partition, tags=run_tags(runtime, WORK))
        execute(runtime, outcome, self._instance, assets, request)
        return outcome

    def settle(self) -> bool:
        """Poll profiles if that is due, then decide and write what is due. Return False if that failed."""
        done = self._run([key_of(CHANGES, self._runtime)])
        self._found.add(done)
        return not done.problems

    def outcome(self) -> RunOutcome:
        """Return the outcome of all runs, and why some files that are still in the folder were refused."""
        if not self._runtime.ledger.opt_outs.left(self._runtime.config.opt_out.attributes).due:
            # A later run has made up for runs that ended early, so their reasons become notes; those of files stay.
            self._found.note(self._found.stopped)
            self._found.stopped = []
        self._found.stopped += self._refused
        return self._found

    def consume(self) -> None:
        """Process each file that is ready, in their order; wait for files that may still be written.

        Raises SyncAssetsError if the SFTP cannot be polled.
        """
        from sync_assets.opt_out.export import folder  # noqa: PLC0415

        runtime = self._runtime
        waited = runtime.config.opt_out.export.settle_seconds + SETTLING_SECONDS
        give_up_at = time.monotonic() + waited
        while True:
            poll = folder.poll_folder(runtime, runtime.ledger)
            self._report(poll)
            ready = [file for file in poll.ready if _version(file) not in self._tried]
            for file in ready:
                add_partition(self._instance, file.partition, runtime.installation.name)
                outcome = self._run(file_chain(runtime), file.partition)
                texts = [text for text in outcome.stopped if text.startswith(f"{file.partition}: ")]
                outcome.stopped = [text for text in outcome.stopped if text not in texts]
                self._found.add(outcome)
                self._tried[_version(file)] = texts
                self._refused += texts
                if self._found.problems:
                    return  # the same problem would stop the other files
            if ready:
                continue  # poll again: processed files have been tidied away
            if not poll.unsettled:
                return
            if time.monotonic() > give_up_at:
                names = ", ".join(file.name for file in poll.unsettled)
                self._refused.append(f"{names}: still being written after {waited:.0f} s; left for the next sync.")
                return
            self._announce(poll.unsettled)
            runtime.progress("waiting for files to settle", 0)
            time.sleep(POLL_SECONDS)

    def _announce(self, unsettled: Sequence[OptOutFile]) -> None:
        """Announce once for each file that it is waited for, unless it needs nothing but a second poll."""
        from sync_assets.opt_out.export import folder  # noqa: PLC0415

        settle = self._runtime.config.opt_out.export.settle_seconds
        waits = {file.name: folder.seconds_to_settle(file, settle) for file in unsettled}
        waits = {name: wait for name, wait in waits.items() if wait > 0 and name not in self._announced}
        if waits:
            self._announced |= waits.keys()
            seconds, names = math.ceil(max(waits.values())), ", ".join(waits)
            self._runtime.use.announce(
                f"Waiting {seconds} s for {names} to settle; longer if it is still being written."
            )

    def _report(self, poll: "FolderPoll") -> None:
        """Add notes about the folder's files, and drop those of this sync about files that are no longer present.

        A changed file counts as another one, which is processed in its turn.
        """
        directory = self._runtime.config.opt_out.export.directory
        texts = [f"{name} in {directory} is passed over: {why}." for name, why in poll.passed_over]
        texts += [*poll.troubles, *(f"{file.partition}: {file.reason}" for file in poll.refused)]
        self._found.note(texts)
        present = {_version(file) for file in (*poll.ready, *poll.unsettled, *poll.refused)}
        outdated = {text for version, texts in self._tried.items() if version not in present for text in texts}
        self._refused = [text for text in self._refused if text not in outdated]
