"""Define the asset `campaign/opt_out_export`: the validated rows of an export file on Campaign's SFTP server.

Its run also stores the statements of these rows in the ledger; `opt_out/decisions` decides what is due after that. A
file can be materialised again as long as it is on the server. That changes nothing, since the ledger ignores statements
that are older than those it has.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import dagster as dg

from sync_assets.checks.rules import FILE_ARRIVES, READABLE, SFTP_SPACE, VALID, Finding, Rows
from sync_assets.config.values import CHANGED_SUFFIX
from sync_assets.defs.asset_keys import EXPORT, key_of
from sync_assets.defs.partitions import WORK, add_tags, opt_out_files
from sync_assets.defs.resources import LEDGER, SFTP, bound, resource_names
from sync_assets.defs.results import check_result, check_specs, metadata, selected
from sync_assets.defs.run_errors import fail_if_stopped, failing, reported
from sync_assets.defs.tables import asset_metadata
from sync_assets.flows import Outcome
from sync_assets.ledger.repositories.opt_out_files import FileState
from sync_assets.ledger.rules.opt_outs import Stated
from sync_assets.opt_out.export import folder as files
from sync_assets.opt_out.export import staging
from sync_assets.opt_out.export.cells import valid_schema
from sync_assets.opt_out.export.file import BadExport
from sync_assets.runtime.context import Runtime
from sync_assets.sftp.errors import FileGone

SHOWN = 20


USED = {SFTP, LEDGER}
"""Resources of the asset."""


def export_asset(runtime: Runtime, outcome: Outcome | None) -> dg.AssetsDefinition:
    """Define the asset. outcome: receives the result of a run, for a caller in the same process."""
    export = runtime.config.opt_out.export
    expected = timedelta(hours=export.expected_every_hours)
    texts = {"line": "of the file", "id": "the contact's id"}
    for mapping in runtime.config.opt_out.mappings.values():
        texts |= {mapping.to: "opted out, as the file states it", f"{mapping.to}{CHANGED_SUFFIX}": "when that changed"}
    # Dagster's icons need the name of a type without unit and time zone.
    types = valid_schema(tuple(runtime.config.opt_out.attributes))
    columns = [
        dg.TableColumn(name, str(types[name]).partition("(")[0].lower(), description=text)
        for name, text in texts.items()
    ]

    @dg.asset(
        key=key_of(EXPORT, runtime),
        group_name=runtime.installation.group("opt_out"),
        partitions_def=opt_out_files(runtime.installation.name),
        kinds={"adobecampaign", "sftp", "polars"},
        owners=list(runtime.config.owners.opt_out),
        metadata=asset_metadata.page(runtime.config, staging.spool_file, columns, {}),
        description="Opt-outs as Campaign states them: the validated rows of a file of the Campaign SFTP "
        f"({export.directory}/{export.pattern}), as statements in the ledger.",
        check_specs=check_specs(key_of(EXPORT, runtime), [READABLE, VALID], [READABLE]),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=max(expected * 1.25, timedelta(minutes=2)), warn_window=max(expected, timedelta(minutes=1))
        ),
        required_resource_keys=resource_names(runtime, USED),
    )
    def export_rows(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with (
            bound(runtime, context.resources, USED) as run_runtime,
            tempfile.TemporaryDirectory(prefix="sync_assets_") as folder,
        ):
            add_tags(context, run_runtime, WORK)
            yield from _export_file(context, run_runtime, outcome or Outcome(), staging.StagedRows(Path(folder)))

    return export_rows


def _export_file(
    context: dg.AssetExecutionContext, runtime: Runtime, outcome: Outcome, spool: staging.StagedRows
) -> Iterator[Any]:
    partition = context.partition_key
    with reported(outcome, context, f"reading of {partition}") as failed, runtime.heartbeat(context.run_id):
        result = _take(runtime, partition, spool)
    if failed:
        raise dg.Failure(str(failed[0]), allow_retries=False)
    if isinstance(result, str):
        # A file that cannot be read, or that changed or vanished meanwhile, must not block the files after it: the
        # run fails after the check result, and the sensor goes on with the next file.
        yield check_result(key_of(EXPORT, runtime), READABLE.finding(False, result))
        context.log.error(result)
        fail_if_stopped(outcome, f"{partition}: {result}")
    else:
        numbers, findings = result
        checks = [check_result(key_of(EXPORT, runtime), finding) for finding in findings]
        yield dg.MaterializeResult(metadata=metadata(numbers), check_results=checks)


def _take(
    runtime: Runtime, partition: str, spool: staging.StagedRows
) -> tuple[dict[str, Any], tuple[Finding, Finding]] | str:
    """Stage a partition's file and store its statements. Return numbers and findings, or why it cannot be read.

    A file that is not on the SFTP server is no error if none is known, or if it was processed before.
    """
    file, none_read = files.find(runtime, partition), VALID.finding(True, "No row of it was read.")
    nothing = {"dagster/partition_row_count": 0}
    if file is None:
        text = (
            f"No file of this partition ({partition}) is known: it was removed from the SFTP unprocessed, or "
            "never existed. No decision follows from it."
        )
        return nothing, (READABLE.finding(False, text, stops=False), none_read)
    try:
        staged = staging.spool_file(runtime, file, spool)
    except BadExport as error:
        runtime.ledger.opt_out_files.end_file(file, {}, str(error))
        return str(error)
    except FileGone as error:
        if file.state != FileState.DONE:
            return str(error)
        text = (
            f"{file.name} was processed on {file.done_at:%Y-%m-%d} and is no longer on the SFTP. Its statements are in "
            "the ledger and are not decided again."
        )
        return nothing, (READABLE.finding(True, text, stops=False), none_read)
    stated = staging.state_file(runtime, file, staged, spool)
    numbers: dict[str, Any] = {
        "dagster/partition_row_count": staged.valid,
        "rows": staged.rows,
        "good_rows": staged.valid,
        "rejected_rows": staged.rejected,
        "foreign_profiles": staged.foreign,
        "file_bytes": staged.bytes,
        "seconds": round(staged.seconds, 3),
        "rows_per_second": round(staged.rows / staged.seconds, 1) if staged.seconds else 0.0,
        "dates": staged.dates or None,
    }
    text = "; ".join(staged.warnings) or "It could be read."
    readable = READABLE.finding(not staged.warnings, text, stops=False)
    return numbers | stated_numbers(stated), (readable, _valid(runtime, partition, staged))


def stated_numbers(stated: Counter[Stated]) -> dict[str, int]:
    """Return the numbers of opt-outs that Campaign stated, by their effect on the ledger (`rules.opt_outs.Stated`)."""
    return {f"stated_{kind}": stated[kind] for kind in get_args(Stated)}


def _valid(runtime: Runtime, partition: str, staged: staging.Staged) -> Finding:
    """Return the finding that no row was rejected; it shows the first ones by line, id and reason."""
    rejected = runtime.ledger.opt_out_decisions.rejected_rows(partition, SHOWN) if staged.rejected else []
    text = "Every row is valid."
    if staged.rejected:
        text = f"{staged.rejected:,} of {staged.rows:,} rows were rejected; the others are processed."
    numbers = {
        "rejected_rows": staged.rejected,
        "reasons": Rows(("reason", "records"), staged.reasons.most_common(SHOWN)),
        "first_rows": Rows(("line", "id", "reason"), [(str(row.line), row.id or "", row.reason) for row in rejected]),
    }
    return VALID.finding(not staged.rejected, text, numbers)


def watch_checks(runtime: Runtime) -> dg.AssetChecksDefinition:
    """Define the checks of the asset that poll the SFTP folder."""

    @dg.multi_asset_check(
        name=runtime.installation.named("opt_out_export_watch"),
        specs=check_specs(key_of(EXPORT, runtime), [FILE_ARRIVES, SFTP_SPACE]),
        can_subset=True,  # else the UI could not execute one of them
        required_resource_keys=resource_names(runtime, USED),
    )
    def watch(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with bound(runtime, context.resources, USED) as run_runtime, failing("poll of the SFTP"):
            poll = files.poll_folder(run_runtime)
        yield from selected(
            context,
            key_of(EXPORT, runtime),
            files.folder_findings(runtime.config.opt_out.export, poll, datetime.now(UTC)),
        )

    return watch
