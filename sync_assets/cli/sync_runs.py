"""The Dagster runs of `sync`, those of opt-outs last, until nothing more can be done.

Each step is a real run in this process. Records that one pass leaves pending (to be retried later, or leased to another
worker) are sent by the next pass. The loop ends when nothing is pending, when a pass moved nothing, or when a problem
stopped a flow.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from sync_assets.capture.feed_polling import poll_once
from sync_assets.cli.instance import dagster_instance
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import CHANGES, campaign_key, d365_key, file_chain, key_of
from sync_assets.defs.partitions import WORK, add_partition, run_tags, today
from sync_assets.defs.resources import systems
from sync_assets.defs.tables.assets import table_assets
from sync_assets.defs.tables.run_requests import end_killed
from sync_assets.errors import EndsAllTables, SyncAssetsError, public_message
from sync_assets.flows import Outcome
from sync_assets.ledger.repositories.opt_out_files import OptOutFile
from sync_assets.push.claimed_records import WAIT_FOR_RETRY_SECONDS
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.interruptible import INTERRUPTS
from sync_assets.runtime.workers import release_dead

if TYPE_CHECKING:
    from sync_assets.opt_out.export.folder import FolderPoll

LEASE_WAIT_SECONDS = 300.0
"""How long `sync` waits for records that are leased to other workers."""

SETTLING_SECONDS = 60.0
"""How long a growing file is waited for, beyond the time that it needs to settle."""
POLL_SECONDS = 1.0
ROUNDS = 20
JOB = "sync"
"""The name of its runs in the UI; that of `dg.materialize` would be meaningless there."""

Failures = dict[str, list[SyncAssetsError | str]]
"""Table -> why it could not go on. The others go on without it."""


def run_flows(
    runtime: Runtime,
    tables: Sequence[TableConfig],
    quiet: Collection[str],
    instance: dg.DagsterInstance | None,
    parents: Sequence[TableConfig] = (),
) -> tuple[Outcome, Failures]:
    """Run all flows of the tables except the quiet ones, then those of opt-outs.

    instance: the Dagster instance; None: that of DAGSTER_HOME. parents: tables that are captured only, so that a child
    of a row that is new there waits for it, and does not count as orphaned; problems are left to their own sync.
    Returns also the tables that could not go on.
    """
    outcome, failures = Outcome(), Failures()
    with nullcontext(instance) if instance else dagster_instance() as opened:
        for config in parents:
            run_flow(runtime, config, opened, [d365_key(config, runtime)])
        for config in tables:
            end_killed(opened, runtime.ledger, config.table)
            if _in_maintenance(runtime, config) or config.table in quiet:
                continue
            _note(runtime, config, _capture_and_push(runtime, config, opened), outcome, failures)
            feed = runtime.ledger.feeds.feed(config.table)
            if config.table not in failures and feed and not feed.complete:  # its push listed profiles out of scope
                _note(runtime, config, _capture_and_push(runtime, config, opened), outcome, failures)
            if any(isinstance(problem, EndsAllTables) for problem in outcome.problems):
                return outcome, failures
        for config in _parents_with_news(runtime, tables, parents, quiet, failures):
            if config in parents:
                run_flow(runtime, config, opened, [d365_key(config, runtime)])
            else:
                _note(runtime, config, _capture_and_push(runtime, config, opened), outcome, failures)
        _push_pending(runtime, tables, opened, outcome, failures)
        contacts = [config for config in tables if config.table == CONTACT and not _in_maintenance(runtime, config)]
        if runtime.config.opt_out.active and contacts:
            outcome.add(sync_opt_outs(runtime, opened))
        if instance is None:  # else the history is the caller's
            from sync_assets.defs.history import prune_daily  # not needed by other commands  # noqa: PLC0415

            try:
                prune_daily(runtime, opened)
            except Exception as error:  # noqa: BLE001  any of Dagster's storages: a file may be locked
                why = public_message(error, "history")
                outcome.note([f"Old runs were not deleted, which is tried again tomorrow: {why}"])
    return outcome, failures


def _parents_with_news(
    runtime: Runtime,
    tables: Sequence[TableConfig],
    beyond: Sequence[TableConfig],
    quiet: Collection[str],
    failures: Failures,
) -> Iterator[TableConfig]:
    """Yield the parents' tables that changed since they were captured, so that each is read after its children.

    A child whose parent was created after the parent's table was captured counts as orphaned until then.
    """
    own = [*tables, *beyond]
    linked = {link.table for config in own if config.table not in quiet for link in config.links}
    if not linked:
        return
    for config in reversed(runtime.config.in_link_order):
        if config.table not in linked or config not in own:
            continue
        if config.table in failures or _in_maintenance(runtime, config):
            continue
        with suppress(SyncAssetsError):  # its next capture reports the problem
            if interruptible.run(poll_once(runtime, [config])).news:
                linked |= {link.table for link in config.links}
                yield config


def _note(runtime: Runtime, config: TableConfig, run_outcome: Outcome, outcome: Outcome, failures: Failures) -> None:
    """Add the outcome of a table's run to that of all, and announce its problems: other tables may take hours."""
    outcome.add(run_outcome)
    if problems := [*run_outcome.problems, *run_outcome.stopped]:
        failures.setdefault(config.table, []).extend(problems)
        for problem in problems:
            runtime.announce(str(problem))


