"""Define the assets downstream of an export file: decisions about opt-outs, and their writes to both systems.

A thin layer: each asset runs one flow of `sync_assets.opt_out`. Metadata and check results are in `run_results.py`, the
asset of the file in `export_asset.py`, the asset of work without a file in `changes_asset.py`.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import dagster as dg

from sync_assets.config.values import CONTACT
from sync_assets.defs.opt_out import opt_out_metadata, run_results
from sync_assets.defs.opt_out.asset_keys import CONTACT_OPT_OUT, DECISIONS, EXPORT, PROFILE_OPT_OUT
from sync_assets.defs.opt_out.changes_asset import changes_asset
from sync_assets.defs.opt_out.export_asset import export_asset
from sync_assets.defs.opt_out.partitions import WORK, opt_out_files
from sync_assets.defs.partitions import TABLE_TAG
from sync_assets.defs.resources import OF_TABLES, bound
from sync_assets.defs.run_errors import reported
from sync_assets.defs.tables import asset_metadata
from sync_assets.flows import Outcome
from sync_assets.foreign_text import markdown
from sync_assets.opt_out.apply import Applied, write_campaign, write_d365, write_due
from sync_assets.opt_out.decide import Side, decide
from sync_assets.opt_out.pending_decisions import DecisionRun, decide_due
from sync_assets.opt_out.session import open_session
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.heartbeat import heartbeat
from sync_assets.validation.opt_out_columns import OPT_OUT_CHECKS
from sync_assets.validation.preflight import findings_of


def resources(runtime: Runtime) -> dict[str, Any]:
    """Return the resources of the opt-out assets besides the systems: the IO manager."""
    return {PARQUET: ParquetParts(lambda: runtime.store)}


def opt_out_assets(runtime: Runtime, outcome: Outcome | None = None) -> list[dg.AssetsDefinition]:
    """Return the opt-out assets for the configured direction; none if opt-outs are disabled.

    outcome: receives what a run of them finds, for a caller in the same process.
    """
    if not runtime.config.opt_out.active:
        return []
    made = (export_asset, _decisions, changes_asset, _contact_opt_out)
    assets = [asset(runtime, outcome) for asset in made]
    bidirectional = runtime.config.opt_out.direction == "bidirectional"
    return [*assets, _profile_opt_out(runtime, outcome)] if bidirectional else assets


def _decisions(runtime: Runtime, outcome: Outcome | None) -> dg.AssetsDefinition:
    @dg.asset(
        key=DECISIONS,
        group_name="opt_out",
        partitions_def=opt_out_files,
        deps=[EXPORT],
        kinds={"python"},
        owners=list(runtime.config.owners.opt_out),
        metadata=opt_out_metadata.decisions(runtime.config, decide),
        description="What is decided of each opt-out that may differ: both values, both times, the value that both "
        "sides are to hold, why, and which side is written (direction "
        f"{runtime.config.opt_out.direction}). Kept for audit.",
        check_specs=[
            dg.AssetCheckSpec(name, asset=DECISIONS, blocking=True, description=text)
            for name, (_, text) in OPT_OUT_CHECKS.items()
        ]
        + [dg.AssetCheckSpec(run_results.DECIDED, asset=DECISIONS, description=run_results.DECIDED_TEXT)],
        op_tags={TABLE_TAG: WORK},
        required_resource_keys=OF_TABLES,
    )
    def decisions(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with closing(bound(runtime, context.resources, OF_TABLES)) as its:
            yield from _decide(context, its, outcome or Outcome(), rows)

    return decisions


def _decide(context: dg.AssetExecutionContext, runtime: Runtime, outcome: Outcome, rows: Parts) -> Iterator[Any]:
    partition = context.partition_key
    audit, calls = DecisionLog(runtime.store, partition, context.run_id), runtime.calls.total()

    async def decided() -> DecisionRun:
        async with open_session(runtime) as session:
            return await decide_due(session, partition)

    with reported(outcome, context, f"decision of {partition}") as failed, heartbeat(runtime, context.run_id):
        stated = staging.state_file(runtime, partition, rows)
        deciding = interruptible.run(decided())
    if failed:
        for finding in findings_of(failed[0]):
            if finding.check in OPT_OUT_CHECKS:  # others are of the contact's table
                yield dg.AssetCheckResult(
                    passed=finding.passed,
                    asset_key=DECISIONS,
                    check_name=finding.check,
                    description=markdown(finding.message),
                )
        raise dg.Failure(str(failed[0]), allow_retries=False)
    left = runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes)
    yield dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": deciding.decided.total(),
            **run_results.decided_metadata(runtime, deciding),
            "to_d365": left.to_d365,
            "to_campaign": left.to_campaign,
            "held": left.held,
            "engine_calls": runtime.calls.total() - calls,
            **asset_metadata.links(runtime, runtime.config.table(CONTACT)),
        },
        check_results=[
            dg.AssetCheckResult(passed=True, asset_key=DECISIONS, check_name=name, description=text)
            for name, (_, text) in OPT_OUT_CHECKS.items()
        ]
        + [run_results.everything_due_is_decided(outcome, DECISIONS, deciding)],
    )


def _contact_opt_out(runtime: Runtime, outcome: Outcome | None) -> dg.AssetsDefinition:
    return _writes(
        runtime,
        outcome,
        CONTACT_OPT_OUT,
        "d365",
        "Opt-outs of contacts in Dynamics 365, as decided: written where they differ, never where they agree.",
        "dynamics365",
        opt_out_metadata.contact_opt_out(runtime.config, write_d365),
    )


def _profile_opt_out(runtime: Runtime, outcome: Outcome | None) -> dg.AssetsDefinition:
    return _writes(
        runtime,
        outcome,
        PROFILE_OPT_OUT,
        "campaign",
        "Opt-outs of profiles in Campaign, as decided: written where they differ, never where they agree.",
        "adobecampaign",
        opt_out_metadata.profile_opt_out(runtime.config, write_campaign),
    )


def _writes(
    runtime: Runtime,
    outcome: Outcome | None,
    key: dg.AssetKey,
    side: Side,
    description: str,
    kind: str,
    page: Mapping[str, Any],
) -> dg.AssetsDefinition:
    @dg.asset(
        key=key,
        group_name="opt_out",
        partitions_def=opt_out_files,
        deps=[DECISIONS],
        kinds={kind},
        owners=list(runtime.config.owners.opt_out),
        metadata=page,
        tags={"sync/pii": "true"},
        description=f"{description} A run writes all that is due; running it again retries what is left.",
        check_specs=[dg.AssetCheckSpec(run_results.ACCEPTED, asset=key, description=run_results.ACCEPTED_TEXT)],
        op_tags={TABLE_TAG: WORK},
        required_resource_keys=OF_TABLES,
    )
    def written(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with closing(bound(runtime, context.resources, OF_TABLES)) as its:
            yield from _write(context, its, outcome or Outcome(), key, side)

    return written


def _write(
    context: dg.AssetExecutionContext, runtime: Runtime, outcome: Outcome, key: dg.AssetKey, side: Side
) -> Iterator[Any]:
    calls = runtime.calls.total()

    async def written() -> Applied:
        async with open_session(runtime) as session:
            return await write_due(session, side)

    with reported(outcome, context, f"writing of {key.to_user_string()}") as failed, heartbeat(runtime, context.run_id):
        done = interruptible.run(written())
    if failed:
        raise dg.Failure(str(failed[0]), allow_retries=False)
    refused = run_results.refused_by(runtime, side)
    yield dg.MaterializeResult(
        metadata={
            **run_results.written_metadata(done),
            "engine_calls": runtime.calls.total() - calls,
            **run_results.refused_metadata(refused),
            **asset_metadata.links(runtime, runtime.config.table(CONTACT)),
        },
        check_results=[run_results.no_opt_out_is_refused(key, refused)],
    )
    run_results.stop(outcome, done.problem)
