"""Define the jobs that operators start in Dagster's UI. Each calls the same function as the command of the same name.

The launchpad shows the settings of a job with their defaults. The result is in the run's log and in the metadata of the
op's output. Modules of commands are imported when a job runs: each run of an asset loads the definitions anew.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.
# ruff: noqa: PLC0415

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import dagster as dg

from sync_assets.capture.backlog_limit import paused_text
from sync_assets.defs.partitions import installation_tags
from sync_assets.defs.resources import LEDGER, OF_TABLES, SFTP, bound, resource_names
from sync_assets.defs.run_errors import failing
from sync_assets.flows import capture_table
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

Numbers = Mapping[str, Any]
Settings = Mapping[str, Any]


class JobRun(NamedTuple):
    """A run of a job: with the runtime of its resources, and what the launchpad has set."""

    runtime: Runtime
    context: dg.OpExecutionContext
    settings: Settings


Work = Callable[[JobRun], Numbers]
SHORT_TAGS = {"dagster/max_runtime": "3600"}
"""Tags of jobs that write no heartbeats. If one is killed, Dagster ends its run after an hour; none takes that long."""
WITH_HEARTBEATS = {"replay"}
"""The other jobs, which may take longer."""
ACTION = dg.Enum("PrivacyHoldAction", [dg.EnumValue(action) for action in ("add", "release", "verify")])


def _text(description: str) -> dg.Field:
    return dg.Field(str, default_value="", description=description)


def _switch(description: str, *, default: bool = False) -> dg.Field:
    return dg.Field(bool, default_value=default, description=description)


def operator_jobs(runtime: Runtime, other_jobs: Iterable[str]) -> list[dg.JobDefinition]:
    """Return the jobs of operators. Jobs that materialise assets are in `build.py`."""
    tables = [config.table for config in runtime.config.tables]
    # Dagster keeps enums by their names, so another installation's tables need another name.
    table = dg.Enum("_".join(["Table", *tables]), [dg.EnumValue(name) for name in tables])
    jobs: list[dg.JobDefinition] = []

    def job(
        name: str,
        description: str,
        uses: Collection[str] = (LEDGER,),
        **settings: dg.Field,
    ) -> Callable[[Work], None]:
        """Decorate the work of the only op of a job."""
        return lambda work: jobs.append(_job(runtime, name, work, description, settings, uses))

    def any_table(description: str) -> dg.Field:
        return dg.Field(dg.Noneable(table), default_value=None, description=description)

    job(
        "replay",
        "Reads all rows of a table again, or those modified on some days.",
        OF_TABLES,
        table=dg.Field(table, description="the Dynamics 365 table"),
        first_day=_text("only rows modified on this UTC day or later, as in 2026-11-24"),
        last_day=_text("only rows modified on this UTC day or earlier"),
        force=_switch("send rows even if Campaign acknowledged the same values"),
    )(replay_table)

    @job(
        "retry_rejected",
        "Makes rejected records pending again; the next run sends them.",
        table=any_table("the Dynamics 365 table; null: all tables"),
        id=_text("the Dynamics 365 id of a single record; empty: all records"),
    )
    def retry_records(run: JobRun) -> Numbers:
        from sync_assets.commands.retry import retry

        return retry(run.runtime.config, run.runtime.ledger, run.settings["table"], run.settings["id"] or None)

    @job(
        "approve_deletes",
        "Approves, once, a mass deletion or emptied values that are held back; the next capture applies them.",
        table=dg.Field(table, description="the Dynamics 365 table to approve"),
    )
    def approve(run: JobRun) -> Numbers:
        from sync_assets.commands.approve_deletes import approve_deletes

        done = approve_deletes(run.runtime.config, run.runtime.ledger, run.settings["table"])
        return {name: done[name] for name in ("approved", "approved_values")}

    @job(
        "privacy_hold",
        "Begins or ends a privacy hold, or lists the person's remaining records.",
        uses=OF_TABLES,
        contact=dg.Field(str, description="the contact's id in Dynamics 365"),
        action=dg.Field(
            ACTION,
            default_value="verify",
            description="add or release a privacy hold, or verify: list the person's remaining records",
        ),
        force=_switch("add a hold for an unknown contact, such as one that was deleted before"),
        kept=dg.Field([str], default_value=[], description="to verify: records that stay on purpose, as TABLE/ID"),
    )
    def hold(run: JobRun) -> Numbers:
        from sync_assets.commands import hold as privacy
        from sync_assets.commands.values import builtins

        add = partial(privacy.add, force=run.settings["force"])
        verify = partial(privacy.verify, kept=run.settings["kept"])
        operations = {"add": add, "release": privacy.release, "verify": verify}
        document = operations[run.settings["action"]](run.runtime, run.settings["contact"])
        metadata = {"document": dg.MetadataValue.json(builtins(document))}
        if run.settings["action"] == "verify" and (why := privacy.unproven(document)):
            raise dg.Failure(why, metadata=metadata, allow_retries=False)
        return metadata

    @job(
        "maintenance",
        "Stops capture and push of tables, or lets them go on.",
        tables=dg.Field([table], description="Dynamics 365 tables"),
        on=_switch("true puts them into maintenance, false ends it", default=True),
    )
    def switch_maintenance(run: JobRun) -> Numbers:
        from sync_assets.commands.maintenance import off, on

        switch = on if run.settings["on"] else off
        return {
            "document": dg.MetadataValue.json(switch(run.runtime.config, run.runtime.ledger, run.settings["tables"]))
        }

    job(
        "explain",
        "Explains one record from end to end; values are masked.",
        uses=OF_TABLES,
        id=dg.Field(str, description="the Dynamics 365 id of the record"),
        table=any_table("the Dynamics 365 table; null: each table that has the id"),
    )(explain_record)

    @job("prune_history", "Deletes runs older than runs.keep_days, and old history; the partitions stay materialised.")
    def prune(run: JobRun) -> Numbers:
        from sync_assets.defs.history import prune_project

        origin = run.context.run.remote_job_origin
        names = {*other_jobs, *(job.name for job in jobs)}
        location = origin.location_name if origin else None
        return prune_project(run.runtime, run.runtime.ledger, run.context.instance, names, location)

    return jobs


def watch_job(runtime: Runtime) -> dg.JobDefinition:
    """Return the job that answers the checks, without planning them."""

    def answer_checks(run: JobRun) -> Numbers:
        from sync_assets.defs.tables.checks import watch

        return watch(run.runtime, run.context)

    text = "Checks the set-up, change feeds, opt-out files and backlog."
    uses = {*OF_TABLES, SFTP} if runtime.config.opt_out.active else OF_TABLES
    return _job(runtime, "watch", answer_checks, text, uses=uses)


def log_export(runtime: Runtime) -> dg.JobDefinition:
    """Return the job of the log export, which exists only if the export is configured."""

    def write_log(run: JobRun) -> Numbers:
        from sync_assets.commands.log_export import export_log

        run.context.log.info(f"{export_log(run.runtime)} was written.")
        return {}

    text = "Writes the day's log file to the Campaign SFTP."
    return _job(runtime, "log_export", write_log, text, uses={LEDGER, SFTP})


def _job(
    runtime: Runtime,
    name: str,
    work: Work,
    description: str,
    settings: Mapping[str, dg.Field] | None = None,
    uses: Collection[str] = OF_TABLES,
) -> dg.JobDefinition:
    """Return a job of one op that uses these resources, named after its function.

    Its numbers are in the metadata and in the log.
    """
    named = runtime.installation.named

    @dg.op(
        name=named(work.__name__),
        description=description,
        config_schema=dict(settings) if settings else None,
        out=dg.Out(dg.Nothing),
        required_resource_keys=resource_names(runtime, uses),
    )
    def op(context: dg.OpExecutionContext) -> None:
        with bound(runtime, context.resources, uses) as run_runtime, failing("job"):
            numbers = work(JobRun(run_runtime, context, context.op_config or {}))
        context.add_output_metadata(dict(numbers))
        if text := ", ".join(f"{name}: {value}" for name, value in numbers.items() if isinstance(value, int)):
            context.log.info(text)

    return dg.GraphDefinition(name=named(name), node_defs=[op]).to_job(
        name=named(name),
        description=description,
        executor_def=dg.in_process_executor,
        tags={**({} if name in WITH_HEARTBEATS else SHORT_TAGS), **installation_tags(runtime)},
    )


def replay_table(run: JobRun) -> Numbers:
    from sync_assets.checks.guardrails import check_limits
    from sync_assets.commands.replay import capture_again, day, replayable

    first, last = day(run.settings["first_day"] or None, "first_day"), day(run.settings["last_day"] or None, "last_day")
    table, rows = replayable(run.runtime.config, run.runtime.ledger, run.settings["table"], first, last), 0
    check_limits(run.runtime, table, reading=True)

    def capture() -> None:
        nonlocal rows
        result = interruptible.run(capture_table(run.runtime, table, limited=True)).result
        rows += result.rows
        if result.paused:  # the sensors' runs push, and continue it
            run.context.log.warning(paused_text(run.runtime.ledger, table))

    with run.runtime.worker.heartbeat(run.context.run_id, [table.table]):
        capture_again(run.runtime.access, table, (first, last), run.settings["force"], capture)
    return {"rows": rows, "pending": run.runtime.ledger.reports.counts()[table.table].pending}


def explain_record(run: JobRun) -> Numbers:
    """Explain a record on a page. Raises SyncAssetsError if it is unknown; dg.Failure if a system did not answer."""
    from sync_assets.commands.explain import explain
    from sync_assets.commands.explanation import CONCLUSIONS, page
    from sync_assets.commands.values import builtins
    from sync_assets.defs.tables.run_requests import with_runs

    explained, metadata = explain(run.runtime, run.settings["id"], run.settings["table"]), dict[str, Any]()
    if explained.document.tables:
        document = with_runs(explained, run.context.instance, run.runtime.ledger)
        metadata = {
            "page": dg.MetadataValue.md(page(document)),
            "conclusion": CONCLUSIONS[document.in_step],
            "document": dg.MetadataValue.json(builtins(document)),
        }
    if explained.problems:
        raise dg.Failure(" ".join(explained.problems), metadata=metadata, allow_retries=False)
    return metadata
