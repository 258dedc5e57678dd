"""Define the asset `campaign/opt_out_export`: the validated rows of an export file on Campaign's SFTP server.

Its run also stores the statements of these rows in the ledger; `opt_out/decisions` decides what is due after that. A
file can be materialised again as long as it is on the server. That changes nothing, since the ledger ignores statements
that are older than those it has.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from sync_assets.checks.rules import FILE_ARRIVES, READABLE, SFTP_SPACE, VALID
from sync_assets.config.values import CHANGED_SUFFIX
from sync_assets.defs.asset_keys import EXPORT, key_of
from sync_assets.defs.partitions import WORK, add_tags, opt_out_files
from sync_assets.defs.resources import LEDGER, SFTP, bound, resource_names
from sync_assets.defs.results import check_result, check_specs, metadata, selected
from sync_assets.defs.run_errors import fail_if_stopped, failing, reported
from sync_assets.defs.tables import asset_metadata
from sync_assets.flows import RunOutcome
from sync_assets.opt_out.export import folder as files
from sync_assets.opt_out.export.cells import valid_schema
from sync_assets.opt_out.export.staging import process_file
from sync_assets.runtime.context import Runtime

USED = {SFTP, LEDGER}
"""Resources of the asset."""


def export_asset(runtime: Runtime, outcome: RunOutcome | None) -> dg.AssetsDefinition:
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
        metadata=asset_metadata.page(runtime.config, process_file, columns, {}),
        # Without the pattern: the UI shows descriptions as Markdown in one place, as plain text in another.
        description="Opt-outs as Campaign states them: the validated rows of a file of the Campaign SFTP "
        f"(folder {export.directory}), as statements in the ledger.",
        check_specs=check_specs(key_of(EXPORT, runtime), [READABLE, VALID], [READABLE]),
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=max(expected * 1.25, timedelta(minutes=2)), warn_window=max(expected, timedelta(minutes=1))
        ),
        required_resource_keys=resource_names(runtime, USED),
    )
    def export_rows(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with bound(runtime, context.resources, USED) as run_runtime:
            add_tags(context, run_runtime, WORK)
            yield from _export_file(context, run_runtime, outcome or RunOutcome())

    return export_rows


def _export_file(context: dg.AssetExecutionContext, runtime: Runtime, outcome: RunOutcome) -> Iterator[Any]:
    partition = context.partition_key
    with (
        reported(outcome, context, f"reading of {partition}") as failed,
        runtime.worker.heartbeat(context.run_id, [WORK]),
    ):
        result = process_file(runtime, partition)
    if failed:
        raise dg.Failure(str(failed[0]), allow_retries=False)
    if isinstance(result, str):
        # A file that cannot be read, or that changed or vanished meanwhile, must not block the files after it: the
        # run fails after the check result, and the sensor goes on with the next file.
        yield check_result(key_of(EXPORT, runtime), READABLE.finding(False, result))
        context.log.error(result)
        fail_if_stopped(outcome, f"{partition}: {result}")
    else:
        outcome.counts.update(result.counts)
        checks = [check_result(key_of(EXPORT, runtime), finding) for finding in result.findings]
        yield dg.MaterializeResult(metadata=metadata(result.numbers), check_results=checks)


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
            poll = files.poll_folder(run_runtime, run_runtime.ledger)
        yield from selected(
            context,
            key_of(EXPORT, runtime),
            files.folder_findings(runtime.config.opt_out.export, poll, datetime.now(UTC)),
        )

    return watch
