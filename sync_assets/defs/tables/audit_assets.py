"""Define the assets `campaign/<resource>_audit`: a sample of records, read back daily and compared.

The comparisons and their findings are in `audit/drift.py` and `opt_out/parity.py`.

The assets have no partitions, and no other op materialises them, so the results of their checks stay valid until the
next comparison.
"""

# No `from __future__ import annotations`: Dagster reads the annotation of `context` at run time.

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from sync_assets.audit.drift import Drift, agreement, drift, one_record_each
from sync_assets.checks.rules import AUDIT_CHECKS, OPT_OUTS_AGREE, Finding
from sync_assets.config.models import TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.defs.asset_keys import audit_key, campaign_key
from sync_assets.defs.partitions import add_tags
from sync_assets.defs.resources import OF_TABLES, bound, resource_names
from sync_assets.defs.results import check_specs, selected
from sync_assets.defs.run_errors import failing
from sync_assets.defs.tables import asset_metadata
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

DAILY = timedelta(hours=24)


def audit_asset(config: TableConfig, runtime: Runtime) -> dg.AssetsDefinition:
    """Define the audit of one resource; that of profiles compares opt-outs, too, if these are synchronised.

    A run costs one engine call for each compared record and for each of its parents (`audit/drift.py`).
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
                description=f"A sample of {config.resource}, read back from Campaign and compared with the ledger.",
                metadata=dict(asset_metadata.table_code(runtime.config, config, drift)),
                freshness_policy=dg.FreshnessPolicy.time_window(fail_window=DAILY * 2, warn_window=DAILY * 1.25),
            )
        ],
        check_specs=check_specs(key, (*AUDIT_CHECKS, OPT_OUTS_AGREE) if compares_opt_outs else AUDIT_CHECKS),
        can_subset=True,  # the UI can execute the checks without the asset, and one of them alone
        description=f"Compares a sample of {config.resource} with the acknowledged state.",
        required_resource_keys=resource_names(runtime, OF_TABLES),
    )
    def audit(context: dg.AssetExecutionContext) -> Iterator[Any]:
        names = {check.name for check in context.selected_asset_check_keys}
        differences, results = Drift(), list[Finding]()
        with bound(runtime, context.resources, OF_TABLES) as run_runtime, failing("comparison"):
            add_tags(context, run_runtime, config.table)
            if context.selected_asset_keys or names & {rule.name for rule in AUDIT_CHECKS}:
                differences = interruptible.run(drift(run_runtime, config))
                reasons = run_runtime.ledger.reports.reject_reasons(config.table)
                results += [agreement(config.table, differences), one_record_each(config, differences, reasons)]
            if OPT_OUTS_AGREE.name in names:
                # Imported only if needed: installations without opt-outs need not wait, as each run loads this anew.
                from sync_assets.opt_out.parity import opt_outs_agree, parity  # noqa: PLC0415

                results.append(opt_outs_agree(interruptible.run(parity(run_runtime))))
        checked = selected(context, key, results)
        if context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key, metadata=differences.numbers, check_results=checked)
        else:
            yield from checked

    return audit
