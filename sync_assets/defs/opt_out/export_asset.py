"""Define the asset `campaign/opt_out_export`: the validated rows of an export file on Campaign's SFTP server.

Its run also stores the statements of these rows in the ledger; `opt_out/decisions` decides what is due after that. A
file can be materialised again as long as it is on the server. That changes nothing, since the ledger ignores statements
that are older than those it has.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from sync_assets.defs.opt_out import opt_out_metadata, run_results
from sync_assets.defs.opt_out.asset_keys import EXPORT
from sync_assets.defs.opt_out.partitions import WORK, opt_out_files
from sync_assets.defs.opt_out.run_results import SHOWN, stop
from sync_assets.defs.partitions import TABLE_TAG
from sync_assets.defs.resources import LEDGER, SFTP, bound
from sync_assets.defs.run_errors import reported
from sync_assets.defs.tables import check_results
from sync_assets.flows import Outcome
from sync_assets.foreign_text import markdown
from sync_assets.ledger.repositories.opt_out_files import FileState
from sync_assets.ledger.rules.opt_outs import Stated
from sync_assets.opt_out.export import folder as files
from sync_assets.opt_out.export import staging
from sync_assets.opt_out.export.file import BadExport
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import heartbeat
from sync_assets.sftp import FileGone

READABLE = "the_file_can_be_read"
VALID = "every_row_is_valid"


class Missing(NamedTuple):
    """A file that is not on the SFTP server. text: for the user. taken: it was processed before it was removed."""

    text: str
    taken: bool


USED = {SFTP, LEDGER}
"""Resources of the asset."""


def export_asset(runtime: Runtime, outcome: Outcome | None) -> dg.AssetsDefinition:
    """Define the asset."""
    export = runtime.config.opt_out.export
    expected = timedelta(hours=export.expected_every_hours)

    @dg.asset(
        key=EXPORT,
        group_name="opt_out",
        partitions_def=opt_out_files,
        kinds={"adobecampaign", "sftp", "polars"},
        owners=list(runtime.config.owners.opt_out),
        metadata=opt_out_metadata.export(runtime.config, staging.spool_file),
        description="Opt-outs as Campaign states them: the validated rows of a file of the Campaign SFTP "
        f"(`{export.directory}/{export.pattern}`), as statements in the ledger.",
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
            yield from _export_file(context, its, outcome or Outcome(), staging.StagedRows(Path(folder)))

    def _export_file(
        context: dg.AssetExecutionContext, runtime: Runtime, outcome: Outcome, spool: staging.StagedRows
    ) -> Iterator[Any]:
        partition = context.partition_key
        with reported(outcome, context, f"reading of {partition}") as failed, heartbeat(runtime, context.run_id):
            taken = _stage(runtime, partition, spool)
        if failed:
            raise dg.Failure(str(failed[0]), allow_retries=False)
        if isinstance(taken, Missing):
            yield _missing_result(taken)
            return
        if not isinstance(taken, tuple):
            # A file that cannot be read, or that changed or vanished meanwhile, must not block the files after it: the
            # run fails after the check result, and the sensor goes on with the next file.
            yield dg.AssetCheckResult(
                passed=False, asset_key=EXPORT, check_name=READABLE, description=markdown(str(taken))
            )
            context.log.error(str(taken))
            stop(outcome, f"{partition}: {taken}")
            return
        staged, stated = taken
        yield dg.MaterializeResult(
            metadata=_metadata(staged) | run_results.stated_metadata(stated),
            check_results=[
                dg.AssetCheckResult(
                    passed=not staged.warnings,
                    asset_key=EXPORT,
                    check_name=READABLE,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=markdown("; ".join(staged.warnings)) or "It could be read.",
                ),
                _valid(runtime, partition, staged),
            ],
        )

    return export_rows


def _take(
    runtime: Runtime, partition: str, spool: staging.StagedRows
) -> tuple[staging.Staged, Counter[Stated]] | Missing | BadExport | FileGone:
    """Stage a partition's file and store its statements.

    Returns:
        The staged rows and the number of statements by kind; or why there are none, which may be no error (Missing).
    """
    file = files.find(runtime, partition)
    if file is None:
        return Missing(
            f"No file of this partition ({partition}) is known: it was removed from the SFTP before it was taken, or "
            "never stood there. Nothing is decided of it.",
            taken=False,
        )
    try:
        staged = staging.spool_file(runtime, file, spool)
    except BadExport as error:
        runtime.ledger.opt_out_files.file_refused(file, str(error))
        return error
    except FileGone as error:
        if file.state != FileState.DONE:
            return error
        return Missing(
            f"{file.name} was taken on {file.done_at:%Y-%m-%d} and is no longer on the SFTP. What it stated is in the "
            "ledger; nothing is decided of it again.",
            taken=True,
        )
    return staged, staging.state_file(runtime, file, staged, spool)


def _missing_result(missing: Missing) -> dg.MaterializeResult[Any]:
    """Return the result of a partition without a file."""
    return dg.MaterializeResult(
        metadata={"dagster/partition_row_count": 0},
        check_results=[
            dg.AssetCheckResult(
                passed=missing.taken,
                asset_key=EXPORT,
                check_name=READABLE,
                severity=dg.AssetCheckSeverity.WARN,
                description=markdown(missing.text),
            ),
            dg.AssetCheckResult(passed=True, asset_key=EXPORT, check_name=VALID, description="No row of it was read."),
        ],
    )


def _metadata(taken: staging.Staged) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": taken.good,
        "rows": taken.rows,
        "good_rows": taken.good,
        "rejected_rows": taken.bad,
        "foreign_profiles": taken.foreign,
        "file_bytes": taken.bytes,
        "seconds": round(taken.seconds, 3),
        "rows_per_second": round(taken.rows / taken.seconds, 1) if taken.seconds else 0.0,
        **({"dates": taken.dates} if taken.dates else {}),
    }


def _valid(runtime: Runtime, partition: str, taken: staging.Staged) -> dg.AssetCheckResult:
    """Return the result of the check that no row was rejected; it shows the first ones by line, id and reason."""
    shown = runtime.ledger.opt_out_decisions.rejected_rows(partition, SHOWN) if taken.bad else []
    text = "Every row is valid."
    if taken.bad:
        text = f"{taken.bad:,} of {taken.rows:,} rows were left out; the others go on."
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
                ("line", "id", "reason"), [(str(row.line), row.id or "", row.reason) for row in shown]
            ),
        },
    )
