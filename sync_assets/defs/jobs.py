"""Define the jobs that operators start in Dagster's UI. Each calls the same function as the command of the same name.

The launchpad shows the settings of a job with their defaults. The result is in the run's log and in the metadata of the
op's output. Modules of commands are imported when a job runs: each run of an asset loads the definitions anew.
"""

# No `from __future__ import annotations`: Dagster reads the annotations of `context` and `config` at run time.
# ruff: noqa: PLC0415

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, create_model

from sync_assets.capture.backlog_limit import paused_text
from sync_assets.defs.partitions import installation_tags
from sync_assets.defs.run_errors import failing
from sync_assets.errors import SyncAssetsError
from sync_assets.flows import capture_table
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

if TYPE_CHECKING:
    from sync_assets.commands.explanation import Section

Numbers = Mapping[str, Any]
SHORT_TAGS = {"dagster/max_runtime": "3600"}
"""Tags of jobs that write no heartbeats. If one is killed, Dagster ends its run after an hour; none takes that long."""


class Replay(dg.Config):
    table: str = Field(description="the Dynamics 365 table")
    first_day: str = Field("", description="only rows modified on this UTC day or later, as in 2026-11-24")
    last_day: str = Field("", description="only rows modified on this UTC day or earlier")
    force: bool = Field(False, description="send rows even if Campaign acknowledged the same values")


class RetryRejected(dg.Config):
    table: str = Field("", description="the Dynamics 365 table; null: all tables")
    id: str = Field("", description="the Dynamics 365 id of a single record; empty: all records")


class ApproveDeletes(dg.Config):
    table: str = Field(description="the Dynamics 365 table whose held-back deletions are approved, once")


class PrivacyHold(dg.Config):
    contact: str = Field(description="the contact's id in Dynamics 365")
    action: Literal["add", "release", "verify"] = Field(
        "verify", description="add or release a privacy hold, or verify: list the person's remaining records"
    )
    force: bool = Field(False, description="add a hold for an unknown contact, such as one that was deleted before")


class Maintenance(dg.Config):
    tables: list[str] = Field(description="Dynamics 365 tables")
    on: bool = Field(True, description="true puts them into maintenance, false ends it")


class Explain(dg.Config):
    id: str = Field(description="the Dynamics 365 id of the record")
    table: str = Field("", description="the Dynamics 365 table; null: each table that has the id")


def _with_choices(settings: type[dg.Config], tables: Sequence[str]) -> type[dg.Config]:
    """Return settings whose fields of tables are enums, so that the launchpad lists the choices.

    Dagster keeps settings by the names of their types, so another installation's tables need another name.
    """
    choice: Any = StrEnum("_".join(["Table", *tables]), {name: name for name in tables})
    types: dict[str, Any] = {"table": choice, "tables": list[choice]}
    fields: dict[str, Any] = {
        name: (types[name], field)
        if field.is_required()
        else (types[name] | None, Field(None, description=field.description))
        for name, field in settings.model_fields.items()
        if name in types
    }
    return create_model(settings.__name__, __base__=settings, __cls_kwargs__={"use_enum_values": True}, **fields)


def operator_jobs(runtime: Runtime, other_jobs: Iterable[str]) -> list[dg.JobDefinition]:
    """Return the jobs of operators. Jobs that materialise assets are in `build.py`."""
    tables = [config.table for config in runtime.config.tables]

    jobs: list[dg.JobDefinition] = []

    def job(name: str, description: str, tags: Mapping[str, str] = SHORT_TAGS) -> Callable[[Callable[..., None]], None]:
        """Decorate the work of the only op of a job."""

        def decorate(work: Callable[..., None]) -> None:
            if settings := work.__annotations__.get("config"):
                work.__annotations__["config"] = _with_choices(settings, tables)
            jobs.append(_job(runtime, name, work, description, tags))

        return decorate

    @job("replay", "Reads all rows of a table again, or those modified on some days.", tags={})
    def replay_table(context: dg.OpExecutionContext, config: Replay) -> None:
        _do(context, runtime, lambda: _replay(context, runtime, config))

    @job("retry_rejected", "Makes rejected records pending again; the next run sends them.")
    def retry_records(context: dg.OpExecutionContext, config: RetryRejected) -> None:
        from sync_assets.commands.retry import retry

        _do(context, runtime, lambda: retry(runtime, config.table or None, config.id or None))

    @job("approve_deletes", "Approves, once, a mass deletion that is held back; the next capture lets it go ahead.")
    def approve(context: dg.OpExecutionContext, config: ApproveDeletes) -> None:
        from sync_assets.commands.approve_deletes import approve_deletes

        _do(context, runtime, lambda: {"approved": approve_deletes(runtime, config.table)["approved"]})

    @job("privacy_hold", "Begins or ends a privacy hold, or lists the person's remaining records.")
    def hold(context: dg.OpExecutionContext, config: PrivacyHold) -> None:
        from sync_assets.commands import hold as privacy

        def work() -> Numbers:
            add = partial(privacy.add, force=config.force)
            operation = {"add": add, "release": privacy.release, "verify": privacy.verify}[config.action]
            document = operation(runtime, config.contact)
            metadata = {"document": dg.MetadataValue.json(document)}
            if config.action == "verify" and (why := privacy.unproven(document)):
                raise dg.Failure(why, metadata=metadata, allow_retries=False)
            return metadata

        _do(context, runtime, work)

    @job("maintenance", "Stops capture and push of tables, or lets them go on.")
    def switch_maintenance(context: dg.OpExecutionContext, config: Maintenance) -> None:
        from sync_assets.commands.maintenance import off, on

        switch = on if config.on else off
        _do(context, runtime, lambda: {"document": dg.MetadataValue.json(switch(runtime, config.tables))})

    @job("explain", "Explains one record from end to end; values are masked.")
    def explain_record(context: dg.OpExecutionContext, config: Explain) -> None:
        with closing(runtime), failing("job"):
            _explain(context, runtime, config)

    @job("prune_history", "Deletes runs older than runs.keep_days, and old history; the partitions stay materialised.")
    def prune(context: dg.OpExecutionContext) -> None:
        def work() -> Numbers:
            from sync_assets.defs.instance.history import prune_project

            origin = context.run.remote_job_origin
            names = {*other_jobs, *(job.name for job in jobs)}
            return prune_project(runtime, context.instance, names, origin.location_name if origin else None)

        _do(context, runtime, work)

    return jobs


