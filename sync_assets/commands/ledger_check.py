"""`doctor --ledger`: compare the ledger with its own rules, as after a restore. Writes nothing, asks neither system."""

from functools import partial

import msgspec

from sync_assets.commands.terminal import Parts, on_interrupt, progress
from sync_assets.ledger import Ledger
from sync_assets.ledger.report_values import Inconsistency
from sync_assets.runtime.progress import Progress
from sync_assets.words import counted

ACTIVITY = "checking the ledger"
REMEDY = (
    "Stop the runs, keep this ledger for a report of the defect, and go on with an earlier copy or an empty one: "
    "`sync-assets rebuild` compares it with both systems."
)


class LedgerCheck(msgspec.Struct, frozen=True):
    """The document of `doctor --ledger --json`. records: the number of all that the ledger has."""

    records: int
    contradictions: list[Inconsistency]


def check_ledger(ledger: Ledger, shown: Progress) -> LedgerCheck:
    """Return the number of records, and by table what contradicts the rules; no ids. An older copy is checked, too."""
    counts = ledger.reports.counts()
    records = sum(table.records for table in counts.values())
    shown.expect(ACTIVITY, records)
    with on_interrupt("Nothing was written."), progress(shown):
        found = ledger.check(partial(shown, ACTIVITY))
    return LedgerCheck(records, found)


def show_check(document: LedgerCheck) -> Parts:
    """Show a line for each contradiction."""
    records = counted(document.records, "record")
    if not document.contradictions:
        yield f"The ledger agrees with its rules: {records}, their totals and all rows that belong to them."
    for one in document.contradictions:
        numbers = f" (seq {', '.join(map(str, one.seqs))})" if one.seqs else ""
        yield f"{one.table}: {one.rows:,} {one.problem}{numbers}"
