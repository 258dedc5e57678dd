"""`explain`: one record from end to end as a document: what each part of its way holds, and what differs.

Reads only. The Dagster runs that changed the record are added by defs/tables/run_requests.py, for the command
(cli/explain.py) and the job alike.

Invariant: without `show_values`, no part of a value of either system is in the document, only its shape. Ids are shown.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from sync_assets.audit.record_facts import Reason, RecordFacts, agreement, record_facts, rejection
from sync_assets.audit.value_comparison import differing
from sync_assets.campaign.dialect import moment
from sync_assets.commands import explanation
from sync_assets.commands.explanation import AttributeOfRecord, ExplainDocument, RecordOfTable
from sync_assets.commands.history import opt_out_decisions
from sync_assets.commands.status import CALL_KINDS
from sync_assets.commands.values import check_tables, record_id, value_shape
from sync_assets.config.models import Config
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.metadata import MODIFIED
from sync_assets.dataverse.page_parser import PageParser
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import BlockReason, State
from sync_assets.ledger.report_values import WAITING_FOR
from sync_assets.ledger.repositories.stored_records import RelatedState, StoredRecord
from sync_assets.mapping.attribute_steps import value_at
from sync_assets.opt_out.contact_opt_outs import ContactOptOut, contact_opt_outs
from sync_assets.runtime import interruptible
from sync_assets.runtime.clients import Clients
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import campaign_moved_at
from sync_assets.words import did_you_mean

MOST_ROWS = 100
"""The most rows of a table that `explain --where` lists."""
FORM = "{}/main.aspx?pagetype=entityrecord&etn={}&id={}"
"""The address of a row's form in Dynamics 365."""
Show = Callable[[Any], Any]
"""Returns a value as it is shown: its shape, or itself."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The document of `explain --json`, by table when the ledger's record changed, and why facts are missing."""

    document: ExplainDocument
    moments: dict[str, list[datetime]]
    problems: list[str]


def explain(runtime: Runtime, id_text: str, table: str | None = None, *, show_values: bool = False) -> Explanation:
    """Explain the record with a D365 id, in each mapped table that has it. Raises SyncAssetsError if the id is none.

    show_values: True to put values into the document, which then is for the terminal only.
    """
    id_ = record_id(id_text, "`explain` needs a")
    check_tables(runtime.config, [table])
    config = runtime.config
    tables = [config.table(table)] if table else list(config.tables)
    opt_outs = {CONTACT: list(config.opt_out.mappings)} if config.opt_out.active else {}
    all_facts, calls = interruptible.run(record_facts(runtime, id_, tables, opt_outs))
    known = [facts for facts in all_facts if facts.known]
    explained = {facts.config.table: _of_table(runtime, runtime.ledger, facts, show_values) for facts in known}
    in_step = [one.in_step for one in explained.values()]
    document = ExplainDocument(
        id_,
        None if not in_step or None in in_step else all(in_step),
        "shown" if show_values else "masked",
        explained,
        {kind: calls[kind] for kind in CALL_KINDS},
    )
    changed = {facts.config.table: facts.stored for facts in known if facts.stored}
    moments = {
        name: [at for at in (stored.changed_at, stored.acked_at, stored.failed_since) if at]
        for name, stored in changed.items()
    }
    problems: list[str] = []
    for facts in known or all_facts:
        problems += [facts.problem] if facts.problem else []
        if facts.presence == "unanswered":
            unknown = f"Campaign did not show whether it has the record of {facts.config.resource}"
            problems.append(f"{unknown}: {facts.reason}")
    if not known and not problems:
        where = table or "any mapped table"
        text = (
            f"{id_} is unknown: neither Dynamics 365 nor Campaign nor the ledger has it in {where}. Check the id. A "
            "record that was deleted on both sides is purged from the ledger."
        )
        problems.append(text)
    return Explanation(document, moments, list(dict.fromkeys(problems)))


