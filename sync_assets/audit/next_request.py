"""Foresee the next request for a record to Campaign, from the facts about it. Pure."""

from __future__ import annotations

from sync_assets.audit.record_facts import RecordFacts
from sync_assets.ledger.model import Operation, State

KEPT_BACK = (State.HELD, State.EXCLUDED, State.ORPHANED)


def next_request(facts: RecordFacts) -> Operation | None:
    """Return the operation that the next sync needs for the record; None if none.

    It may still have to wait for its parents. What the capture would find is foreseen from the row as it is now.
    """
    stored, ready = facts.stored, facts.ready
    if facts.held_since or (stored and stored.state in KEPT_BACK):
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
