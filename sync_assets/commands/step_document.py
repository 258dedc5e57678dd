"""The document of `migrate` and `move`: structs of its members, which `--json` prints, and how they are shown.

Invariant: what a step's `result` holds is stored in the ledger, so it has counts and names of attributes only. What may
hold ids or values is in `details`, which are printed and not stored.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec
from msgspec.structs import astuple
from rich.text import Text

from sync_assets.checks.rules import FindingDocument
from sync_assets.commands.estimate import duration
from sync_assets.commands.inventory import Sample
from sync_assets.commands.plan_changes import change_text
from sync_assets.commands.terminal import Parts, kinds, plain_table
from sync_assets.config.opt_out import Direction
from sync_assets.ledger.times import iso
from sync_assets.words import counted


class CountedTable(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a resource in Campaign; counts as in `TableInventory`.

    Attributes:
        compared: False if they were not: the first load began before, or no row is in scope.
        without_id: Null if they were not compared.
    """

    resource: str
    compared: bool
    records: int
    equal: int
    differing: int
    not_in_scope: int
    unknown: int
    without_id: int | None
    other_key: int
    twice: int


class PlannedRecords(msgspec.Struct, frozen=True):
    """What a sync would do with the records of a table, as in `plan`."""

    insert: int
    update: int
    delete: int
    unchanged: int
    waiting: int
    rejected: int
    held: int


class OptOutCounts(msgspec.Struct, frozen=True):
    """Contacts on both sides that agree, are opted out in one system only, and would be written to a system."""

    agree: int = 0
    only_d365: int = 0
    only_campaign: int = 0
    to_d365: int = 0
    to_campaign: int = 0


class LeftRecords(msgspec.Struct, frozen=True):
    """Records of a table after the last sync, by state."""

    waiting: int
    rejected: int
    held: int
    synced: int


class SyncCost(msgspec.Struct, frozen=True):
    """Engine calls of the first sync, and their time at the pace of `estimate`. budget_a_day: null without a budget."""

    engine_calls: dict[str, int]
    total: int
    hours: float
    calls_per_hour: int
    budget_a_day: int | None


class StepCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a step, which has some of these.

    Attributes:
        findings: Of `doctor`, by outcome.
        inventory: Campaign's records, by table.
        changes: What the first sync would do, by table.
        attributes: Number of records that differ, by table and attribute.
        direction: Of opt-outs.
        opt_outs: By attribute of Campaign.
        engine_calls: Of the first sync, if the command made it, by kind.
        left: By the last sync with the former Campaign, by table.
        holds: Contacts on hold.
        former: The URL of the former Campaign.
    """

    findings: dict[str, int] = {}
    inventory: dict[str, CountedTable] = {}
    changes: dict[str, PlannedRecords] = {}
    attributes: dict[str, dict[str, int]] = {}
    direction: Direction | None = None
    opt_outs: dict[str, OptOutCounts] = {}
    cost: SyncCost | None = None
    engine_calls: dict[str, int] = {}
    left: dict[str, LeftRecords] = {}
    holds: int | None = None
    former: str | None = None


class ShownHold(msgspec.Struct, frozen=True):
    """A contact on hold, and the number of its records."""

    id: str
    since: datetime
    records: int


class Details(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step shows beside its result.

    Attributes:
        checks: Findings that are not ok.
        checklist: What a person confirms.
        samples: Records that differ, by table. values: whether theirs are shown.
        afterwards: What a person does after the last step.
    """

    checks: Sequence[FindingDocument] = ()
    checklist: Sequence[str] = ()
    samples: Mapping[str, list[Sample]] = {}
    values: Literal["shown", "masked"] | None = None
    holds: Sequence[ShownHold] = ()
    notes: Sequence[str] = ()
    afterwards: Sequence[str] = ()


