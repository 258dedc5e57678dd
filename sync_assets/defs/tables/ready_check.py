"""Build the check `ready`: the findings about a table's set-up on one side, as one result.

Invariant: a wrong set-up fails the check of the asset on whose side the cause is, with the cause in the first line of
its description.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from sync_assets.defs.tables import check_results
from sync_assets.foreign_text import markdown
from sync_assets.validation.findings import Finding

READY = "ready"
READY_TEXT = "The table's set-up is right on this side: it answers, has all that is mapped, and keeps to the limits."
PLOTTED = frozenset({"spent_today", "projected", "left"})
"""Numbers of findings that change from day to day, so that the UI plots them. All findings are in the table as text."""


def ready_result(key: dg.AssetKey, findings: Sequence[Finding]) -> dg.AssetCheckResult:
    """Return the result of the check `ready`: an error if a blocking finding fails, a warning if another one fails.

    Pure.

    Args:
        key: Of the asset.
        findings: Of the asset's side.
    """
    failing = [one for one in findings if not one.passed]
    wrong = sorted(failing, key=lambda one: not one.blocks)
    text = "\n".join(one.message for one in wrong) or "The set-up is right."
    parts = [(_words(one.check), "yes" if one.passed else "no", one.message) for one in findings]
    numbers = {name: number for one in findings for name, number in one.numbers.items() if name in PLOTTED}
    blocked = any(one.stops for one in failing)
    return dg.AssetCheckResult(
        passed=not failing,
        asset_key=key,
        check_name=READY,
        severity=dg.AssetCheckSeverity.ERROR if blocked else dg.AssetCheckSeverity.WARN,
        description=markdown(text),
        metadata={"parts": check_results.table(("part", "holds", "in words"), parts), **numbers},
    )


def _words(check: str) -> str:
    """Return the name of a finding as words."""
    return check.replace("_", " ")