def rows_where(clients: Clients, mapped: Config, condition: str, table: str | None = None) -> list[tuple[str, str]]:
    """Return (table, id) of the rows with a value, MOST_ROWS of each mapped table that has the column.

    condition: COLUMN=VALUE, as a user types it. The value is personal data, and is in no error.
    """
    check_tables(mapped, [table])
    name, equals, value = condition.partition("=")
    if not (name.isidentifier() and equals and value):
        raise SyncAssetsError("`--where` names no column with a value.", "Write e.g. emailaddress1=ada@example.org.")
    name, tables = name.lower(), [mapped.table(table)] if table else mapped.tables
    rows, columns = list[tuple[str, str]](), set[str]()

    async def ask() -> None:
        async with clients.d365() as d365:
            for config in tables:
                described = await d365.table(config.table, ())
                columns.update(described.columns)
                if name in described.columns:
                    parser, key = PageParser({described.key: "guid"}), described.key
                    async for head in d365.rows(described, [key], [value], size=MOST_ROWS, column=name):
                        rows.extend((described.name, id_) for id_ in parser.parse(head).rows[key])
                        break

    interruptible.run(ask())
    if name not in columns:
        raise SyncAssetsError(
            f"{table or 'No mapped table'} has {'no' if table else 'a'} column `{name}` in Dynamics 365.",
            f"Did you mean {closest}?" if (closest := did_you_mean(name, columns)) else "Write its logical name.",
        )
    return sorted(rows)


def _of_table(configuration: Configuration, ledger: Ledger, facts: RecordFacts, show_values: bool) -> RecordOfTable:
    """Return the record in one table, without its runs."""
    show: Show = (lambda value: value) if show_values else value_shape
    links, mapped, stored, opt_outs = list(_links(facts)), facts.mapped, facts.stored, list[tuple[ContactOptOut, str]]()
    if facts.config.table == CONTACT and configuration.config.opt_out.active:
        row = facts.row.row(0, named=True) if facts.row is not None and facts.has_row else None
        modified = datetime.fromisoformat(row[MODIFIED]) if row and row[MODIFIED] else None
        profile = dict(facts.record) if facts.presence == "found" else None
        of_contact = {row.attribute: row for row in ledger.opt_outs.of([facts.id])}
        moved_at = campaign_moved_at(ledger)
        opt_outs = contact_opt_outs(configuration.config, of_contact, row, modified, profile, moved_at)
    in_payload: list[str] = []
    if facts.ready and mapped and facts.presence == "found":
        in_payload = differing(mapped.payload, facts.record, facts.ready.resource)
    steps = mapped.steps if mapped else ()
    left_out = {step.target.attribute.path for step in steps if not step.target.apply_updates}
    differs = [path for path in in_payload if path not in left_out] if facts.passes else []
    differs += [link.attribute for link in links if link.equal is False and link.attribute not in differs]
    of_opt_outs = [Reason(False, why) for _, why in opt_outs if why]
    if of_opt_outs and (rejected := ledger.opt_out_decisions.last_rejected_row(facts.id)):
        name, (line, _, reason) = rejected[0].rpartition("@")[0], rejected[1]
        of_opt_outs.append(Reason(False, f"The program rejected line {line} of the opt-out file {name}: {reason}."))
    in_step, reasons = agreement(facts, differs, of_opt_outs)
    states, children = (stored.child_states, stored.children) if stored else ({}, ())
    return RecordOfTable(
        table=facts.config.table,
        resource=facts.config.resource,
        in_step=in_step,
        reasons=reasons,
        d365=explanation.RowOfRecord(
            facts.has_row if facts.row is not None else None,
            facts.row[MODIFIED].item() if facts.row is not None and facts.has_row else None,
            FORM.format(configuration.settings.d365().url, facts.config.table, facts.id) if facts.has_row else None,
        ),
        filter=_filter(facts, show),
        validation_error=mapped.error if mapped else None,
        attributes=list(_attributes(facts, show, in_payload)),
        ledger=_ledger(facts, stored) if stored else None,
        links=links,
        children=explanation.ChildrenOfRecord(
            {state.word: number for state, number in sorted(states.items())},
            [explanation.ChildOfRecord(child.table, child.id, child.state.word, _reason(child)) for child in children],
        ),
        campaign=explanation.CampaignOfRecord(facts.presence, moment(facts.record.get("lastModified")), facts.reason),
        differs=differs,
        problem=facts.problem,
        opt_outs=[replace(one, d365=show(one.d365), campaign=show(one.campaign)) for one, _ in opt_outs],
        decisions=opt_out_decisions(ledger, facts.id, show_values=show_values) if opt_outs else [],
    )


