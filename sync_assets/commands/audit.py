"""`audit`: list each resource, compare it with Dynamics 365 as mapped now, and let differences be repaired."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Annotated

import msgspec
import typer

from sync_assets.audit.audit_result import AuditResult, SomeRecords, agreement, opt_outs_agree
from sync_assets.audit.record_audit import OptOuts, audit_table
from sync_assets.commands import terminal
from sync_assets.commands.terminal import Json, Parts, TablesOption, number_table
from sync_assets.commands.values import check_tables
from sync_assets.config.models import Config, TableConfig
from sync_assets.config.values import CONTACT
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.pkeys import ListedKeys
from sync_assets.words import counted

SHOWN = ("records", "compared", "equal", "in_step_but_for", "differing", "missing", "hidden", "several", "without_row")
"""The numbers of a table, in the order of display; then those left out and repaired, and the reads."""


class AuditDocument(msgspec.Struct):
    """The document of `audit --json`, by table. engine_calls: of this invocation. problems: of the tables."""

    tables: dict[str, AuditResult]
    engine_calls: dict[str, int]
    problems: list[str]


def command(
    table: TablesOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make records pending that differ or are missing in Campaign.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List each resource in Campaign, 500 records a call, and compare it with Dynamics 365 as mapped now. Writes to
    neither system. May be killed and repeated.
    """
    runtime = terminal.open_runtime()
    with terminal.on_interrupt("Nothing is lost."), terminal.progress(runtime.progress):
        document = audit(runtime, table or [], repair=repair)
    terminal.print_document(document, as_json, show)
    found = {name: result for name, result in document.tables.items() if not result.is_equal}
    if document.problems:
        terminal.end(1, "\n".join(document.problems))
    if found:
        terminal.end(
            2, f"Campaign differs in {', '.join(found)}.", " ".join(_remedies([*found.values()], repair=repair))
        )


def _remedies(found: Sequence[AuditResult], *, repair: bool) -> Iterator[str]:
    """Yield a sentence for each kind of what was found. repair: the audit repaired."""
    if any(one.repaired or (repair and one.opt_outs_wrong) for one in found):
        yield "`sync-assets sync` sends what is pending now."
    elif any(one.differing or one.missing.records or one.opt_outs_wrong for one in found):
        yield "`sync-assets audit --repair` makes pending what differs or is missing."
    if any(one.hidden.records for one in found):
        yield (
            "A parent that is inserted again has another PKey, so records that lost it stay hidden: publish the link "
            "with cardinality 0 or 1, then repair again."
        )
    if any(one.several.records for one in found):
        yield "Merge in Campaign the records that have one id."


def audit(runtime: Runtime, only: Sequence[str] = (), *, repair: bool = False) -> AuditDocument:
    """Audit all mapped tables, or `only`, parents first."""
    check_tables(runtime.config, only)
    runtime.settings.require("d365", "campaign")
    runtime.access.check_not_older()
    if runtime.access.missing:
        raise SyncAssetsError(runtime.access.missing)
    document = AuditDocument({}, {}, [])
    with closing(ListedKeys()) as keys:  # the PKeys of all tables of this invocation
        for config in runtime.config.in_link_order:
            if config.table in only or not only:
                opt_outs = opt_outs_of(runtime.config, runtime.ledger, config)
                try:
                    audited = audit_table(runtime, config, keys, "repair" if repair else "audit", None, opt_outs)
                    document.tables[config.table] = interruptible.run(audited)
                except SyncAssetsError as error:
                    document.problems.append(f"{config.table}: {error}")
    document.engine_calls = dict(runtime.clients.calls)
    return document


def opt_outs_of(overall: Config, ledger: Ledger, config: TableConfig) -> OptOuts | None:
    """Return what compares the opt-outs of a table; None if it has none, or they are not synchronised."""
    if config.table != CONTACT or overall.opt_out.direction == "disabled":
        return None
    # Imported only if needed: installations without opt-outs need not wait, as each run loads this anew.
    from sync_assets.opt_out.parity import Parity  # noqa: PLC0415

    return partial(Parity, overall, ledger)


def show(document: AuditDocument) -> Parts:
    """Show the numbers, then a sentence for each table with differences."""
    tables = {name: result.numbers for name, result in document.tables.items()}
    if tables:
        yield number_table("table", (*SHOWN, "left_out", "repaired", "campaign_reads", "d365_reads"), tables)
    for name, result in document.tables.items():
        findings = [agreement(name, result)]
        findings += [opt_outs_agree(result)] if result.opt_outs_compared else []
        yield from (f"{name}: {one.message}" for one in findings if not one.passed or result.in_step_but_for)
        if result.missing_not_known:
            yield f"{name}: Campaign does not sort the list, so which records are missing is not known yet."
        if rejected := result.left_out.get("rejected"):
            yield (
                f"{name}: {counted(rejected, 'rejected record', 'are')} not compared; Campaign may hide some. "
                f"`sync-assets rejects {name}` shows the reasons."
            )
        for title, some in _named(result).items():
            if some.ids:
                yield f"  {title}: {', '.join(some.ids)}{', …' if some.records > len(some.ids) else ''}"


def _named(result: AuditResult) -> dict[str, SomeRecords]:
    kinds = {"missing": result.missing, "hidden": result.hidden, "several records in Campaign": result.several}
    return {**result.attributes, **result.opt_outs, **kinds, "without a row in scope": result.without_row}
