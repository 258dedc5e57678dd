"""The document of `explain`, and its sections of lines and tables for the terminal and Dagster's page. Pure.

A value of either system is in it as its shape, or as it is (`--show-values`). Reasons are None where there is none.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec

from sync_assets.audit.linked_records import Presence
from sync_assets.campaign.addressing import group_of
from sync_assets.commands.history import ContactDecision, decision_line
from sync_assets.commands.values import plain, value_text
from sync_assets.foreign_text import markdown
from sync_assets.ledger.times import iso
from sync_assets.opt_out.contact_opt_outs import ContactOptOut
from sync_assets.words import counted


class RowOfRecord(msgspec.Struct, frozen=True):
    """The row in Dynamics 365. found: None if it could not be read. form: the address of its form."""

    found: bool | None
    modified_at: str | None
    form: str | None


class RuleOfFilter(msgspec.Struct, frozen=True):
    """A rule, and whether the row meets it; None without a row."""

    field: str
    operator: str
    values: list[Any]
    met: bool | None

    def __repr__(self) -> str:
        return f"RuleOfFilter({self.field} {self.operator})"  # the values show that of the row


class FilterOfRecord(msgspec.Struct, frozen=True):
    """The table's filter, and whether the row passes it; None without a row."""

    passes: bool | None
    match: str
    delete_filtered_out: bool
    rules: list[RuleOfFilter]


class AttributeOfRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The way of a column to its attribute. Without a row, what depends on it is None.

    Attributes:
        kept: The value is empty and left out, and not compared.
        replaced: One of the configured replacements applied.
        cut_from: Characters before the text was truncated.
        d365: The value in Dynamics 365.
        mapped: The value as it is sent.
        campaign: The value in Campaign.
    """

    attribute: str
    column: str
    conversion: str
    apply_updates: bool
    refused_in_updates: bool
    kept: bool | None
    replaced: bool | None
    cut_from: int | None
    d365: Any
    mapped: Any
    campaign: Any
    equal: bool | None

    def __repr__(self) -> str:
        return f"AttributeOfRecord({self.column} to {self.attribute})"  # the values are personal data


class LedgerOfRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record in the ledger. next_request: insert, update or delete, if one is due. loading: it is in a load by
    file, and nothing else is sent to it before that is verified.
    """

    state: str
    waiting_for: str | None
    reason: str | None
    since: datetime | None
    out_of_scope: bool
    held_since: datetime | None
    next_request: str | None
    acknowledged_at: datetime | None
    last_outcome: Literal["none", "acknowledged", "rejected", "failed", "unknown"]
    changed_at: datetime
    attempts: int
    not_before: datetime | None
    unknown_until: datetime | None
    leased_until: datetime | None
    loading: bool


class LinkOfRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A link to a parent, with its state in the ledger.

    Attributes:
        id: The parent's in Dynamics 365.
        campaign: The id that Campaign's record is linked to.
    """

    attribute: str
    table: str
    id: str | None
    required: bool
    state: str | None
    reason: str | None
    acknowledged: bool
    campaign: str | None
    equal: bool | None


class ChildOfRecord(msgspec.Struct, frozen=True):
    """A child, with its state in the ledger."""

    table: str
    id: str
    state: str
    reason: str | None


class ChildrenOfRecord(msgspec.Struct, frozen=True):
    """The number of children by state, and the first of them."""

    states: dict[str, int]
    first: list[ChildOfRecord]


class CampaignOfRecord(msgspec.Struct, frozen=True):
    """The record in Campaign. reason: why it is not known."""

    presence: Presence | Literal["not asked"]
    last_modified: datetime | None
    reason: str | None


class RunOfRecord(msgspec.Struct, frozen=True):
    """A run of Dagster that changed the record, and when."""

    run_id: str
    job: str
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    changed_at: list[datetime]


class RecordOfTable(msgspec.Struct, frozen=True, kw_only=True):
    """The record in one table.

    Attributes:
        in_step: None if facts are missing; `problem` is why.
        differs: Attributes and links in which Campaign's record differs.
    """

    table: str
    resource: str
    in_step: bool | None
    reasons: list[str]
    d365: RowOfRecord
    filter: FilterOfRecord | None
    validation_error: str | None
    attributes: list[AttributeOfRecord]
    ledger: LedgerOfRecord | None
    links: list[LinkOfRecord]
    children: ChildrenOfRecord
    campaign: CampaignOfRecord
    differs: list[str]
    problem: str | None
    opt_outs: list[ContactOptOut]
    decisions: list[ContactDecision]
    runs: list[RunOfRecord] = []


class ExplainDocument(msgspec.Struct, frozen=True):
    """The document of `explain --json`: a record by table. values: whether they are shown."""

    id: str
    in_step: bool | None
    values: Literal["shown", "masked"]
    tables: dict[str, RecordOfTable]
    engine_calls: dict[str, int]


@dataclass(frozen=True, slots=True)
class Section:
    """A title, lines of text, and a table without or with rows."""

    title: str
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())


CONCLUSIONS = {True: "in step", False: "not in step", None: "not known"}


def sections(document: ExplainDocument) -> Iterator[Section]:
    """Yield the sections of a document: for each table its conclusion first, then the way of the record."""
    masked = document.values == "masked"
    for name, table in document.tables.items():
        title = f"{name} {document.id} -> {table.resource}: {CONCLUSIONS[table.in_step]}"
        yield Section(title, table.reasons)
        row = table.d365
        modified = f"last modified {row.modified_at}" if row.found else "no such row"
        modified = "not read" if row.found is None else modified
        yield Section("Dynamics 365", [text for text in (modified, row.form) if text])
        if table.filter:
            yield _filter(table.filter)
        yield Section("Ledger", list(_ledger(table.ledger)))
        yield Section("Campaign", [_campaign(table.campaign)])
        if table.attributes:
            yield _attributes(table, masked=masked)
        if table.links:
            yield Section("Parents", list(map(_link, table.links)))
        if table.children.states:
            numbers = ", ".join(f"{number:,} {state}" for state, number in table.children.states.items())
            rows = [[child.table, child.id, child.state, child.reason or ""] for child in table.children.first]
            yield Section("Children", [numbers], ("table", "id", "state", "reason"), rows)
        if table.opt_outs:
            yield _opt_outs(table.opt_outs, masked=masked)
        if table.decisions:
            yield Section("Decisions", list(map(decision_line, table.decisions)))
        if table.runs:
            yield Section(
                "Runs",
                [
                    f"{run.run_id} (job {run.job}, {run.status}): the record changed at "
                    + ", ".join(map(iso, run.changed_at))
                    for run in table.runs
                ],
            )


def page(document: ExplainDocument) -> str:
    """Return an explanation as Markdown."""
    parts = enumerate(sections(document))
    forms = {form for table in document.tables.values() if (form := table.d365.form)}
    return "\n\n".join("\n".join(_markdown(part, forms, level=3 if number else 2)) for number, part in parts)


def _markdown(part: Section, links: Collection[str], level: int) -> Iterator[str]:
    yield f"{'#' * level} {_escaped(part.title)}"
    yield ""
    yield from (f"- <{line}>" if line in links else f"- {_escaped(line)}" for line in part.lines)
    if part.rows:
        yield ""
        yield f"| {' | '.join(map(_escaped, part.columns))} |"
        yield f"|{'---|' * len(part.columns)}"
        yield from (f"| {' | '.join(map(_escaped, row))} |" for row in part.rows)


def _escaped(text: str) -> str:
    """Return the text on one line, without a meaning in Markdown and its tables."""
    return markdown(" ".join(text.split())).replace("|", "\\|")


def _filter(row_filter: FilterOfRecord) -> Section:
    passes = {True: "passes", False: "filtered out", None: "no row"}[row_filter.passes]
    words = {True: "met", False: "not met", None: ""}
    rows = [
        [str(number), rule.field, rule.operator, ", ".join(map(value_text, rule.values)), words[rule.met]]
        for number, rule in enumerate(row_filter.rules, 1)
    ]
    return Section("Filter", [f"{passes}; match: {row_filter.match}"], ("rule", "column", "is", "value", ""), rows)


def _ledger(ledger: LedgerOfRecord | None) -> Iterator[str]:
    if ledger is None:
        yield "no record"
        return
    state = ledger.state + (", out of scope" if ledger.out_of_scope else "")
    yield f"{state}; changed {iso(ledger.changed_at)}, acknowledged {plain(ledger.acknowledged_at) or 'never'}"
    attempts = f", {counted(ledger.attempts, 'attempt')} since the last change" if ledger.attempts else ""
    yield f"last request: {ledger.last_outcome}{attempts}"
    for label, value in (
        ("next request", ledger.next_request),
        ("not before", ledger.not_before),
        ("a worker has it until", ledger.leased_until),
        ("held since", ledger.held_since),
        ("rejected or orphaned since", ledger.since),
        ("reason", ledger.reason),
    ):
        if value:
            yield f"{label}: {plain(value)}"
    if ledger.loading:
        yield "in a load by file, which `sync-assets loads` shows"


def _campaign(campaign: CampaignOfRecord) -> str:
    text = {
        "found": "found",
        "missing": "shows no such record",
        "several": "several records carry this id",
        "unanswered": f"not known: {campaign.reason}",
        "not asked": "not read",
    }[campaign.presence]
    return text + (f", last modified {iso(campaign.last_modified)}" if campaign.last_modified else "")


def _attributes(table: RecordOfTable, *, masked: bool) -> Section:
    rows: list[list[str]] = []
    for attribute in table.attributes:
        way = [attribute.column, "replaced" if attribute.replaced else attribute.conversion]
        if attribute.kept:
            way.append("empty: Campaign's value stays (keep_if_empty)")
        if attribute.cut_from is not None:
            way.append(f"truncated from {attribute.cut_from} characters")
        if attribute.refused_in_updates:
            way.append(f"Campaign refuses {group_of(attribute.attribute)} in updates")
        elif not attribute.apply_updates:
            way.append("sent on first load and replay only")
        values = [value_text(attribute.d365), value_text(attribute.mapped)]
        campaign = _compared(attribute.campaign, attribute.equal, masked=masked)
        rows.append([attribute.attribute, *values, campaign, ", ".join(way)])
    error = [f"validation error: {table.validation_error}"] if table.validation_error else []
    return Section("Attributes", error, ("attribute", "Dynamics 365", "mapped", "Campaign", "way"), rows)


def _compared(value: Any, equal: bool | None, *, masked: bool) -> str:
    """Return Campaign's value with the result of its comparison. The shape of an equal value adds nothing."""
    if equal and masked:
        return "equal"
    return f"differs: {value_text(value)}" if equal is False else value_text(value)


def _link(link: LinkOfRecord) -> str:
    text = f"{link.attribute}: {link.table} {link.id or '(the lookup is empty)'}"
    if link.state:
        text += f" is {link.state}" + (f" ({link.reason})" if link.reason else "")
    if link.equal is None:
        return text
    return f"{text}; Campaign's link {'is equal' if link.equal else 'differs: ' + (link.campaign or 'none of ours')}"


def _opt_outs(opt_outs: Sequence[ContactOptOut], *, masked: bool) -> Section:
    rows = [
        [
            opt_out.attribute,
            opt_out.state,
            f"{opt_out.column}: {value_text(opt_out.d365)}",
            _compared(opt_out.campaign, opt_out.equal, masked=masked),
            opt_out.reason or "",
        ]
        for opt_out in opt_outs
    ]
    return Section("Opt-outs", (), ("attribute", "state", "Dynamics 365", "Campaign", "reason"), rows)
