"""Define the assets `campaign/<resource>_audit`: each day a part of the resource is listed and compared.

The comparison is in `audit/record_audit.py`, its findings in `audit/audit_result.py`.

The assets have no partitions, and no other op materialises them, so the results of their checks stay valid until the
next comparison.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any

import dagster as dg

from sync_assets.audit.audit_result import agreement, one_record_each, opt_outs_agree
from sync_assets.audit.record_audit import audit_table, daily_pages, rotations, stored_result
from sync_assets.campaign.client import BudgetSpent
from sync_assets.checks.rules import AUDIT_CHECKS, OPT_OUTS_AGREE
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import audit_key, campaign_key
from sync_assets.defs.partitions import add_tags
from sync_assets.defs.resources import OF_TABLES, bound, resource_names
from sync_assets.defs.results import check_specs, metadata, selected
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import asset_metadata
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.pkeys import ListedKeys

DAILY = timedelta(hours=24)


def audit_asset(config: TableConfig, runtime: Runtime) -> dg.AssetsDefinition:
    """Define the audit of one resource; that of profiles compares opt-outs, too, if these are synchronised.

    A run lists the resource's share of `audit.calls_per_day` pages, and goes on where the last one ended.
    """
    key = audit_key(config, runtime)
    compares_opt_outs = config.table == CONTACT and runtime.config.opt_out.direction != "disabled"

    @dg.multi_asset(
        name=runtime.installation.named(f"audit_{config.table}"),
        specs=[
            dg.AssetSpec(
                key,
                # Of all partitions: of the last one the audit would be out of date after the next change.
                deps=[campaign_key(config, runtime)],
                group_name=runtime.installation.group("audit"),
                kinds={"adobecampaign"},
                owners=list(runtime.config.owners.campaign),
                description=f"{config.resource} as Campaign lists it, compared with Dynamics 365 as mapped now.",
                metadata=dict(asset_metadata.table_code(runtime.config, config, audit_table)),
                freshness_policy=dg.FreshnessPolicy.time_window(fail_window=DAILY * 2, warn_window=DAILY * 1.25),
            )
        ],
        check_specs=check_specs(key, (*AUDIT_CHECKS, OPT_OUTS_AGREE) if compares_opt_outs else AUDIT_CHECKS),
        can_subset=True,  # the UI can execute the checks without the asset, and one of them alone
        description=f"Lists {config.resource}, and compares it with Dynamics 365 as mapped now.",
        required_resource_keys=resource_names(runtime, OF_TABLES),
    )
    def audit(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with bound(runtime, context.resources, OF_TABLES) as run_runtime, failing("comparison"):
            add_tags(context, run_runtime, config.table)
            overall, ledger = run_runtime.config, run_runtime.ledger
            if pages := daily_pages(overall, ledger)[config.table]:
                from sync_assets.commands.audit import opt_outs_of  # typer: only in a run  # noqa: PLC0415

                opt_outs = opt_outs_of(overall, ledger, config)
                with closing(ListedKeys()) as keys, suppress(BudgetSpent):
                    interruptible.run(audit_table(run_runtime, config, keys, "daily", pages, opt_outs))
            result = stored_result(ledger, config.table, "daily")
            days = rotations(overall, ledger)[config.table].days  # in which the whole resource is listed
            numbers = metadata({**result.numbers, "days": days})
            reasons = ledger.reports.reject_reasons(config.table)
        findings = [agreement(config.table, result), one_record_each(config, result, reasons), opt_outs_agree(result)]
        checked = selected(context, key, findings)
        if context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key, metadata=numbers, check_results=checked)
        else:
            yield from checked

    return audit
