"""Detect a target, or types of columns and attributes, that changed under a mapping. The preflight finds missing ones.

A new type that the mapping can still convert would pass unnoticed, and all rows would be read and sent again. So the
types of mapped columns and attributes are stored in the ledger. A changed type stops its table, and no other, until an
operator has checked it: `sync-assets maintenance off TABLE` accepts the data model as it is.
"""

from __future__ import annotations

from collections.abc import Mapping as ABCMapping

from sync_assets.campaign.metadata import Resource
from sync_assets.config.models import TableConfig
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Types
from sync_assets.mapping.table_mapping import TableMapping
from sync_assets.plurals import counted
from sync_assets.validation.findings import CHECKS, Finding, Side

TYPES: dict[Side, str] = {"d365": "column_types_are_as_before", "campaign": "attribute_types_are_as_before"}
"""Side -> the check on its asset."""


def types_of(mapping: TableMapping) -> Types:
    """Return the types of all columns and attributes that the mapping reads and writes."""
    columns = {("d365", name): type_ for name, type_ in mapping.column_types.items()}
    attributes = {
        ("campaign", field.attribute.path): str(field.attribute.type) for field in (*mapping.fields, *mapping.links)
    }
    return {**columns, **attributes, ("campaign", mapping.key.path): mapping.key.type}


def types_in(config: TableConfig, resource: Resource) -> Types:
    """Return the types of Campaign's side alone, which a push checks."""
    paths = {config.key, *(field.to for field in config.fields.values()), *(link.to for link in config.links)}
    return {
        ("campaign", path): attribute.type for path in sorted(paths) if (attribute := resource.attributes.get(path))
    }


def type_findings(config: TableConfig, known: ABCMapping[tuple[str, str], str], now: Types) -> list[Finding]:
    """Return one finding for each side in `now`: columns or attributes whose type differs from the known one.

    A column or attribute without a known type is no change.
    """
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


def findings_since_capture(ledger: Ledger, config: TableConfig, now: Types) -> list[Finding]:
    """Return the findings about types and target that differ from those of the table's last capture.

    now: the types, as in `type_findings`. The types of another resource are no change of the former one's.
    """
    known, target = ledger.maintenance.known_types(config.table), target_finding(ledger, config)
    if ledger.targets.target(config.table) != (config.resource, config.key):
        known = {place: type_ for place, type_ in known.items() if place[0] == "d365"}
    return [*type_findings(config, known, now), target]


def target_finding(ledger: Ledger, config: TableConfig) -> Finding:
    """Return the finding about a table's target, the resource and the key attribute; it fails if another was sent to.

    A target to which nothing was sent may be replaced.
    """
    check = "target_is_as_before"
    resource, key = before = ledger.targets.target(config.table) or (config.resource, config.key)
    records, links = ledger.targets.count_sent(config.table) if before != (config.resource, config.key) else (0, 0)
    if not records:
        return Finding(check, True, CHECKS[check][1])
    linked = f", {counted(links, 'link')} of other tables to them are sent again" if links else ""
    text = (
        f"{counted(records, 'record')} went to {resource} by {key}, and the configuration names {config.resource} by "
        f"{config.key}. Set it back, or `sync-assets sync --accept-mapping`: {config.resource} is listed, the records "
        f"that it lacks by {config.key} are sent as new ones, one engine call each{linked}; those in {resource} that "
        f"carry {key} stay as they are"
    )
    return Finding(check, False, text, numbers={"records": records, "links": links})