def _filter(facts: RecordFacts, show: Show) -> explanation.FilterOfRecord | None:
    if facts.ready is None or facts.ready.mapping.row_filter is None:
        return None
    row_filter = facts.ready.mapping.row_filter
    met = list(facts.rules_met) or [None] * len(row_filter.rules)
    # A filter's result reveals the row's value, so its operand is masked like the value.
    rules = [
        explanation.RuleOfFilter(rule.column.name, rule.operator, list(map(show, rule.values)), is_met)
        for rule, is_met in zip(row_filter.rules, met, strict=True)
    ]
    return explanation.FilterOfRecord(facts.passes, row_filter.match, row_filter.delete_filtered_out, rules)


def _attributes(facts: RecordFacts, show: Show, differing_paths: Sequence[str]) -> Iterator[AttributeOfRecord]:
    """Yield the way of each column to its attribute."""
    if facts.ready is None:
        return
    in_campaign = facts.presence == "found"
    steps = {step.target.attribute.path: step for step in facts.mapped.steps} if facts.mapped else {}
    for field in facts.ready.mapping.fields:
        path, step = field.attribute.path, steps.get(field.attribute.path)
        yield AttributeOfRecord(
            attribute=path,
            column=field.column.name,
            conversion=field.conversion,
            apply_updates=field.apply_updates and path not in facts.refused_in_updates,
            refused_in_updates=path in facts.refused_in_updates,
            kept=step.kept if step else None,
            replaced=step.replaced if step else None,
            cut_from=step.cut_from if step else None,
            d365=show(step.source) if step else None,
            mapped=show(step.mapped) if step else None,
            campaign=show(value_at(facts.record, path)) if in_campaign else None,
            equal=path not in differing_paths if step and in_campaign and not step.kept else None,
        )


def _links(facts: RecordFacts) -> Iterator[explanation.LinkOfRecord]:
    """Yield the links to parents."""
    stored = {link.attribute: link for link in facts.stored.links} if facts.stored else {}
    parents = facts.mapped.links if facts.mapped else {}
    for configured in facts.config.links:
        name, stored_link = configured.to, stored.get(configured.to)
        id_ = parents.get(name) if facts.mapped else stored_link.id if stored_link else None
        joined = configured.style == "join"
        campaign_link = facts.record.get(name) if joined else None
        linked = (str(campaign_link).lower() if campaign_link else None) if joined else facts.linked.get(name)
        parent = stored_link.parent if stored_link and stored_link.id == id_ else None
        expected = id_ if joined or (stored_link and stored_link.wanted) else None
        equal = None
        follows = facts.config.apply_updates or (stored_link and stored_link.id == id_)
        if facts.presence == "found" and stored_link is not None and facts.passes is True and follows:
            # A link to a record without our id is set, and leads elsewhere.
            equal = linked == expected and (linked is not None or name not in facts.linked)
        yield explanation.LinkOfRecord(
            attribute=name,
            table=configured.table,
            id=id_,
            required=configured.cardinality == "one",
            state=parent.state.word if parent else None,
            reason=_reason(parent) if parent else None,
            acknowledged=bool(stored_link and stored_link.acknowledged),
            campaign=linked,
            equal=equal,
        )


def _ledger(facts: RecordFacts, stored: StoredRecord) -> explanation.LedgerOfRecord:
    last = "none" if stored.acked_hash is None else "acknowledged"
    if stored.attempts and (stored.state == State.REJECTED or stored.reason):
        last = "rejected" if stored.state == State.REJECTED else "failed"
    same = ("out_of_scope", "changed_at", "attempts", "not_before", "unknown_until", "leased_until", "loading")
    return explanation.LedgerOfRecord(
        state=stored.state.word,
        waiting_for=WAITING_FOR[stored.block_reason] if stored.state == State.WAITING else None,
        reason=facts.orphan_reason or rejection(stored),
        since=stored.failed_since,
        held_since=facts.held_since,
        next_request=stored.operation if stored.state in (State.PENDING, State.WAITING) else None,
        acknowledged_at=stored.acked_at,
        last_outcome="unknown" if stored.outcome_unknown else last,
        **{name: getattr(stored, name) for name in same},
    )


def _reason(record: RelatedState) -> str | None:
    if record.state == State.WAITING and record.block_reason != BlockReason.NONE:
        return f"waiting for {WAITING_FOR[record.block_reason]}"
    return record.reason
