"""Explain one record of one table as plain data, ready for JSON: what each part of its way holds, and whether it is in
step.

Invariant: without `show_values`, no part of a value of either system is in the result, only its shape. Ids are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sync_assets.audit.next_request import next_request
from sync_assets.audit.record_agreement import STATE_WORDS, Agreement, Reason, agreement, rejection
from sync_assets.audit.record_facts import RecordFacts
from sync_assets.audit.value_comparison import differing
from sync_assets.audit.value_shape import value_shape
from sync_assets.campaign.dialect import moment
from sync_assets.dataverse.metadata import MODIFIED
from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.report_values import WAITING_FOR
from sync_assets.ledger.repositories.stored_records import RelatedState, StoredRecord
from sync_assets.ledger.times import iso
from sync_assets.mapping.attribute_steps import value_at

Show = Callable[[Any], Any]
"""Returns a value as it is shown: its shape, or itself."""
Section = dict[str, Any]
"""A section of the explanation, in the keys of `explain --json`."""


def explanation(facts: RecordFacts, *, show_values: bool = False, more: Sequence[Reason] = ()) -> Section:
    """Explain a record.

    Args:
        facts: as collected.
        show_values: True to show values, for the terminal only; else their shapes.
        more: further reasons for the conclusion, of opt-outs.

    Returns:
        The explanation in the keys of `explain --json`. differs: attributes and links in which Campaign's record
            differs. next_sync: the request that the next sync needs.
    """
    show: Show = _itself if show_values else value_shape
    links = _links(facts)
    in_payload = _differing(facts)
    once = (
        {one.target.attribute.path for one in facts.mapped.steps if not one.target.apply_updates}
        if facts.mapped
        else ()
    )
    left_out = {*once, *facts.refused_in_updates}
    differs = [path for path in in_payload if path not in left_out] if facts.passes else []
    differs += [link["attribute"] for link in links if link["equal"] is False and link["attribute"] not in differs]
    concluded: Agreement = agreement(facts, differs, more)
    return {
        "table": facts.config.table,
        "resource": facts.config.resource,
        "in_step": concluded.in_step,
        "reasons": list(concluded.reasons),
        "d365": _row(facts),
        "filter": _filter(facts, show),
        "validation_error": facts.mapped.error if facts.mapped else None,
        "attributes": _attributes(facts, show, in_payload),
        "ledger": _ledger(facts, facts.stored) if facts.stored else None,
        "links": links,
        "children": _children(facts.stored),
        "campaign": _campaign(facts),
        "differs": differs,
        "next_sync": next_request(facts),
        "problem": facts.problem,
    }


def _itself(value: Any) -> Any:
    return value


def _differing(facts: RecordFacts) -> list[str]:
    if facts.ready is None or facts.mapped is None or facts.campaign.presence != "found":
        return []
    return differing(facts.mapped.payload, facts.campaign.record, facts.ready.resource)


def _row(facts: RecordFacts) -> Section:
    """The row in Dynamics 365. found: None if it could not be read."""
    if facts.row is None:
        return {"found": None, "modified_at": None}
    return {"found": facts.has_row, "modified_at": facts.row[MODIFIED].item() if facts.has_row else None}


def _filter(facts: RecordFacts, show: Show) -> Section | None:
    """The filter. passes, met: None without a row."""
    if facts.ready is None or facts.ready.mapping.row_filter is None:
        return None
    row_filter = facts.ready.mapping.row_filter
    met = list(facts.rules_met) or [None] * len(row_filter.rules)
    # A rule that the row meets, or does not, says something of the row's value, so its own are shown like those.
    rules = [
        {"field": rule.column.name, "operator": rule.operator, "values": list(map(show, rule.values)), "met": one}
        for rule, one in zip(row_filter.rules, met, strict=True)
    ]
    return {
        "passes": facts.passes,
        "match": row_filter.match,
        "delete_filtered_out": row_filter.delete_filtered_out,
        "rules": rules,
    }


def _attributes(facts: RecordFacts, show: Show, differing_paths: Sequence[str]) -> list[Section]:
    """The way of each column to its attribute.

    cut_from: characters before the text was truncated; None if it was not. equal: None if one side is missing.
    """
    if facts.ready is None:
        return []
    found = facts.campaign.presence == "found"
    steps = {one.target.attribute.path: one for one in facts.mapped.steps} if facts.mapped else {}
    ways: list[Section] = []
    for one in facts.ready.mapping.fields:
        path, step = one.attribute.path, steps.get(one.attribute.path)
        held = value_at(facts.campaign.record, path) if found else None
        ways.append(
            {
                "attribute": path,
                "column": one.column.name,
                "conversion": one.conversion,
                "apply_updates": one.apply_updates,
                "replaced": step.replaced if step else None,
                "cut_from": step.cut_from if step else None,
                "d365": show(step.source) if step else None,
                "mapped": show(step.mapped) if step else None,
                "campaign": show(held) if found else None,
                "equal": path not in differing_paths if step and found else None,
            }
        )
    return ways


def _links(facts: RecordFacts) -> list[Section]:
    """The links to parents. id: in Dynamics 365. campaign: the id that Campaign's record is linked to."""
    stored = {link.attribute: link for link in facts.stored.links} if facts.stored else {}
    parents = facts.mapped.links if facts.mapped else {}
    shown: list[Section] = []
    for configured in facts.config.links:
        name, known = configured.to, stored.get(configured.to)
        id_ = parents.get(name) if facts.mapped else known.id if known else None
        joined = configured.style == "join"
        held = facts.campaign.record.get(name) if joined else None
        linked = (str(held).lower() if held else None) if joined else facts.campaign.linked.get(name)
        parent = known.parent if known and known.id == id_ else None
        wanted = id_ if joined or (known and known.wanted) else None
        comparable = facts.campaign.presence == "found" and known is not None and facts.passes is True
        shown.append(
            {
                "attribute": name,
                "table": configured.table,
                "id": id_,
                "required": configured.cardinality == "one",
                "state": STATE_WORDS[parent.state] if parent else None,
                "reason": _reason(parent) if parent else None,
                "acknowledged": bool(known and known.acknowledged),
                "campaign": linked,
                # A link to a record without our id is set, and leads elsewhere.
                "equal": (linked == wanted and (linked is not None or name not in facts.campaign.linked))
                if comparable
                else None,
            }
        )
    return shown


