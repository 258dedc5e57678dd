"""Requests for runs of tables, with a backoff while runs make no progress; which runs of a table are active; and which
changed a record.

Runs whose process was killed are marked as failed in Dagster; heartbeats in the ledger (`runtime/workers.py`) decide.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import msgspec
from msgspec import structs

from sync_assets.checks.health import ready
from sync_assets.checks.preflight import examine, failure
from sync_assets.checks.rules import SIDES, Finding
from sync_assets.config.models import TableConfig
from sync_assets.defs.asset_keys import side_key
from sync_assets.defs.dagster_internals import evaluation, latest_answers, most_runs
from sync_assets.defs.partitions import FOLLOWS_TAG, LEDGER_TAG, TABLE_TAG, is_foreign, run_tags, today, under_way_tag
from sync_assets.defs.results import check_key, check_result
from sync_assets.defs.tables.checks import ready_key, table_checks
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import ENDED, GIVEN_UP
from sync_assets.ledger.times import iso
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.workers import SILENT_AFTER, give_up_killed

if TYPE_CHECKING:
    from sync_assets.commands.explain import Explanation

EXAMINE_AGAIN, EXAMINE_BUDGET = 4.0, 10.0
"""Seconds between two examinations of a table, and from the begin of a tick until no further one begins."""
FIRST_WAIT, LONGEST_WAIT = 10.0, 300.0
"""Backoff in seconds between two runs that make no progress: the first and the longest wait; doubled each time."""
MORE_ROOM_SECONDS = 5.0
"""Another run that stays ends if those asked first have not made room in this time, in seconds."""
MOST_WAITING = 50
"""Most runs in the queue that are read."""
SHOWN_RUNS = 5
"""Most runs of a record that are named."""
SEARCHED_RUNS = 2000
"""Most runs that are searched for those of a record, the newest first."""
KILLED = "The process of this run was killed. No change is lost: the next run goes on."

_FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_UNDER_WAY = [status for status in dg.DagsterRunStatus if status not in _FINISHED]
_STARTED = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)


class RunRequested(msgspec.Struct, frozen=True):
    """The last run that a sensor requested for a piece of work. Part of the sensors' cursors.

    Attributes:
        amount: The amount of work then (records left, or the version of the feed): another value shows progress.
        at: When it was requested, UTC.
        wait: Seconds to wait before the next request while `amount` stays the same; 0: see `is_prevented`.
    """

    amount: int
    at: datetime
    wait: float

    @property
    def is_prevented(self) -> bool:
        """Return True if no run was requested, since the table's set-up was wrong: one is due once that is right."""
        return not self.wait

    @property
    def is_repeated(self) -> bool:
        """Return True if the run before this one made no progress."""
        return self.wait > FIRST_WAIT


def ask_again(last: RunRequested | None, amount: int, now: datetime) -> tuple[bool, RunRequested]:
    """Decide whether to request a run: at once if there was progress since the last request, else after a backoff.

    amount: of work now (records left, or the version of the feed). now: UTC. Returns also the request to store.
    """
    if last is None or amount != last.amount:
        return True, RunRequested(amount, now, FIRST_WAIT)
    if abs((now - last.at).total_seconds()) < last.wait:  # a later time: the clock was set back since
        return False, last
    return True, RunRequested(amount, now, min(LONGEST_WAIT, last.wait * 2) or FIRST_WAIT)


