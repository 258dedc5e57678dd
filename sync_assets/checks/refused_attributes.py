"""The attributes of a table that Campaign refuses in updates, and the records that are in step but for them."""

from collections.abc import Sequence

from sync_assets.campaign.addressing import among
from sync_assets.checks import rules
from sync_assets.checks.rules import Finding
from sync_assets.config.models import Config, TableConfig
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


def refused_updates(table: str, attributes: Sequence[str], but_for: ButFor, by_file: Sequence[str] = ()) -> str:
    """Return the sentence on the attributes of a table that no update changes. by_file: those that a file brings."""
    named, text = ", ".join(attributes), ""
    if but_for.records:
        text += f" {counted(but_for.records, 'record', 'are')} in step but for {named}."
    if but_for.not_known:
        unknown = counted(but_for.not_known, "record")
        text += f" {unknown} may differ in {named}: `sync-assets audit` compares them."
    if text:
        text += f" `sync-assets rejects {table} --refused-attributes` lists them."
    first = f"{table}: Campaign takes no update of {named}"
    if len(by_file) == len(attributes):
        return f"{first} by REST: the files of `bulk_load.updates` bring its changes, one a day.{text}"
    if by_file:
        text += f" The files of `bulk_load.updates` bring {', '.join(by_file)}, one a day."
    text += " `apply_updates: false` in the mapping saves the calls for their changes. Once Campaign takes them,"
    first += ": sent when a record is created, never changed afterwards"
    return f"{first}.{text} `sync-assets replay {table} --force` tries again and sends all."


def updates_text(overall: Config, ledger: Ledger, config: TableConfig) -> str | None:
    """Return the sentence on the attributes of a table that no update changes; None if there is none."""
    if not (refused := refused_attributes(ledger, config)):
        return None
    by_file = overall.bulk_load.updated(config.table, refused) if overall.bulk_load else ()
    return refused_updates(config.table, refused, in_step_but_for(ledger, config), by_file)


def refused_finding(table: str, attributes: Sequence[str], but_for: ButFor, by_file: Sequence[str] = ()) -> Finding:
    """Return the finding that fails while a record is in step but for attributes that Campaign refuses."""
    differ = bool(but_for.records or but_for.not_known)
    numbers = {"in_step_but_for": but_for.records, "not_known": but_for.not_known}
    text = refused_updates(table, attributes, but_for, by_file) if differ else ""
    return rules.BUT_FOR.finding(not differ, text, numbers)