def _ledger(facts: RecordFacts, stored: StoredRecord) -> Section:
    """The record in the ledger. next_request: insert, update or delete, if one is due."""
    due = stored.state in (State.PENDING, State.WAITING)
    waits = stored.state == State.WAITING
    outcome = (
        "unknown"
        if stored.outcome_unknown
        else "rejected"
        if stored.state == State.FAILED and stored.attempts
        else "failed"
        if stored.attempts and stored.reason
        else "acknowledged"
        if stored.acked_hash is not None
        else "none"
    )
    return {
        "state": STATE_WORDS[stored.state],
        "waiting_for": WAITING_FOR[stored.block_reason] if waits else None,
        "reason": facts.orphan_reason or rejection(stored),
        "since": _iso(stored.failed_since),
        "out_of_scope": stored.out_of_scope,
        "held_since": _iso(facts.held_since),
        "next_request": stored.operation if due else None,
        "changed_at": str(_iso(stored.changed_at)),
        "acknowledged_at": _iso(stored.acked_at),
        "attempts": stored.attempts,
        "last_outcome": outcome,
        "not_before": _iso(stored.not_before),
        "unknown_until": _iso(stored.unknown_until),
        "leased_until": _iso(stored.leased_until),
    }


def _children(stored: StoredRecord | None) -> Section:
    """The records that link to this one: the number of all by state, and the first of them."""
    if stored is None:
        return {"states": {}, "first": []}
    states = {STATE_WORDS[state]: number for state, number in sorted(stored.child_states.items())}
    first = [
        {"table": one.table, "id": one.id, "state": STATE_WORDS[one.state], "reason": _reason(one)}
        for one in stored.children
    ]
    return {"states": states, "first": first}


def _reason(one: RelatedState) -> str | None:
    if one.state == State.WAITING and one.block_reason != BlockReason.NONE:
        return f"waiting for {WAITING_FOR[one.block_reason]}"
    return one.reason


def _campaign(facts: RecordFacts) -> Section:
    """The record in Campaign."""
    answer = facts.campaign
    changed = _iso(moment(answer.record.get("lastModified")))
    return {"presence": answer.presence, "last_modified": changed, "reason": answer.reason}


def _iso(at: datetime | None) -> str | None:
    return iso(at) if at else None
