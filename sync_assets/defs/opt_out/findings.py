"""The checks of the opt-out assets: their conditions, and their findings from numbers and times. Pure.

A finding of severity ERROR has `blocks` set.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sync_assets.config.models import Export
from sync_assets.ledger import Reject
from sync_assets.opt_out.pending_decisions import DecisionRun
from sync_assets.plurals import counted
from sync_assets.validation.export_folder import arrives, room
from sync_assets.validation.findings import Finding
from sync_assets.validation.opt_out_columns import OPT_OUT_CHECKS

if TYPE_CHECKING:
    from sync_assets.opt_out.export.folder import FolderPoll

READABLE, VALID = "the_file_can_be_read", "every_row_is_valid"
DECIDED, ACCEPTED = "everything_due_is_decided", "no_opt_out_is_refused"

FILE = {
    READABLE: "The file is whole, has its columns, and times.",
    VALID: "No row was left out because something is wrong with it.",
}
COLUMNS = {name: text for name, (_, text) in OPT_OUT_CHECKS.items()}
ALL_DECIDED = {DECIDED: "Campaign could be asked where it has to be."}
ALL_ACCEPTED = {ACCEPTED: "No opt-out is rejected."}
"""Checks by name, each with the condition under which it passes."""


def decided(deciding: DecisionRun) -> Finding:
    """Return the finding that fails if Campaign did not answer for some contacts. Other decisions are written."""
    text = "Everything that was due is decided."
    if deciding.unanswered:
        text = f"Campaign could not be asked about {counted(deciding.unanswered, 'contact')}; these opt-outs stay due."
        text = f"{text} {deciding.problem or ''}".strip()
    return Finding(DECIDED, not deciding.unanswered, text, numbers={"unanswered": deciding.unanswered}, blocks=False)


def accepted(refused: Sequence[Reject]) -> Finding:
    """Return the finding that fails while an opt-out is rejected. The others go on."""
    text = ALL_ACCEPTED[ACCEPTED]
    if refused:
        text = (
            f"{counted(len(refused), 'opt-out', 'are')} rejected. See `sync-assets rejects`; put right what is wrong, "
            "then `sync-assets retry contact`."
        )
    return Finding(ACCEPTED, not refused, text, numbers={"refused": len(refused)}, blocks=False)


def watch_findings(export: Export, seen: FolderPoll, now: datetime) -> list[Finding]:
    """Return the findings about the export file and the SFTP server for a poll of the folder."""
    return [arrives(export, seen.newest, now, seen.passed_over), room(export, seen.storage, seen.troubles)]
