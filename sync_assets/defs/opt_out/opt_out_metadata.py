"""Build the metadata of the opt-out assets' definitions: columns, lineage, code references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from sync_assets.config.models import Config
from sync_assets.config.values import CHANGED_SUFFIX, CONTACT
from sync_assets.defs.asset_keys import DECISIONS, EXPORT, d365_key
from sync_assets.defs.tables import asset_metadata
from sync_assets.opt_out.export.cells import good_schema

_OF_A_DECISION = [
    dg.TableColumn("contact", "string", "the contact's id"),
    dg.TableColumn("column", "string", "the column of contact"),
    dg.TableColumn("attribute", "string", "the opt-out attribute of its profile"),
    dg.TableColumn("d365", "boolean", "opted out, as Dynamics 365 has it"),
    dg.TableColumn("d365_modified", "datetime", "when the contact was last modified"),
    dg.TableColumn("campaign", "boolean", "opted out, as Campaign has it"),
    dg.TableColumn("campaign_changed", "datetime", "when Campaign's attribute changed"),
    dg.TableColumn("value", "boolean", "what both sides are to hold"),
    dg.TableColumn("write", "string", "the side that is written; empty: they agree"),
    dg.TableColumn("reason", "string", "why"),
    dg.TableColumn("source", "string", "what caused the decision"),
    dg.TableColumn("decided_at", "datetime", "when it was decided"),
]


def export(config: Config, function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the definition metadata of campaign/opt_out_export. function: that does the asset's work."""
    texts = {"line": "of the file", "id": "the contact's id"}
    for one in config.opt_out.mappings.values():
        texts |= {one.to: "opted out, as the file states it", f"{one.to}{CHANGED_SUFFIX}": "when that changed"}
    types = good_schema(tuple(dict.fromkeys(config.opt_out.attributes)))
    columns = [dg.TableColumn(name, _type(types[name]), description=text) for name, text in texts.items()]
    return _page(config, function, columns, {})


def decisions(config: Config, function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the definition metadata of opt_out/decisions.

    Each row is one opt-out, so its columns come from all mapped attributes of the file.
    """
    stated = config.opt_out.attributes
    deps = {
        "contact": [dg.TableColumnDep(EXPORT, "id")],
        "campaign": [dg.TableColumnDep(EXPORT, to) for to in stated],
        "campaign_changed": [dg.TableColumnDep(EXPORT, f"{to}{CHANGED_SUFFIX}") for to in stated],
    }
    return _page(config, function, _OF_A_DECISION, deps)


def changes(config: Config, function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the definition metadata of opt_out/changes.

    Its rows are decisions as well. Campaign's values come from its API, so from no asset.
    """
    deps: dict[str, list[dg.TableColumnDep]] = {}
    if config.opt_out.direction == "bidirectional":
        contact = d365_key(config.table(CONTACT))
        deps["d365"] = [dg.TableColumnDep(contact, name) for name in config.opt_out.mappings]
    return _page(config, function, _OF_A_DECISION, deps)


def contact_opt_out(config: Config, function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the definition metadata of d365/contact_opt_out."""
    texts = {
        name: f"as decided of {one.to}" + ("; true means allow" if one.inverted else "")
        for name, one in config.opt_out.mappings.items()
    }
    return _written(config, function, texts) | {"dagster/table_name": CONTACT}


def profile_opt_out(config: Config, function: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the definition metadata of campaign/profile_opt_out."""
    texts = {one.to: f"as decided of {name}" for name, one in config.opt_out.mappings.items()}
    return _written(config, function, texts) | {"dagster/table_name": config.table(CONTACT).resource}


def _type(kind: object) -> str:
    """Return the name of a Polars type as Dagster's icons need it: `datetime`, without unit and time zone."""
    return str(kind).partition("(")[0].lower()


def _written(config: Config, function: Callable[..., Any], texts: Mapping[str, str]) -> dict[str, Any]:
    columns = [dg.TableColumn(name, "boolean", description=text) for name, text in texts.items()]
    deps = {name: [dg.TableColumnDep(DECISIONS, "value")] for name in texts}
    return _page(config, function, columns, deps)


def _page(
    config: Config,
    function: Callable[..., Any],
    columns: list[dg.TableColumn],
    deps: Mapping[str, list[dg.TableColumnDep]],
) -> dict[str, Any]:
    page: dict[str, Any] = {
        asset_metadata.SCHEMA: dg.TableSchema(columns),
        **asset_metadata.code(config, function, "opt_out"),
    }
    return page | ({asset_metadata.LINEAGE: dg.TableColumnLineage(deps)} if deps else {})
