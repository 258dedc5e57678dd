"""Convert results of flows and findings into Dagster's values: metadata, specs of checks, and results of checks. Pure.

Invariant: metadata holds counts, ids, names and reasons, never values of a record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from sync_assets.checks.rules import Finding, Rows, Rule
from sync_assets.foreign_text import markdown


def metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as metadata: numbers and texts as they are; times (UTC), `Rows` and documents in Dagster's types.

    A value that is None is left out, and so is a table without rows.
    """
    known = {name: value for name, value in values.items() if value is not None}
    return {name: _value(value) for name, value in known.items() if not isinstance(value, Rows) or value.rows}


def _value(value: Any) -> Any:
    match value:
        case datetime():
            return dg.MetadataValue.timestamp(value)
        case Rows():
            return _table(*value)
        case Mapping():
            return dg.MetadataValue.json(value)
        case _:
            return value


def _table(names: Sequence[str], rows: Sequence[Sequence[str | int]]) -> dg.MetadataValue:
    """Return a table. A column is numeric if its name is `records` or its first value is an int."""
    numbers = {name for at, name in enumerate(names) if name == "records" or (rows and isinstance(rows[0][at], int))}
    columns = [dg.TableColumn(name, "int" if name in numbers else "string") for name in names]
    records = [dg.TableRecord(dict(zip(names, row, strict=True))) for row in rows]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


def check_specs(key: dg.AssetKey, checks: Iterable[Rule], blocking: Collection[Rule] = ()) -> list[dg.AssetCheckSpec]:
    """Return the specs of an asset's checks. blocking: those whose failure stops the assets downstream."""
    return [
        dg.AssetCheckSpec(rule.name, asset=key, description=rule.holds.replace("`", ""), blocking=rule in blocking)
        for rule in checks
    ]


def check_result(key: dg.AssetKey, finding: Finding) -> dg.AssetCheckResult:
    """Return a finding as the result of the asset's check of that name: an error unless it only warns."""
    return dg.AssetCheckResult(
        passed=finding.passed,
        asset_key=key,
        check_name=finding.check,
        severity=dg.AssetCheckSeverity.WARN if finding.outcome == "warn" else dg.AssetCheckSeverity.ERROR,
        description=markdown(finding.message),
        metadata=metadata(finding.numbers),
    )


def check_key(result: dg.AssetCheckResult) -> dg.AssetCheckKey:
    """Return the key of the check of a result of `check_result`."""
    assert result.asset_key
    return dg.AssetCheckKey(result.asset_key, str(result.check_name))


def selected(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, key: dg.AssetKey, findings: Iterable[Finding]
) -> list[dg.AssetCheckResult]:
    """Return the results of the checks that the run selects."""
    selected_keys = context.selected_asset_check_keys
    return [check_result(key, finding) for finding in findings if dg.AssetCheckKey(key, finding.check) in selected_keys]