class StepResult(msgspec.Struct, frozen=True):
    """The result of a step, and its details.

    question: what a person must confirm before the step is done. todo: what a person must do first; then the step is
    made again.
    """

    result: StepCounts = StepCounts()
    details: Details = Details()
    question: str | None = None
    todo: Sequence[str] = ()


class Step(StepResult, frozen=True, kw_only=True):
    """A step. done_at: null until it is done."""

    number: int
    step: str
    title: str
    done_at: datetime | None


class StepsDocument(msgspec.Struct, frozen=True):
    """The document. next: the first step that is not done. engine_calls: before the first sync, by kind."""

    steps: list[Step]
    next: str | None
    engine_calls: dict[str, int]


def show_step(step: Step, *, confirmed: bool = False) -> Parts:
    """Show a step: its result, and what a person must do or confirm, or has confirmed by an option."""
    done = f" (done {iso(step.done_at)})" if step.done_at else ""
    result, details = step.result, step.details
    yield Text(f"Step {step.number}: {step.title}{done}", "bold")
    if result.findings:
        yield f"  {', '.join(f'{number} {outcome}' for outcome, number in result.findings.items())}"
    yield from (f"  {line.outcome} {line.title}: {line.message}" for line in details.checks)
    yield from (f"  {number}. {item}" for number, item in enumerate(details.checklist, 1))
    for name, table in result.inventory.items():
        yield f"  {name}: {counted(table.records, 'record')} of {table.resource}"
        if table.compared:
            yield from (f"  {getattr(table, kind):>9,} {text}" for kind, text in INVENTORY.items())
        else:
            yield "            not compared: the first load began before, or no row is in scope"
    yield from _numbers("  table", result.left or result.changes)
    for name, differing in result.attributes.items():
        counts = ", ".join(f"{attribute} {number:,}" for attribute, number in differing.items())
        yield f"  {name}, records that differ by attribute: {counts}"
    for name, samples in details.samples.items():
        for sample in samples:
            changes = (change_text(attribute, one.campaign, one.mapped) for attribute, one in sample.values.items())
            yield f"  e.g. {name} {sample.id}: {'; '.join(changes)}"
    yield from (f"  {hold.id}  since {iso(hold.since)}  {counted(hold.records, 'record')}" for hold in details.holds)
    if result.direction:
        yield f"  direction: {result.direction}"
    yield from _numbers("  attribute", result.opt_outs)
    if cost := result.cost:
        yield f"  engine calls: {kinds(cost.engine_calls)}; {cost.total:,} in all"
        yield f"  {duration(cost.hours)} at {cost.calls_per_hour:,} calls an hour (assumed)"
        if cost.budget_a_day:
            yield f"  the budgets allow {cost.budget_a_day:,} calls a day"
    if result.engine_calls:
        yield f"  engine calls: {kinds(result.engine_calls)}"
    yield from (f"  {note}" for note in details.notes)
    yield from (f"To do: {line}" for line in step.todo)
    if step.question:
        yield f"{'Confirmed by --yes' if confirmed else 'To confirm'}: {step.question}"
    yield from (f"Afterwards: {line}" for line in details.afterwards)
    yield ""


def _numbers(title: str, rows: Mapping[str, msgspec.Struct]) -> Parts:
    """Yield a table of counts, if there are any: a row for each name, a column for each member."""
    for first in [*rows.values()][:1]:
        titles = [column.replace("_", " ") for column in first.__struct_fields__]
        lines = ([f"  {name}", *astuple(row)] for name, row in rows.items())
        yield plain_table(title, *titles, rows=lines, numbers=titles)


INVENTORY = {
    "equal": "carry our id and have the mapped values",
    "differing": "carry our id and differ",
    "not_in_scope": "carry an id whose row is not sent: filtered out, held, or rejected by the mapping",
    "unknown": "carry an id that Dynamics 365 does not have; they stay as they are",
    "without_id": "carry no id; they stay as they are",
    "other_key": "carry a key that is no id of Dynamics 365; they stay as they are",
    "twice": "of the ids are in several records, and count once above",
}
