"""Define the opt-out assets but that of the file: decisions, their writes to both systems, and work without a file.

A thin layer: each asset runs one flow of `sync_assets.opt_out`. The asset of the file is in `export_asset.py`.
"""

# No `from __future__ import annotations`: Dagster reads the annotations of `context` and `config` at run time.

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from sync_assets.checks import health, rules
from sync_assets.checks.preflight import findings_of
from sync_assets.checks.rules import Finding
from sync_assets.config.values import CHANGED_SUFFIX, CONTACT
from sync_assets.defs.asset_keys import (
    CHANGES,
    CONTACT_OPT_OUT,
    DECISIONS,
    EXPORT,
    PROFILE_OPT_OUT,
    campaign_key,
    d365_key,
    key_of,
)
from sync_assets.defs.opt_out.export_asset import export_asset
from sync_assets.defs.opt_out.settled import Settled, note_undecided
from sync_assets.defs.partitions import WORK, add_tags, opt_out_files
from sync_assets.defs.resources import OF_TABLES, bound, resource_names
from sync_assets.defs.results import check_result, check_specs, metadata, selected
from sync_assets.defs.run_errors import fail_if_stopped, reported
from sync_assets.defs.tables import asset_metadata
from sync_assets.flows import RunOutcome
from sync_assets.opt_out.apply import WRITTEN, Applied, rejected_by_reason, write_campaign, write_d365, write_due
from sync_assets.opt_out.changes import Changes
from sync_assets.opt_out.decide import Side, decide
from sync_assets.opt_out.pending_decisions import DecisionRun, decide_due, decision_numbers
from sync_assets.opt_out.session import open_session
from sync_assets.runtime import interruptible
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime

_SYSTEMS: dict[Side, str] = {"d365": "Dynamics 365: ", "campaign": "Campaign: "}
"""Text in the reason of a rejected opt-out that names the rejecting system, by side."""
COLUMN_CHECKS = (rules.OPT_OUT_COLUMNS, rules.OPT_OUT_ATTRIBUTES)
_OF_A_DECISION = [
    dg.TableColumn("contact", "string", "the contact's id"),
    dg.TableColumn("column", "string", "the column of contact"),
    dg.TableColumn("attribute", "string", "the opt-out attribute of its profile"),
    dg.TableColumn("d365", "boolean", "opted out, as Dynamics 365 has it"),
    dg.TableColumn("d365_modified", "datetime", "when the contact was last modified"),
    dg.TableColumn("campaign", "boolean", "opted out, as Campaign has it"),
    dg.TableColumn("campaign_changed", "datetime", "when Campaign's attribute changed"),
    dg.TableColumn("value", "boolean", "the value that both sides must hold"),
    dg.TableColumn("write", "string", "the side that is written; empty: they agree"),
    dg.TableColumn("reason", "string", "why"),
    dg.TableColumn("source", "string", "the cause of the decision"),
    dg.TableColumn("decided_at", "datetime", "when it was decided"),
]


def opt_out_assets(runtime: Runtime, outcome: RunOutcome | None = None) -> list[dg.AssetsDefinition]:
    """Return the opt-out assets for the configured direction; none if opt-outs are disabled.

    outcome: receives the result of a run, for a caller in the same process.
    """
    direction = runtime.config.opt_out.direction
    if not runtime.config.opt_out.active:
        return []
    assets = [export_asset(runtime, outcome), _decisions(runtime, outcome), _changes(runtime, outcome)]
    sides: list[Side] = ["d365", "campaign"] if direction == "bidirectional" else ["d365"]
    return [*assets, *(_writes(runtime, outcome, side) for side in sides)]