def _push_pending(
    runtime: Runtime, tables: Sequence[TableConfig], instance: dg.DagsterInstance, outcome: Outcome, failures: Failures
) -> None:
    """Send what the first runs left pending. A problem with one table does not stop the others."""
    give_up_at = time.monotonic() + LEASE_WAIT_SECONDS
    pending_before: dict[str, int] | None = None
    refetched: dict[str, list[str]] = {}
    while active := [
        config for config in tables if config.table not in failures and not _in_maintenance(runtime, config)
    ]:
        for config in active:
            to_refetch = runtime.ledger.blocked.ids_to_refetch(config.table)
            if to_refetch and to_refetch != refetched.get(config.table):
                refetched[config.table] = to_refetch
                _note(runtime, config, _capture_and_push(runtime, config, instance), outcome, failures)
        for config in active:
            due = runtime.ledger.reports.next_due(config.table)
            if due is not None and due <= datetime.now(UTC):
                run_outcome = run_flow(runtime, config, instance, [campaign_key(config, runtime)])
                _note(runtime, config, run_outcome, outcome, failures)
        blocked = runtime.ledger.blocked
        if any(blocked.ids_to_refetch(one.table) not in ([], refetched.get(one.table)) for one in active):
            continue
        counts = runtime.ledger.reports.counts()
        pending = {config.table: counts[config.table].pending for config in active}
        if not any(pending.values()) or time.monotonic() > give_up_at:
            return
        unsent = [config.table for config in active if pending[config.table]]
        due = min(filter(None, map(runtime.ledger.reports.next_due, unsent)), default=None)
        if pending == pending_before and due is None:
            return
        longest = timedelta(seconds=WAIT_FOR_RETRY_SECONDS)
        leased = any(of_table.leased for of_table in counts.values())  # to another worker
        if due and due - datetime.now(UTC) > longest and not leased:
            return  # records without an answer that names a cause, which are tried again in growing intervals
        if pending != pending_before:
            give_up_at = time.monotonic() + LEASE_WAIT_SECONDS  # there is progress, so the wait starts anew
        pending_before = pending
        pause = (due - datetime.now(UTC)).total_seconds() if due else 0.5
        time.sleep(min(max(pause, 0.1), 5.0))
        release_dead(runtime.ledger)


def _capture_and_push(runtime: Runtime, config: TableConfig, instance: dg.DagsterInstance) -> Outcome:
    return run_flow(runtime, config, instance, [d365_key(config, runtime), campaign_key(config, runtime)])


def _in_maintenance(runtime: Runtime, config: TableConfig) -> bool:
    return config.table in runtime.ledger.maintenance.in_maintenance()


def run_flow(
    runtime: Runtime, config: TableConfig, instance: dg.DagsterInstance, selection: list[dg.AssetKey]
) -> Outcome:
    """Run one Dagster run of a table, in today's partition."""
    outcome = Outcome()
    tags = run_tags(runtime, config.table)
    execute(runtime, outcome, instance, table_assets(runtime, outcome), selection, today(), tags)
    return outcome


def execute(
    runtime: Runtime,
    outcome: Outcome,
    instance: dg.DagsterInstance,
    assets: list[dg.AssetsDefinition],
    selection: list[dg.AssetKey],
    partition: str | None,
    tags: dict[str, str],
) -> None:
    """Run one Dagster run of assets that add to `outcome`. partition: None if the assets have none."""
    try:
        name, installation = runtime.installation.named(JOB), runtime.installation
        job = dg.define_asset_job(name, selection=dg.AssetSelection.assets(*selection))
        resources = systems(runtime.environment, installation)
        defs = dg.Definitions(assets=assets, jobs=[job], resources={**resources})
        result = defs.resolve_job_def(name).execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            partition_key=partition,
            tags=tags,
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