def log_export(runtime: Runtime) -> dg.JobDefinition:
    """Return the job of the log export, which exists only if the export is configured."""

    def write_log(context: dg.OpExecutionContext) -> None:
        from sync_assets.commands.log_export import export_log

        with closing(runtime):
            try:
                context.log.info(f"{export_log(runtime)} was written.")
            except SyncAssetsError as error:
                raise dg.Failure(str(error), allow_retries=False) from None

    return _job(runtime, "log_export", write_log, "Writes the day's log file to the Campaign SFTP.")


def _job(
    runtime: Runtime, name: str, work: Callable[..., None], description: str, tags: Mapping[str, str] = SHORT_TAGS
) -> dg.JobDefinition:
    """Return a job of one op, which has the name of its function."""
    named, tags = runtime.installation.named, {**tags, **installation_tags(runtime)}
    op = dg.op(name=named(work.__name__), description=description)(work)
    graph = dg.GraphDefinition(name=named(name), node_defs=[op])
    return graph.to_job(name=named(name), description=description, executor_def=dg.in_process_executor, tags=tags)


def _do(context: dg.OpExecutionContext, runtime: Runtime, work: Callable[[], Numbers]) -> None:
    """Do the work of an op, and report its numbers as metadata and in the log. Raises dg.Failure."""
    with closing(runtime):
        with failing("job"):
            numbers = work()
        context.add_output_metadata(dict(numbers))
        context.log.info(", ".join(f"{name}: {value}" for name, value in numbers.items() if isinstance(value, int)))


def _replay(context: dg.OpExecutionContext, runtime: Runtime, config: Replay) -> Numbers:
    from sync_assets.commands.replay import capture_again, day, replayable

    first, last = day(config.first_day or None, "first_day"), day(config.last_day or None, "last_day")
    table, rows = replayable(runtime, config.table, first, last), 0

    def capture() -> None:
        nonlocal rows
        result = interruptible.run(capture_table(runtime, table, limited=True)).result
        rows += result.rows
        if result.paused:  # the sensors' runs push, and continue it
            context.log.warning(paused_text(runtime.ledger, table))

    with runtime.heartbeat(context.run_id):
        capture_again(runtime, table, (first, last), config.force, capture)
    return {"rows": rows, "pending": runtime.ledger.reports.counts()[config.table].pending}


def _explain(context: dg.OpExecutionContext, runtime: Runtime, config: Explain) -> None:
    """Explain a record on a page. Raises SyncAssetsError if it is unknown, or if a system did not answer."""
    from sync_assets.commands.explain import explain
    from sync_assets.commands.explanation import CONCLUSIONS
    from sync_assets.defs.tables.run_requests import add_runs

    explained = explain(runtime, config.id, config.table or None)
    if explained.document["tables"]:
        add_runs(explained, context.instance, runtime.ledger)
        context.add_output_metadata(
            {
                "page": dg.MetadataValue.md(page(explained.document)),
                "conclusion": CONCLUSIONS[explained.document["in_step"]],
                "document": dg.MetadataValue.json(explained.document),
            }
        )
    if explained.problems:
        raise SyncAssetsError(" ".join(explained.problems))


def page(document: Mapping[str, Any]) -> str:
    """Return an explanation as Markdown."""
    from sync_assets.commands.explanation import sections

    parts = enumerate(sections(document))
    return "\n\n".join("\n".join(_markdown(part, level=3 if number else 2)) for number, part in parts)


def _markdown(part: "Section", level: int) -> Iterator[str]:
    yield f"{'#' * level} {_escaped(part.title)}"
    yield ""
    yield from (f"- {_escaped(line)}" for line in part.lines)
    if part.rows:
        yield ""
        yield f"| {' | '.join(map(_escaped, part.columns))} |"
        yield f"|{'---|' * len(part.columns)}"
        yield from (f"| {' | '.join(map(_escaped, row))} |" for row in part.rows)


def _escaped(text: str) -> str:
    """Return the text on one line, without a meaning in Markdown's tables."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
