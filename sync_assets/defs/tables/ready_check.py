"""The check `ready`: the findings of a table's set-up as one result.

A set-up that fails makes one check red, that of the asset on whose side the cause is, with the cause in its first line.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from sync_assets.defs.tables import check_results
from sync_assets.validation.findings import Finding

READY = "ready"
READY_TEXT = "The table's set-up is right on this side: it answers, has all that is mapped, and keeps to the limits."
PLOTTED = frozenset({"spent_today", "projected", "left"})
"""Numbers of findings that change from day to day; of the others the table has the words."""


def ready_result(key: dg.AssetKey, findings: Sequence[Finding]) -> dg.AssetCheckResult:
    """The check `ready` of one asset. A note that does not hold is a warning. Pure."""
    failing = [one for one in findings if not one.passed]
    wrong = sorted(failing, key=lambda one: not one.blocks)
    text = "\n".join(one.message for one in wrong) or "The set-up is right."
    parts = [(_words(one.check), "yes" if one.passed else "no", one.message) for one in findings]
    numbers = {name: number for one in findings for name, number in one.numbers.items() if name in PLOTTED}
    blocked = any(one.blocks for one in failing)
    return dg.AssetCheckResult(
        passed=not failing,
        asset_key=key,
        check_name=READY,
        severity=dg.AssetCheckSeverity.ERROR if blocked else dg.AssetCheckSeverity.WARN,
        description=text,
        metadata={"parts": check_results.table(("part", "holds", "in words"), parts), **numbers},
    )


def _words(check: str) -> str:
    return check.replace("_", " ")