class RunRequests:
    """The runs that a sensor requests: none of a table whose last run failed and whose set-up is wrong.

    pushes: the sensor requests runs that only push.

    Attributes:
        requested: The last requests, by table or other work. Part of the cursor of the sensor.
        failure: Why a table could not be examined, as when a system does not answer. No run could succeed then.
    """

    requested: dict[str, RunRequested]
    failure: SyncAssetsError | None

    def __init__(self, runtime: Runtime, *, pushes: bool = False) -> None:
        self._runtime, self._pushes, self._sides = runtime, pushes, SIDES[1:] if pushes else SIDES
        self._examined, self.failure = dict[str, float](), None

    def begin(self, context: dg.SensorEvaluationContext, requested: dict[str, RunRequested]) -> None:
        """Begin a tick."""
        self._context, self.requested, self._until = context, requested, time.monotonic() + EXAMINE_BUDGET
        self._findings: dict[str, list[Finding]] = {}  # of a set-up that is wrong, or was at the last examination
        self._was_down, self.failure = self.failure is not None, None

    def active_runs(self, *tables: str) -> list[dg.DagsterRun]:
        """Call `end_killed`, and return the unfinished runs of the tables in the sensor's code location."""
        origin = self._context.code_location_origin
        location = origin.location_name if origin else None
        return end_killed(self._context.instance, self._runtime.ledger, *tables, location=location)

    def has_failed(self, work: str, amount: int) -> bool:
        """Return True if no run has made progress since the last request. amount: as in `ask_again`."""
        last = self.requested.get(work)
        return last is not None and (last.is_prevented or last.amount == amount)  # a poll changes a feed's version, too

    def is_due(self, config: TableConfig, amount: int, refusal: str = "", work: str = "") -> bool:
        """Return True if a run of the table is to be requested, and store that in `requested`.

        Args:
            config: The mapped table.
            amount: As in `ask_again`.
            refusal: Why Dynamics 365 refused the poll of its feed; empty if it did not.
            work: Other work than the table's own, of its systems, by its name in `requested`: it needs them to answer.
        """
        key = work or config.table
        last = self.requested.get(key)
        is_due, request = ask_again(last, amount, datetime.now(UTC))
        if not is_due:
            return False
        if refusal or self.has_failed(key, amount) or (not work and self._stopping([config])):
            findings = self._examine(config, refusal, pushes=self._pushes and not work)
            if findings is None:
                return False
            stops = not work and any(finding.stops for finding in findings)
            was_down = self._was_down or self.failure  # the check passes before the requested run has begun
            if was_down or stops or (not work and last and last.is_prevented):
                self._findings[config.table] = findings
            if stops:
                self.requested[key] = structs.replace(request, wait=0.0)
                return False
        self.requested[key] = request
        return True

    def review(self, tables: Sequence[TableConfig]) -> None:
        """Examine the quiet tables whose check `ready` fails: it passes once they are right, without a run.

        A table with a backlog is left to the runs that send it.
        """
        stopped = {key.asset_key for key in self._stopping(tables)}
        for config in tables:
            keys = {side_key(config, side, self._runtime) for side in SIDES}
            is_quiet = keys & stopped and not self._runtime.ledger.reports.backlog(config.table)
            if is_quiet and (findings := self._examine(config, "", pushes=False)) is not None:
                self._findings[config.table] = findings

    def result(
        self,
        requests: Sequence[dg.RunRequest],
        why_not: str,
        cursor: Any,
        events: Sequence[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = (),
        partitions: Sequence[dg.AddDynamicPartitionsRequest] = (),
    ) -> dg.SensorResult:
        """Return the result of the tick, with the changed results of the checks `ready` of the examined tables.

        Raises SyncAssetsError if no run is requested since a table could not be examined.
        """
        if self.failure and not requests:
            raise self.failure
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else why_not,
            asset_events=[*events, *self._ready_results()],
            dynamic_partitions_requests=partitions,
            cursor=msgspec.json.encode(cursor).decode(),
        )

    def examined_at(self, config: TableConfig) -> float:
        """Return when the table was last examined, by the monotonic clock."""
        return self._examined.get(config.table, float("-inf"))

    def _ready_results(self) -> Iterator[dg.AssetCheckEvaluation]:
        """Yield the check `ready` of each examined side that stops the table, or does so no longer.

        None whose last result says the same, and none of a side without findings. Those that only warn are left to
        runs.
        """
        for table, findings in self._findings.items():
            config = self._runtime.config.table(table)
            stopped = self._stopping([config])
            for side in self._sides:
                if of_side := [finding for finding in findings if finding.side == side]:
                    set_up = ready(of_side)
                    result = check_result(side_key(config, side, self._runtime), set_up)
                    last = stopped.get(check_key(result))
                    if set_up.stops != (last is not None) or (last and last.description != result.description):
                        yield evaluation(self._context.instance, result)

    def _stopping(self, tables: Sequence[TableConfig]) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
        """Return the last results of the checks `ready` by which a table was stopped."""
        keys = [ready_key(config, side, self._runtime) for config in tables for side in self._sides]
        last = {key: answer.evaluation for key, answer in latest_answers(self._context.instance, keys).items()}
        error = dg.AssetCheckSeverity.ERROR
        return {
            key: result for key, result in last.items() if result and not result.passed and result.severity == error
        }

    def _examine(self, config: TableConfig, refusal: str, *, pushes: bool) -> list[Finding] | None:
        """Return the findings on the table's set-up; None if it was examined just now, or cannot be examined."""
        now = time.monotonic()
        if now - self.examined_at(config) < EXAMINE_AGAIN or now > self._until:
            return None
        try:
            findings = examine(self._runtime, config, pushes=pushes)
        except SyncAssetsError as error:
            self.failure = error
            return None
        finally:
            self._examined[config.table] = time.monotonic()
        if refusal and not any(finding.stops for finding in findings):
            findings.append(failure("d365", SyncAssetsError(refusal)))
        return findings


def feed_version(runtime: Runtime, table: str) -> int:
    """Return a number that each capture of the table changes: the amount of work of a request to capture it."""
    feed = runtime.ledger.feeds.feed(table)
    return feed.version if feed else 0


def table_request(
    runtime: Runtime,
    tables: Sequence[TableConfig],
    keys: Sequence[dg.AssetKey],
    tags: dict[str, str],
    job: str | None = None,
) -> dg.RunRequest:
    """Return a request for a run of these assets and their checks, for today's partition."""
    return dg.RunRequest(
        job_name=job,
        partition_key=today(),
        asset_selection=list(keys),
        asset_check_keys=[
            spec.key for config in tables for spec in table_checks(config, runtime) if spec.asset_key in keys
        ],
        tags={**run_tags(runtime, *(config.table for config in tables)), **tags},
    )


