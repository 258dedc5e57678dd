"""`explain`: one record from end to end as a plain document; values masked unless they are asked for. Reads only.

The opt-outs of a contact are added here, since `audit` and `opt_out` do not import each other. The Dagster runs that
changed the record are added by defs/operations/record_runs.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sync_assets.audit.record_agreement import Reason
from sync_assets.audit.record_explanation import explanation
from sync_assets.audit.record_facts import RecordFacts, record_facts
from sync_assets.audit.value_shape import value_shape
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.metadata import MODIFIED
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import times
from sync_assets.ledger.times import iso
from sync_assets.operations.record_id import record_id
from sync_assets.operations.status import CALL_KINDS, unknown_tables
from sync_assets.opt_out.decide import without_value
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime

if TYPE_CHECKING:
    from sync_assets.opt_out.contact_opt_outs import ContactOptOut

IN_STEP, UNKNOWN, NOT_IN_STEP = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Explained:
    """The result of `explain`.

    document: what `explain --json` prints. moments: by table, when the ledger's record changed. status: of the command.
    problems: why the record is not, or not completely, explained.
    """

    document: dict[str, Any]
    moments: dict[str, list[datetime]]
    status: int
    problems: list[str]


def explain(runtime: Runtime, given: str, table: str | None = None, *, show_values: bool = False) -> Explained:
    """Explain the record with a D365 id, in each mapped table that has it.

    Args:
        runtime: of this process.
        given: the id, in any case, with or without braces.
        table: only this table; None for all.
        show_values: True to put values into the document, which then is for the terminal only.

    Raises:
        SyncAssetsError: the id is none, or the table is not mapped.
    """
    id_ = record_id(given, "`explain` needs a")
    if table and (error := unknown_tables(runtime, [table])):
        raise error
    config, before = runtime.config, runtime.calls.copy()
    tables = [config.table(table)] if table else list(config.tables)
    opt_outs = {CONTACT: list(config.opt_out.mappings)} if config.opt_out.active else {}
    found = interruptible.run(record_facts(runtime, id_, tables, opt_outs))
    known = [facts for facts in found if facts.known]
    explained = [_explained(runtime, facts, show_values) for facts in known]
    calls = runtime.calls - before
    document = {
        "id": id_,
        "in_step": _in_step([one["in_step"] for one, _ in explained]),
        "values": "shown" if show_values else "masked",
        "tables": {one["table"]: one for one, _ in explained},
        "engine_calls": {kind: calls[kind] for kind in CALL_KINDS},
    }
    problems = list(dict.fromkeys(_problems(id_, found, known, table)))
    status = UNKNOWN if document["in_step"] is None else IN_STEP if document["in_step"] else NOT_IN_STEP
    return Explained(document, {one["table"]: moments for one, moments in explained}, status, problems)


def _in_step(of_tables: list[bool | None]) -> bool | None:
    """Return None if the record is unknown or facts are missing, else whether it is in step in all tables."""
    return None if not of_tables or None in of_tables else all(of_tables)


def _problems(id_: str, found: list[RecordFacts], known: list[RecordFacts], table: str | None) -> Iterator[str]:
    for facts in known or found:
        yield from (problem for problem in (facts.problem, _unanswered(facts)) if problem)
    if not known and not any(facts.problem or _unanswered(facts) for facts in found):
        where = table or "any mapped table"
        yield str(
            SyncAssetsError(
                f"{id_} is unknown: neither Dynamics 365 nor Campaign nor the ledger has it in {where}.",
                "Check the id. A record that was deleted on both sides is purged from the ledger.",
            )
        )


def _unanswered(facts: RecordFacts) -> str | None:
    if facts.campaign.presence != "unanswered":
        return None
    return f"Campaign did not show whether it has the record of {facts.config.resource}: {facts.campaign.reason}"


def _explained(runtime: Runtime, facts: RecordFacts, show_values: bool) -> tuple[dict[str, Any], list[datetime]]:
    opt_outs = _opt_outs(runtime, facts)
    document = explanation(facts, show_values=show_values, more=list(map(_reason, _open(opt_outs))))
    document["opt_outs"] = [_shown(one, show_values) for one in opt_outs]
    document["decisions"] = opt_out_decisions(runtime, facts.id, show_values=show_values) if opt_outs else []
    document["runs"] = []
    stored = facts.stored
    moments = [at for at in (stored.changed_at, stored.acked_at, stored.failed_since) if at] if stored else []
    return document, moments


def _opt_outs(runtime: Runtime, facts: RecordFacts) -> list[ContactOptOut]:
    if facts.config.table != CONTACT or not runtime.config.opt_out.active:
        return []
    from sync_assets.opt_out.contact_opt_outs import contact_opt_outs  # noqa: PLC0415 - not where opt-outs are off

    stored = {row.attribute: row for row in runtime.ledger.opt_outs.of([facts.id])}
    row = facts.row.row(0, named=True) if facts.row is not None and facts.has_row else None
    modified = datetime.fromisoformat(row[MODIFIED]) if row and row[MODIFIED] else None
    profile = dict(facts.campaign.record) if facts.campaign.presence == "found" else None
    return contact_opt_outs(runtime.config, stored, row, modified, profile)


def _open(opt_outs: list[ContactOptOut]) -> Iterator[ContactOptOut]:
    """Yield the opt-outs in which the systems are not in step."""
    for one in opt_outs:
        if not one.settled or (one.now and one.now.write):
            yield one


def _reason(one: ContactOptOut) -> Reason:
    if not one.settled:
        why = f" ({one.stored.reason})" if one.stored and one.stored.reason else ""
        return Reason(False, f"The opt-out {one.attribute} is {one.state}{why}.")
    return Reason(
        False,
        f"The opt-out {one.attribute} differs, and the program has not heard of it: the next export file or poll "
        "brings Campaign's value.",
    )


def _shown(one: ContactOptOut, show_values: bool) -> dict[str, Any]:
    def show(value: bool | None) -> Any:
        return value if show_values else value_shape(value)

    stored = one.stored
    known = one.d365 is not None and one.campaign is not None
    return {
        "column": one.column,
        "attribute": one.attribute,
        "state": one.state,
        "reason": stored.reason if stored else None,
        "attempts": stored.attempts if stored else 0,
        "source": (stored.source or None) if stored else None,
        "d365": show(one.d365),
        "campaign": show(one.campaign),
        "campaign_changed_at": iso(one.changed_at) if one.changed_at else None,
        "last_stated_at": iso(times.from_micros(stored.stated_at)) if stored and stored.stated_at else None,
        "equal": bool(one.d365) == one.campaign if known else None,
        "would_write": one.now.write if one.now else None,
    }


def opt_out_decisions(runtime: Runtime, contact: str, *, show_values: bool) -> list[dict[str, Any]]:
    """Return the decisions about a contact's opt-outs, the newest first."""
    return [
        {
            "decided_at": iso(one.decided_at),
            "attribute": one.attribute,
            "value": one.value if show_values else value_shape(one.value),
            "write": one.write,
            "reason": one.reason if show_values else without_value(one.reason),
            "source": one.source,
        }
        for one in runtime.ledger.opt_out_decisions.of_contact(contact)
    ]
