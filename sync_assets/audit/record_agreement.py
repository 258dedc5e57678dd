"""Conclude from the facts about a record whether both systems are in step, why not, and what the next sync sends. Pure.

In step: nothing is left to do, and Campaign holds what the mapping makes of the row. A record that is out of scope is
in step, too: that is what the configuration demands of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from sync_assets.audit.record_facts import RecordFacts
from sync_assets.dataverse.metadata import MODIFIED
from sync_assets.ledger.model import BlockReason, Operation, State
from sync_assets.ledger.report_values import WAITING_FOR
from sync_assets.ledger.repositories.stored_records import RelatedState, StoredRecord
from sync_assets.ledger.times import clock, iso
from sync_assets.plurals import counted

STATE_WORDS = {
    State.SYNCED: "synced",
    State.PENDING: "pending",
    State.WAITING: "waiting",
    State.FAILED: "rejected",
    State.HELD: "held",
    State.ORPHANED: "orphaned",
    State.EXCLUDED: "excluded",
    State.UNCONFIRMED: "synced",
    State.TOMBSTONE: "deleted",
}
"""The states of a record as shown to users."""

_ON_ITS_WAY = "`sync-assets sync` or the sensors capture it."


class Reason(NamedTuple):
    """One sentence of a conclusion. in_step: True if it does not prevent the systems from being in step."""

    in_step: bool
    text: str


def agreement(facts: RecordFacts, differs: Sequence[str], more: Sequence[Reason] = ()) -> tuple[bool | None, list[str]]:
    """Return whether both systems are in step, None if facts are missing, and the reasons.

    Args:
        facts: about the record.
        differs: attributes in which Campaign's record differs from what the mapping makes of the row.
        more: further reasons, of opt-outs.
    """
    reasons = [*_of_ledger(facts), *(() if facts.problem else _of_systems(facts, differs)), *more]
    unanswered = None if facts.campaign.presence == "several" else facts.campaign.reason
    missing = [text for text in (facts.problem, unanswered) if text]
    texts = [reason.text for reason in reasons] + missing
    in_step = None if missing else all(reason.in_step for reason in reasons)
    return in_step, texts or ["Both systems are in step."]


def _of_ledger(facts: RecordFacts) -> Iterator[Reason]:
    stored = facts.stored
    if facts.held_since:
        since = iso(facts.held_since)
        yield Reason(False, f"Held: a privacy hold since {since}. Nothing about it is written to either system.")
    if stored is None:
        return
    if stored.deletion_collected:
        yield Reason(
            False,
            "Its deletion was captured and is not carried out yet: at the end of the read, or after `sync-assets "
            f"approve-deletes {stored.table}` if the guard holds it back.",
        )
    match stored.state:
        case State.PENDING:
            yield Reason(False, _pending(stored))
        case State.WAITING:
            yield Reason(False, f"Waiting for {WAITING_FOR[stored.block_reason]}.")
            yield from _blocking(stored)
        case State.FAILED:
            yield Reason(False, f"Rejected: {rejection(stored) or 'no reason is stored'}.")
        case State.ORPHANED:
            yield Reason(False, f"Orphaned: {facts.orphan_reason or 'a parent that it needs is gone for good'}.")
        case State.EXCLUDED:
            yield Reason(
                False, "Excluded: it belongs to a person who had been deleted when the privacy hold was released."
            )
        case State.UNCONFIRMED | State.TOMBSTONE:
            yield _unconfirmed(stored, there=facts.campaign.presence in ("found", "several"))
        case State.HELD if not facts.held_since:
            yield Reason(False, "Held: it belongs to a person under a privacy hold.")
        case _:
            pass


def _unconfirmed(stored: StoredRecord, *, there: bool) -> Reason:
    deleted = stored.state == State.TOMBSTONE
    again = "Deleted in Campaign; it is deleted" if deleted else "Acknowledged; it is sent"
    at = clock(stored.unknown_until) if stored.unknown_until else "once"
    text = f"{again} once more at {at}, since an earlier request got no answer and may take effect until then."
    return Reason(not (deleted and there), text)


def rejection(stored: StoredRecord) -> str | None:
    """Return why the record was rejected, or why its last request failed; None if neither."""
    by_campaign = stored.row_error is None or stored.attempts > 0
    return (stored.reason if by_campaign else stored.row_error) or stored.row_error


def _pending(stored: StoredRecord) -> str:
    text = f"Pending: the {stored.operation} is to be sent."
    if stored.attempts and stored.reason:
        since = f" since {clock(stored.failed_since)}" if stored.failed_since else ""
        text += f" {counted(stored.attempts, 'request')} got no answer that names a cause{since}: {stored.reason}."
    if stored.not_before and stored.not_before > datetime.now(UTC):
        text += f" The next one is sent at {clock(stored.not_before)}."
    return text


def _blocking(stored: StoredRecord) -> Iterator[Reason]:
    """Yield the parents or children that a waiting record waits for."""
    if stored.block_reason == BlockReason.CHILDREN_PENDING:
        for child in stored.children:
            yield Reason(False, f"Its child {described(child)}.")
    if stored.block_reason not in (BlockReason.PARENT_PENDING, BlockReason.PARENT_UNAVAILABLE):
        return
    for link in stored.links:
        if link.id is None or link.wanted:
            continue
        if link.parent is None:
            yield Reason(False, f"Its parent {link.table} {link.id} is not in the ledger: it was not captured.")
        else:
            yield Reason(False, f"Its parent {described(link.parent)}.")


def described(one: RelatedState) -> str:
    """Return a parent or child in words: table, id, state, reason."""
    why = f" ({one.reason})" if one.reason and one.state in (State.FAILED, State.PENDING) else ""
    return f"{one.table} {one.id} is {STATE_WORDS[one.state]}{why}"


def _of_systems(facts: RecordFacts, differs: Sequence[str]) -> Iterator[Reason]:
    stored, presence = facts.stored, facts.campaign.presence
    resource = facts.config.resource
    if presence == "several":
        yield Reason(False, f"Several records of {resource} carry this {facts.config.key}: merge them in Campaign.")
    if not facts.has_row:
        yield from _without_row(facts)
    elif not facts.passes:
        yield from _filtered_out(facts)
    elif stored is None:
        yield Reason(False, f"The row is in scope and was not captured yet. {_ON_ITS_WAY}")
    elif stored.out_of_scope or stored.desired_hash is None:
        yield Reason(False, f"The row came into scope again, and that was not captured yet. {_ON_ITS_WAY}")
    elif facts.mapped and stored.desired_hash != facts.mapped.hash:
        yield Reason(False, f"The row or the mapping changed since the last capture. {_ON_ITS_WAY}")
    acknowledged = (State.SYNCED, State.UNCONFIRMED)
    synced = stored is not None and stored.state in acknowledged and not stored.out_of_scope
    once = synced and facts.has_row and next_request(facts) is None  # the next sync sends others anyway
    again = f" `{_replay(facts)}` sends it again." if once else ""
    if presence == "missing" and synced and facts.has_row:
        yield Reason(False, f"Campaign acknowledged the record and does not have it: it was deleted there.{again}")
    if differs:
        yield Reason(False, f"Campaign's record differs in {', '.join(differs)}.{again}")


def _replay(facts: RecordFacts) -> str:
    """Return the command that sends the row again, with the others that were last modified on its day."""
    day = str(facts.row[MODIFIED].item() or "")[:10] if facts.row is not None else ""
    days = f" --from {day} --to {day}" if day else ""
    return f"sync-assets replay {facts.config.table}{days} --force"


def _without_row(facts: RecordFacts) -> Iterator[Reason]:
    stored, presence = facts.stored, facts.campaign.presence
    there = presence in ("found", "several")
    if stored is None:
        if there:
            yield Reason(
                False,
                "Only Campaign has it: Dynamics 365 has no such row, and the program leaves a record unchanged that "
                "its ledger does not have.",
            )
    elif stored.desired_hash is None or stored.deletion_collected:
        return  # a pending delete, or one that waits: the ledger's state tells
    elif stored.out_of_scope:
        kept = "Campaign keeps its record" if there else "Campaign has no record of it either"
        yield Reason(True, f"Out of scope: Dynamics 365 has no such row any more, and {kept}.")
    else:
        yield Reason(False, f"The row was deleted in Dynamics 365, and that was not captured yet. {_ON_ITS_WAY}")


def _filtered_out(facts: RecordFacts) -> Iterator[Reason]:
    stored, there = facts.stored, facts.campaign.presence in ("found", "several")
    row_filter = facts.ready.mapping.row_filter if facts.ready else None
    rules = row_filter.rules if row_filter else ()
    missed = [
        f"rule {number} (`{rule.column.name}` {rule.operator})"
        for number, (rule, met) in enumerate(zip(rules, facts.rules_met, strict=True), 1)
        if not met
    ]
    deletes = bool(row_filter and row_filter.delete_filtered_out)
    told = f"Filtered out: the row does not meet {', '.join(missed)} of the table's filter"
    if stored is None:
        kept = "; Campaign has a record that the program leaves unchanged" if there else ""
        yield Reason(not (there and deletes), f"{told}{kept}.")
    elif stored.out_of_scope:
        kept = "Campaign keeps its record" if there else "Campaign has no record of it"
        yield Reason(True, f"{told}; {kept}.")
    elif stored.desired_hash is None or stored.deletion_collected:
        yield Reason(False, f"{told}; Campaign's record is to be deleted.")
    else:
        yield Reason(False, f"{told}, and that was not captured yet. {_ON_ITS_WAY}")


def next_request(facts: RecordFacts) -> Operation | None:
    """Return the operation that the next sync needs for the record; None if none.

    It may still have to wait for its parents. What the capture would find is foreseen from the row as it is now.
    """
    stored, ready = facts.stored, facts.ready
    if facts.held_since or (stored and stored.state in (State.HELD, State.EXCLUDED, State.ORPHANED)):
        return None
    if ready is None or facts.row is None:
        return stored.operation if stored and stored.state in (State.PENDING, State.WAITING) else None
    sent = stored is not None and (stored.acked_hash is not None or stored.outcome_unknown)
    if not facts.has_row or not facts.passes or facts.mapped is None:
        row_filter = ready.mapping.row_filter
        deletes = (
            facts.config.apply_deletes if not facts.has_row else bool(row_filter and row_filter.delete_filtered_out)
        )
        # A record that is out of scope already stays in Campaign, also if deletions are applied since.
        return "delete" if sent and deletes and stored and not stored.out_of_scope else None
    if facts.mapped.error:
        return None
    if stored is None or stored.acked_hash is None:
        return None if stored and _is_rejected(facts) else "insert"
    changed = facts.mapped.hash != stored.acked_hash or stored.state in (State.PENDING, State.WAITING)
    return "update" if changed and not _is_rejected(facts) else None


def _is_rejected(facts: RecordFacts) -> bool:
    """Return True if Campaign rejected the row as it is: it is sent again after a retry only."""
    stored, mapped = facts.stored, facts.mapped
    return bool(stored and mapped and stored.state == State.FAILED and stored.desired_hash == mapped.hash)