# --- Active runs ------------------------------------------------------------------------------------------------------


def end_killed(
    instance: dg.DagsterInstance, ledger: Ledger, *tables: str, location: str | None = None
) -> list[dg.DagsterRun]:
    """Mark runs as failed whose process was killed, and return the other unfinished runs of the tables.

    Runs of other code locations and of other ledgers are ignored (`is_foreign`). A run without a heartbeat in the
    ledger is marked as failed only if its code location is `location`.

    Dagster's launcher does not notice every killed process. Such a run would count as started for ever, and the sensors
    would wait for it. So a started run counts as active only while its heartbeats arrive in the ledger, on any machine.

    Args:
        instance: The Dagster instance.
        ledger: Holds the heartbeats.
        tables: Tables whose runs are returned. Of other tables, only runs that were given up before are marked.
        location: Name of the caller's code location; None on the command line.
    """
    now, beats = datetime.now(UTC), give_up_killed(ledger)
    tags, identity = {under_way_tag(table) for table in tables}, ledger.systems.identity()
    alive: list[dg.DagsterRun] = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=_UNDER_WAY)):
        run, beat = record.dagster_run, beats.get(record.dagster_run.run_id)
        origin = run.remote_job_origin
        if is_foreign(run, identity, location):
            continue
        is_ours = LEDGER_TAG in run.tags and not tags.isdisjoint(run.tags)
        if run.status not in _STARTED:
            ended = False
        elif beat and beat.session == GIVEN_UP:
            ended = True
        else:
            # A run without a heartbeat may still be loading its code, and one that ended its heartbeats may not be
            # marked as finished by Dagster yet.
            silent = False
            if is_ours and not (beat and beat.session != ENDED):  # the others are given up by `give_up_killed`
                since = beat.at.timestamp() if beat else record.start_time or now.timestamp()
                silent = now.timestamp() - since > SILENT_AFTER.total_seconds()
            if silent and beat is None and not (origin and origin.location_name == location):
                continue
            ended = silent and ledger.runs.give_up(run.run_id, beat)
        if ended:
            instance.report_run_failed(run, KILLED)
        elif is_ours:
            alive.append(run)
    return alive


def runs_to_make_room_for(instance: dg.DagsterInstance, run_id: str) -> list[dg.DagsterRun] | None:
    """Return None if the run is to go on; else the waiting run that gets its slot, or an empty list.

    A run that stays is to end if all slots of the queue are taken and runs wait for one. As many end as runs wait,
    those first that began first, and one more, for no certain run, for each MORE_ROOM_SECONDS that they wait.
    """
    slots, queued = most_runs(instance), dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])
    if slots is None:
        return None
    try:
        waiting = instance.get_run_records(queued, limit=MOST_WAITING, ascending=True)
        taken = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, *_STARTED])
        active = instance.get_run_records(taken, ascending=True) if waiting else []
    except Exception:  # noqa: BLE001  any of Dagster's storages: its outage ends no run
        return None
    if not waiting or len(active) < slots:
        return None
    seconds = (datetime.now(UTC) - waiting[0].create_timestamp).total_seconds()
    staying = [record.dagster_run.run_id for record in active if FOLLOWS_TAG in record.dagster_run.tags]
    if run_id not in staying[: len(waiting) + int(seconds / MORE_ROOM_SECONDS)]:
        return None
    at = staying.index(run_id)
    return [record.dagster_run for record in waiting[at : at + 1]]


# --- Runs of a record -------------------------------------------------------------------------------------------------


def add_runs(explained: Explanation, instance: dg.DagsterInstance, ledger: Ledger) -> None:
    """Add to each table of the document the last runs that changed the record."""
    for table, moments in explained.moments.items():
        explained.document["tables"][table]["runs"] = record_runs(instance, ledger.systems.identity(), table, moments)


def record_runs(
    instance: dg.DagsterInstance, ledger: str, table: str, moments: Sequence[datetime]
) -> list[dict[str, Any]]:
    """Return the runs of a table that were active at these times, the newest first.

    ledger: its id. moments: when the record was changed, acknowledged or rejected.
    """
    if not moments:
        return []
    filters = dg.RunsFilter(tags={LEDGER_TAG: ledger}, updated_after=min(moments))
    documents: list[dict[str, Any]] = []
    for record in instance.get_run_records(filters, limit=SEARCHED_RUNS):
        run, started = record.dagster_run, record.start_time or record.create_timestamp.timestamp()
        changed = {iso(at) for at in moments if started <= at.timestamp() <= (record.end_time or float("inf"))}
        if changed and table in run.tags.get(TABLE_TAG, "").split(", "):
            documents.append(
                {
                    "run_id": run.run_id,
                    "job": run.job_name,
                    "status": run.status.value.lower(),
                    "started_at": _iso(record.start_time),
                    "ended_at": _iso(record.end_time),
                    "changed_at": sorted(changed),
                }
            )
    return documents[:SHOWN_RUNS]


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else iso(datetime.fromtimestamp(seconds, UTC))
