"""Define the asset `campaign/opt_out_export`: the validated rows of an export file on Campaign's SFTP server.

If a processed file was removed from the server, its rows are read from the Parquet store. So every file can be
materialised again. That changes nothing, since the ledger ignores statements that are older than those it has.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg

from sync_assets.defs.opt_out import opt_out_metadata
from sync_assets.defs.opt_out.asset_keys import EXPORT, PARQUET
from sync_assets.defs.opt_out.partitions import WORK, opt_out_files
from sync_assets.defs.opt_out.run_results import SHOWN, stop
from sync_assets.defs.partitions import TABLE_TAG
from sync_assets.defs.resources import LEDGER, SFTP, bound
from sync_assets.defs.run_errors import reported
from sync_assets.defs.tables import check_results
from sync_assets.foreign_text import markdown
from sync_assets.ledger.repositories.opt_out_files import FileState, OptOutFile
from sync_assets.opt_out.export import folder as files
from sync_assets.opt_out.export import staging
from sync_assets.opt_out.export.file import BadExport
from sync_assets.opt_out.tables import REJECTED_ROWS
from sync_assets.parquet.store import Parts
from sync_assets.parquet.writer import write_parts
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import heartbeat
from sync_assets.sftp import FileGone

READABLE = "the_file_can_be_read"
VALID = "every_row_is_valid"


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that is not on the SFTP server: it was processed before, or it is unknown.

    Attributes:
        text: Explanation for the user.
        rows: Number of its valid rows in the Parquet store; None if none are kept.
        bad: Number of its rejected rows in the Parquet store.
    """

    text: str
    rows: int | None = None
    bad: int = 0


USED = {SFTP, LEDGER}
"""Resources of the asset."""


def export_asset(runtime: Runtime) -> dg.AssetsDefinition:
    """Define the asset."""
    export = runtime.config.opt_out.export
    expected = timedelta(hours=export.expected_every_hours)

    @dg.asset(
        key=EXPORT,
        group_name="opt_out",
        partitions_def=opt_out_files,
        io_manager_key=PARQUET,
        kinds={"adobecampaign", "sftp", "parquet"},
        owners=list(runtime.config.owners.opt_out),
        metadata=opt_out_metadata.export(runtime.config, staging.spool_file),
        description="Opt-outs as Campaign states them: the validated rows of a file of the Campaign SFTP "
        f"(`{export.directory}/{export.pattern}`). A file that was taken and is gone from there is read from the rows "
        f"that were kept of it as Parquet, for {export.keep_days} days; after that nothing is decided of it.",
        check_specs=[
            dg.AssetCheckSpec(
                READABLE, asset=EXPORT, blocking=True, description="The file is whole, has its columns, and times."
            ),
            dg.AssetCheckSpec(
                VALID, asset=EXPORT, description="No row was left out because something is wrong with it."
            ),
        ],
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=max(expected * 1.25, timedelta(minutes=2)), warn_window=max(expected, timedelta(minutes=1))
        ),
        op_tags={TABLE_TAG: WORK},
        required_resource_keys=USED,
    )
    def export_rows(context: dg.AssetExecutionContext) -> Iterator[Any]:
        its = bound(runtime, context.resources, USED)
        with closing(its), tempfile.TemporaryDirectory(prefix="sync_assets_") as folder:
            yield from _export_file(context, its, staging.StagedRows(Path(folder)))

    def _export_file(context: dg.AssetExecutionContext, runtime: Runtime, spool: staging.StagedRows) -> Iterator[Any]:
        partition = context.partition_key
        with reported(runtime, context, f"reading of {partition}") as failed, heartbeat(runtime, context.run_id):
            taken = _stage(runtime, partition, spool)
        if failed:
            raise dg.Failure(str(failed[0]), allow_retries=False)
        if isinstance(taken, Missing):
            yield from _missing_results(runtime, partition, taken)
            return
        if not isinstance(taken, staging.Staged):
            # A file that cannot be read, or that changed or vanished meanwhile, must not block the files after it: the
            # run fails after the check result, and the sensor goes on with the next file.
            yield dg.AssetCheckResult(
                passed=False, asset_key=EXPORT, check_name=READABLE, description=markdown(str(taken))
            )
            context.log.error(str(taken))
            stop(runtime, f"{partition}: {taken}")
            return
        with heartbeat(runtime, context.run_id):  # the IO manager writes rows during `yield`, which may take minutes
            _keep_rejected(runtime, partition, context.run_id, spool, taken)
            yield dg.Output(spool.frames(staging.GOOD), metadata=_staged_metadata(taken))
        yield dg.AssetCheckResult(
            passed=not taken.warnings,
            asset_key=EXPORT,
            check_name=READABLE,
            severity=dg.AssetCheckSeverity.WARN,
            description=markdown("; ".join(taken.warnings)) or "It could be read.",
        )
        yield _valid(runtime, partition, taken, spool)

    return export_rows