def _decisions(runtime: Runtime, outcome: RunOutcome | None) -> dg.AssetsDefinition:
    config, stated = runtime.config, runtime.config.opt_out.attributes
    contact = d365_key(config.table(CONTACT), runtime)
    # A decision is about one opt-out, so its columns come from all mapped attributes of the file and of the contact.
    deps = {
        "d365": [dg.TableColumnDep(contact, name) for name in config.opt_out.mappings],
        "contact": [dg.TableColumnDep(key_of(EXPORT, runtime), "id")],
        "campaign": [dg.TableColumnDep(key_of(EXPORT, runtime), to) for to in stated],
        "campaign_changed": [dg.TableColumnDep(key_of(EXPORT, runtime), f"{to}{CHANGED_SUFFIX}") for to in stated],
    }

    @dg.asset(
        key=key_of(DECISIONS, runtime),
        group_name=runtime.installation.group("opt_out"),
        partitions_def=opt_out_files(runtime.installation.name),
        deps=[key_of(EXPORT, runtime), dg.AssetDep(contact, partition_mapping=dg.AllPartitionMapping())],
        kinds={"python"},
        owners=list(config.owners.opt_out),
        metadata=asset_metadata.page(config, decide, _OF_A_DECISION, deps),
        description="The decision on each opt-out that may differ: both values, both times, the value that both "
        "sides are to hold, why, and which side is written (direction "
        f"{config.opt_out.direction}). Kept for audit.",
        check_specs=check_specs(key_of(DECISIONS, runtime), (*COLUMN_CHECKS, rules.ALL_DECIDED), COLUMN_CHECKS),
        required_resource_keys=resource_names(runtime, OF_TABLES),
    )
    def decisions(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with bound(runtime, context.resources, OF_TABLES) as run_runtime:
            add_tags(context, run_runtime, WORK)
            yield from _decide(context, run_runtime, outcome or RunOutcome())

    return decisions


def _decide(context: dg.AssetExecutionContext, runtime: Runtime, outcome: RunOutcome) -> Iterator[Any]:
    partition = context.partition_key

    async def decided() -> DecisionRun:
        async with open_session(runtime) as session:
            return await decide_due(session, partition)

    with (
        reported(outcome, context, f"decision of {partition}") as failed,
        runtime.worker.heartbeat(context.run_id, [WORK]),
    ):
        deciding = interruptible.run(decided())
    if failed:
        # Other checks are of the contact's table.
        yield from selected(context, key_of(DECISIONS, runtime), findings_of(failed[0]))
        raise dg.Failure(str(failed[0]), allow_retries=False)
    open_counts = runtime.ledger.opt_outs.left(runtime.config.opt_out.attributes)
    numbers = {
        "dagster/partition_row_count": deciding.decided.total(),
        **decision_numbers(runtime.ledger, deciding),
        "to_d365": open_counts.to_d365,
        "to_campaign": open_counts.to_campaign,
        "held": open_counts.held,
        "engine_calls": deciding.session.calls,
    }
    columns = [rule.finding(True) for rule in COLUMN_CHECKS]
    yield _result(runtime, key_of(DECISIONS, runtime), numbers, [*columns, note_undecided(outcome, deciding)])


def _writes(runtime: Runtime, outcome: RunOutcome | None, side: Side) -> dg.AssetsDefinition:
    config, key = runtime.config, key_of(CONTACT_OPT_OUT if side == "d365" else PROFILE_OPT_OUT, runtime)
    function: Any
    if side == "d365":
        kind, objects, function, table = "dynamics365", "contacts in Dynamics 365", write_d365, d365_key
        texts = {
            column: f"as decided of {mapping.to}" + ("; true means allow" if mapping.inverted else "")
            for column, mapping in config.opt_out.mappings.items()
        }
    else:
        kind, objects, function, table = "adobecampaign", "profiles in Campaign", write_campaign, campaign_key
        texts = {mapping.to: f"as decided of {column}" for column, mapping in config.opt_out.mappings.items()}
    columns = [dg.TableColumn(column, "boolean", description=text) for column, text in texts.items()]
    deps = {column: [dg.TableColumnDep(key_of(DECISIONS, runtime), "value")] for column in texts}

    @dg.asset(
        key=key,
        group_name=runtime.installation.group("opt_out"),
        partitions_def=opt_out_files(runtime.installation.name),
        deps=[key_of(DECISIONS, runtime)],
        kinds={kind},
        owners=list(config.owners.opt_out),
        metadata=asset_metadata.page(config, function, columns, deps)
        | {asset_metadata.TABLE_NAME: ".".join(table(config.table(CONTACT), runtime).path)},
        tags={"sync/pii": "true"},
        description=f"Opt-outs of {objects}, as decided: written where they differ, never where they agree. A run "
        "writes all due opt-outs; running it again retries the failed ones.",
        check_specs=check_specs(key, [rules.ACCEPTED]),
        required_resource_keys=resource_names(runtime, OF_TABLES),
    )
    def written(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with bound(runtime, context.resources, OF_TABLES) as run_runtime:
            add_tags(context, run_runtime, WORK)
            yield from _write(context, run_runtime, outcome or RunOutcome(), key, side)

    return written


def _write(
    context: dg.AssetExecutionContext, runtime: Runtime, outcome: RunOutcome, key: dg.AssetKey, side: Side
) -> Iterator[Any]:
    async def written() -> tuple[Applied, int]:
        async with open_session(runtime) as session:
            return await write_due(session, side), session.calls

    with (
        reported(outcome, context, f"writing of {key.to_user_string()}") as failed,
        runtime.worker.heartbeat(context.run_id, [WORK]),
    ):
        done, calls = interruptible.run(written())
    if failed:
        raise dg.Failure(str(failed[0]), allow_retries=False)
    outcome.counts[WRITTEN[side]] += done.written
    refused = [reject for reject in runtime.ledger.opt_outs.refused() if _SYSTEMS[side] in reject.reason]
    numbers = {**done.numbers(), "engine_calls": calls, **rejected_by_reason(refused)}
    yield _result(runtime, key, numbers, [health.accepted(len(refused))])
    fail_if_stopped(outcome, done.problem)


class ChangesConfig(dg.Config):
    poll: bool = Field(False, description="read the profiles changed since the last poll now, even if no poll is due")


def _changes(runtime: Runtime, outcome: RunOutcome | None) -> dg.AssetsDefinition:
    """Define `opt_out/changes`: decide and write all opt-outs that are due without an export file."""
    config, direction = runtime.config, runtime.config.opt_out.direction
    # Depends on all partitions of contacts, since a due opt-out may come from any day. With the last partition only,
    # Dagster would show the asset as unsynced after each run of contacts, even if no opt-out changed.
    contacts = [d365_key(config.table(CONTACT), runtime)] if direction == "bidirectional" else []
    # Its rows are decisions. Campaign's values come from its API, so from no asset.
    deps = {"d365": [dg.TableColumnDep(contacts[0], name) for name in config.opt_out.mappings]} if contacts else {}

    @dg.asset(
        key=key_of(CHANGES, runtime),
        group_name=runtime.installation.group("opt_out"),
        deps=contacts,
        kinds={"dynamics365", "adobecampaign"},
        owners=list(config.owners.opt_out),
        metadata=asset_metadata.page(config, Changes.settle, _OF_A_DECISION, deps),
        tags={"sync/pii": "true"},
        description="Opt-outs that are due without a file: profiles are polled if poll_profiles_minutes is set, "
        "then opt-outs are decided and written where the two sides differ (direction "
        f"{direction}). A run writes all due ones; running it again retries the failed ones. Each decision is kept for "
        "audit.",
        check_specs=check_specs(key_of(CHANGES, runtime), [rules.ALL_DECIDED, rules.ACCEPTED]),
        required_resource_keys=resource_names(runtime, OF_TABLES),
    )
    def changes(context: dg.AssetExecutionContext, config: ChangesConfig) -> Iterator[Any]:
        with bound(runtime, context.resources, OF_TABLES) as run_runtime:
            add_tags(context, run_runtime, WORK)
            yield from _run_changes(context, run_runtime, outcome or RunOutcome(), poll=config.poll)

    return changes


def _run_changes(
    context: dg.AssetExecutionContext, runtime: Runtime, outcome: RunOutcome, *, poll: bool
) -> Iterator[Any]:
    settled = Settled(runtime, outcome)
    with reported(outcome, context, "run of opt-outs") as failed, runtime.worker.heartbeat(context.run_id, [WORK]):
        interruptible.run(settled.run(failed, poll=poll))
    key, numbers, problems = key_of(CHANGES, runtime), settled.numbers(), " ".join(dict.fromkeys(map(str, failed)))
    if numbers is None:
        yield from (check_result(key, finding) for finding in settled.findings())
        raise dg.Failure(problems, allow_retries=False)
    yield _result(runtime, key, numbers, settled.findings())
    if problems:
        raise dg.Failure(problems, allow_retries=False)
    fail_if_stopped(outcome, *(applied.problem for applied in settled.changes.written.values()))


def _result(
    configuration: Configuration, key: dg.AssetKey, numbers: Mapping[str, Any], findings: Sequence[Finding]
) -> dg.MaterializeResult[Any]:
    links = asset_metadata.links(configuration, configuration.config.table(CONTACT))
    return dg.MaterializeResult(
        metadata=metadata(numbers) | links, check_results=[check_result(key, finding) for finding in findings]
    )