def sync_opt_outs(runtime: Runtime, instance: dg.DagsterInstance) -> Outcome:
    """Run all flows of opt-outs, and return their outcome.

    A file that may still be written is waited for, `settle_seconds` and a minute: a user who runs `sync` expects that
    the files in the folder are processed. A file that grows for longer is left for the next sync; all else goes on.
    """
    from sync_assets.defs.opt_out.assets import opt_out_assets  # paramiko is slow to import  # noqa: PLC0415
    from sync_assets.opt_out.profile_polling import poll_is_due  # noqa: PLC0415

    end_killed(instance, runtime.ledger, WORK)

    def run(keys: list[dg.AssetKey], partition: str | None = None) -> Outcome:
        outcome = Outcome()
        assets = [*table_assets(runtime), *opt_out_assets(runtime, outcome)]
        execute(runtime, outcome, instance, assets, keys, partition, run_tags(runtime, WORK))
        return outcome

    def take(partition: str) -> Outcome:
        add_partition(instance, partition, runtime.installation.name)
        return run(file_chain(runtime), partition)

    waiting = _WaitingFiles(runtime, take)
    outcome = waiting.found
    try:
        waiting.consume()
    except SyncAssetsError as error:  # an unreachable SFTP must not hold back changes of Dynamics 365
        outcome.problems.append(error)
    for _ in range(ROUNDS):  # poll profiles if that is due, then decide and write what is due, until nothing moves
        before = runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes)
        if not before.due and not poll_is_due(runtime, datetime.now(UTC)):
            break
        done = run([key_of(CHANGES, runtime)])
        outcome.add(done)
        if done.problems or runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes) == before:
            break
    if not runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes).due:
        # A later run has made up for runs that ended early, so their reasons become notes; those of files stay.
        outcome.note(outcome.stopped)
        outcome.stopped = []
    outcome.stopped += waiting.refused
    return outcome


Version = tuple[str, datetime, int]


def _version(file: OptOutFile) -> Version:
    return file.name, file.modified, file.size


class _WaitingFiles:
    """The files that wait in the folder, the outcome of their runs, and why some that are still there were refused."""

    def __init__(self, runtime: Runtime, run: Callable[[str], Outcome]) -> None:
        self._runtime, self._run = runtime, run
        self._tried: dict[Version, list[str]] = {}
        self._announced: set[str] = set()
        self.found = Outcome()
        self.refused: list[str] = []

    def consume(self) -> None:
        """Process each file that is ready, in their order; wait for files that may still be written."""
        from sync_assets.opt_out.export import folder  # noqa: PLC0415

        runtime = self._runtime
        waited = runtime.config.opt_out.export.settle_seconds + SETTLING_SECONDS
        give_up_at = time.monotonic() + waited
        while True:
            poll = folder.poll_folder(runtime)
            self._report(poll)
            ready = [file for file in poll.ready if _version(file) not in self._tried]
            for file in ready:
                outcome = self._run(file.partition)
                texts = [text for text in outcome.stopped if text.startswith(f"{file.partition}: ")]
                outcome.stopped = [text for text in outcome.stopped if text not in texts]
                self.found.add(outcome)
                self._tried[_version(file)] = texts
                self.refused += texts
                if self.found.problems:
                    return  # the same problem would stop the other files
            if ready:
                continue  # poll again: processed files have been tidied away
            if not poll.unsettled:
                return
            if time.monotonic() > give_up_at:
                names = ", ".join(file.name for file in poll.unsettled)
                self.refused.append(f"{names}: still being written after {waited:.0f} s; left for the next sync.")
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
            self._runtime.announce(f"Waiting {seconds} s for {names} to settle; longer if it is still being written.")

    def _report(self, poll: "FolderPoll") -> None:
        """Add notes about the folder's files, and drop those of this sync about files that are no longer present.

        A changed file counts as another one, which is processed in its turn.
        """
        directory = self._runtime.config.opt_out.export.directory
        texts = [f"{name} in {directory} is passed over: {why}." for name, why in poll.passed_over]
        texts += [*poll.troubles, *(f"{file.partition}: {file.reason}" for file in poll.refused)]
        self.found.note(texts)
        present = {_version(file) for file in (*poll.ready, *poll.unsettled, *poll.refused)}
        outdated = {text for version, texts in self._tried.items() if version not in present for text in texts}
        self.refused = [text for text in self.refused if text not in outdated]