def _stage(
    runtime: Runtime, partition: str, spool: staging.StagedRows
) -> staging.Staged | Missing | BadExport | FileGone:
    """Stage the rows of a partition's file; else return why that is not possible, which may be no error (Missing)."""
    file = files.find(runtime, partition)
    if file is None:
        return Missing(
            f"No file of this partition ({partition}) is known: it was removed from the SFTP before it was taken, or "
            "never stood there. Nothing is decided of it."
        )
    try:
        return staging.spool_file(runtime, file, spool)
    except BadExport as error:
        runtime.ledger.opt_out_files.file_refused(file, str(error))
        return error
    except FileGone as error:
        return _describe_missing(runtime, partition, file) if file.state == FileState.DONE else error


def _describe_missing(runtime: Runtime, partition: str, file: OptOutFile) -> Missing:
    """Describe a processed file that is no longer on the server. Its rows are kept about as long as files are."""
    store, start = runtime.store, f"{file.name} was taken on {file.done_at:%Y-%m-%d} and is no longer on the SFTP"
    if not store.published(EXPORT.path, partition):
        return Missing(f"{start}, and its rows are no longer kept. Nothing is decided of it again.")
    rows, bad = Parts(store, EXPORT.path, [partition]).rows, Parts(store, REJECTED_ROWS, [partition]).rows
    return Missing(f"{start}. Its rows were kept and are read from {store.url(EXPORT.path, partition)}.", rows, bad)


def _missing_results(runtime: Runtime, partition: str, missing: Missing) -> Iterator[Any]:
    """Yield the output and the check results of a missing file. The rows in the Parquet store are not changed."""
    numbers = {"dagster/partition_row_count": missing.rows or 0, "rejected_rows": missing.bad}
    yield dg.Output(None, metadata=numbers | {"read_from": "kept rows" if missing.rows is not None else "nothing"})
    yield dg.AssetCheckResult(
        passed=missing.rows is not None,
        asset_key=EXPORT,
        check_name=READABLE,
        severity=dg.AssetCheckSeverity.WARN,
        description=markdown(missing.text),
    )
    text = "No row was left out." if missing.rows is not None else "No row of it was read."
    if missing.bad:
        where = runtime.store.url(REJECTED_ROWS, partition)
        text = f"Rows left out when the file was taken: {missing.bad:,}. All of them: {where}."
    yield dg.AssetCheckResult(
        passed=not missing.bad,
        asset_key=EXPORT,
        check_name=VALID,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"rejected_rows": missing.bad},
    )


def _keep_rejected(
    runtime: Runtime, partition: str, run_id: str, spool: staging.StagedRows, taken: staging.Staged
) -> None:
    if taken.bad or runtime.store.published(REJECTED_ROWS, partition):
        write_parts(runtime.store, REJECTED_ROWS, partition, run_id, spool.frames(staging.BAD))


def _staged_metadata(taken: staging.Staged) -> dict[str, Any]:
    return {
        "rows": taken.rows,
        "good_rows": taken.good,
        "rejected_rows": taken.bad,
        "foreign_profiles": taken.foreign,
        "file_bytes": taken.bytes,
        "seconds": round(taken.seconds, 3),
        "rows_per_second": round(taken.rows / taken.seconds, 1) if taken.seconds else 0.0,
        **({"dates": taken.dates} if taken.dates else {}),
    }


def _valid(runtime: Runtime, partition: str, taken: staging.Staged, spool: staging.StagedRows) -> dg.AssetCheckResult:
    """Return the result of the check that no row was rejected; it shows the first ones by line, id and reason."""
    bad = (row for frame in spool.frames(staging.BAD) for row in frame.select("line", "id", "reason").iter_rows())
    shown = list(islice(bad, SHOWN))
    text = "Every row is valid."
    if taken.bad:
        where = runtime.store.url(REJECTED_ROWS, partition)
        text = f"{taken.bad:,} of {taken.rows:,} rows were left out; the others go on. All of them: {where}."
    return dg.AssetCheckResult(
        passed=not taken.bad,
        asset_key=EXPORT,
        check_name=VALID,
        severity=dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={
            "rejected_rows": taken.bad,
            "reasons": check_results.table(("reason", "records"), taken.reasons.most_common(SHOWN)),
            "first_rows": check_results.table(
                ("line", "id", "reason"), [(str(line), id_ or "", reason) for line, id_, reason in shown]
            ),
        },
    )
