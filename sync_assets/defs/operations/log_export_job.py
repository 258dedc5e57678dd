"""Define the job of the log export. Loaded, and scheduled by `definitions.py`, only if the export is switched on."""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from contextlib import closing

import dagster as dg

from sync_assets.defs.operations.jobs import SHORT
from sync_assets.errors import SyncAssetsError
from sync_assets.runtime.context import Runtime


def log_export(runtime: Runtime) -> dg.JobDefinition:
    """Define the job `log_export`."""

    @dg.op(name="write_log", description="Writes today's file to the Campaign SFTP.")
    def write_log(context: dg.OpExecutionContext) -> None:
        from sync_assets.operations.log_export import export_log  # noqa: PLC0415

        with closing(runtime):
            try:
                context.log.info(f"{export_log(runtime)} was written.")
            except SyncAssetsError as error:
                raise dg.Failure(str(error), allow_retries=False) from None

    @dg.job(
        name="log_export",
        executor_def=dg.in_process_executor,
        description="What the program did today, as a file on the Campaign SFTP.",
        tags=SHORT,
    )
    def job() -> None:
        write_log()

    return job
