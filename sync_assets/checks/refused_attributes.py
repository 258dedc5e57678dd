"""The attributes of a table that Campaign refuses in updates, and the records that are in step but for them."""

from collections.abc import Sequence

from sync_assets.campaign.addressing import among
from sync_assets.checks import rules
from sync_assets.checks.rules import Finding
from sync_assets.config.models import TableConfig
from sync_assets.ledger import Ledger
from sync_assets.ledger.report_values import ButFor
from sync_assets.mapping.refusable import updated_paths
from sync_assets.words import counted


def refused_attributes(ledger: Ledger, config: TableConfig) -> list[str]:
    """Return the attributes of a table that no update changes, contrary to its mapping: Campaign refuses them there."""
    return among(updated_paths(config), ledger.dialect.facts(config.resource))


def in_step_but_for(ledger: Ledger, config: TableConfig) -> ButFor:
    """Count the records of a table that are in step but for such attributes."""
    return ledger.reports.but_for(config.table) if refused_attributes(ledger, config) else ButFor()


def refused_updates(table: str, attributes: Sequence[str], but_for: ButFor) -> str:
    """Return the sentence on the attributes of a table that no update changes."""
    named, text = ", ".join(attributes), ""
    if but_for.records:
        text += f" {counted(but_for.records, 'record', 'are')} in step but for {named}."
    if but_for.not_known:
        unknown = counted(but_for.not_known, "record")
        text += f" Of {unknown} that is not known, until `sync-assets audit` compares them."
    if text:
        text += f" `sync-assets rejects {table} --refused-attributes` lists them."
    return (
        f"{table}: Campaign takes no update of {named}: sent when a record is created, never changed afterwards.{text} "
        f"`apply_updates: false` in the mapping saves the calls for their changes. Once Campaign takes them, "
        f"`sync-assets replay {table} --force` tries again and sends all."
    )


def refused_finding(table: str, attributes: Sequence[str], but_for: ButFor) -> Finding:
    """Return the finding that fails while a record is in step but for attributes that Campaign refuses."""
    differ = bool(but_for.records or but_for.not_known)
    numbers = {"in_step_but_for": but_for.records, "not_known": but_for.not_known}
    return rules.BUT_FOR.finding(not differ, refused_updates(table, attributes, but_for) if differ else "", numbers)
