"""Did the data model change under a mapping? What is gone the preflight finds; here: what has another type now.

A type that the mapping can still convert would pass unnoticed, and have every row read and sent anew. So the types of
what is mapped are kept in the ledger, and one that changed stops its table, and no other, until somebody has looked:
`sync-assets maintenance off TABLE` takes the data model as it is.
"""

from __future__ import annotations

from collections.abc import Mapping as ABCMapping

from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.ledger.model import Types
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.validation.findings import CHECKS, Finding, Side

TYPES: dict[Side, str] = {"d365": "column_types_are_as_before", "campaign": "attribute_types_are_as_before"}
"""Side -> the check that stands on its asset."""


def types_of(mapping: TableMapping) -> Types:
    """The types of all that the mapping reads and writes."""
    columns = {("d365", name): type_ for name, type_ in mapping.column_types.items()}
    attributes = {
        ("campaign", field.attribute.path): str(field.attribute.type) for field in (*mapping.fields, *mapping.links)
    }
    return {**columns, **attributes, ("campaign", mapping.key.path): mapping.key.type}


def types_in(config: TableConfig, resource: Resource) -> Types:
    """The same of Campaign's side alone, which a push asks."""
    paths = {config.key, *(field.to for field in config.fields.values()), *(link.to for link in config.links)}
    return {
        ("campaign", path): attribute.type for path in sorted(paths) if (attribute := resource.attributes.get(path))
    }


def type_findings(config: TableConfig, known: ABCMapping[tuple[str, str], str], now: Types) -> list[Finding]:
    """One finding for each side that `now` tells of: which columns or attributes have another type than the known one.
    What is not known yet is no change."""
    findings: list[Finding] = []
    for side in sorted({side for side, _ in now}):
        check = TYPES["d365" if side == "d365" else "campaign"]
        where = config.table if side == "d365" else config.resource
        changed = [
            f"`{name}` of {where} was {known[at, name]} and is {type_}"
            for (at, name), type_ in now.items()
            if at == side and known.get((at, name), type_) != type_
        ]
        text = CHECKS[check][1]
        if changed:
            text = (
                f"{'; '.join(changed)}. Look whether the mapping still says what you mean, then `sync-assets "
                f"maintenance off {config.table}` takes the new types"
            )
        findings.append(Finding(check, not changed, text))
    return findings
