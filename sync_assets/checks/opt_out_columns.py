"""Check which columns of contact can carry an opt-out, and interpret their values.

Pure, the metadata is passed in; but for `typologies`, which reads and notes in the ledger what a sync has shown.

A value must become a boolean without loss, so a column needs two options, or is a number or a choice of 0 and 1. The
configuration decides which of the two means "do not"; for Microsoft's own columns that is checked at load
(`cross_checks.py`), here it is compared with the labels. Source:
https://learn.microsoft.com/power-apps/developer/data-platform/reference/entities/contact
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sync_assets.campaign.metadata import Resource
from sync_assets.checks import rules
from sync_assets.checks.rules import Finding
from sync_assets.config.models import Config, OptOutMapping
from sync_assets.config.values import CONTACT
from sync_assets.dataverse.metadata import Column, ColumnType, Table
from sync_assets.mapping.table_mapping import MappingError, attribute_problem
from sync_assets.words import did_you_mean

if TYPE_CHECKING:
    from sync_assets.ledger import Ledger

ALLOW_LABELS = frozenset({"allow", "allowed", "send", "opt in", "opted in", "subscribed"})
REFUSE_LABELS = frozenset({"do not allow", "not allowed", "do not send", "opt out", "opted out", "unsubscribed"})
"""Labels of true with a clear meaning, in lower case, without hyphens. Other labels are not judged: `Yes` of a column
`Do not email` means the opposite of `Yes` of a column `Newsletter`.
"""

TYPOLOGIES = (
    "Review Campaign's typology rules and the mapped opt-outs before they are synchronised: a rule that stops all "
    "messages to a profile with an opt-out may stop transactional mail, too, such as an order confirmation."
)
"""Source: the note in Adobe's page (docs/opt-outs.md)."""
_SAID = "typology rules"
"""Name of the event in the ledger: a sync has said it."""

_LABELLED: tuple[ColumnType, ...] = ("boolean", "picklist")


@dataclass(frozen=True, slots=True)
class OptOutColumn:
    """One column and the attribute that it is mapped to. `inverted`: true, or 1, means allowed."""

    name: str
    attribute: str
    inverted: bool
    type: ColumnType

    def understands(self, value: bool | int | None) -> bool:
        """Return False for a whole number other than 0 and 1, which is no opt-out value; True for an empty value."""
        return value is None or value in (0, 1)

    def opted_out(self, value: bool | int | None) -> bool | None:
        """Return True if a value of the column means opted out; None if it is null or not understood."""
        return bool(value) != self.inverted if value is not None and self.understands(value) else None

    def value(self, opted_out: bool) -> bool | int:
        """Return the column's value for opted out, or for not opted out."""
        true = opted_out != self.inverted
        return true if self.type == "boolean" else int(true)


def opt_out_columns(config: Config, table: Table) -> tuple[OptOutColumn, ...]:
    """Return the mapped columns in the order of the file. Raises MappingError with every problem, one line each."""
    mappings = config.opt_out.mappings
    problems = _column_problems(mappings, table, written=config.opt_out.active)
    if problems:
        raise MappingError(table.name, problems, [])
    return tuple(
        OptOutColumn(name, mapping.to, mapping.inverted, table.columns[name].type) for name, mapping in mappings.items()
    )


def typologies(config: Config, ledger: "Ledger", *, said: bool) -> list[str]:
    """Return TYPOLOGIES if opt-outs are synchronised and no sync has said it yet. said: this one does now."""
    if config.opt_out.direction == "disabled" or _SAID in ledger.events.facts(CONTACT):
        return []
    if said:
        ledger.events.note(CONTACT, {_SAID: datetime.now(UTC).isoformat()})
    return [TYPOLOGIES]


def opt_out_findings(config: Config, table: Table, resource: Resource) -> list[Finding]:
    """Return the findings about the columns and about the attributes."""
    columns, attributes = opt_out_problems(config.opt_out.mappings, table, resource, written=config.opt_out.active)
    return [rules.OPT_OUT_COLUMNS.no_problems(columns), rules.OPT_OUT_ATTRIBUTES.no_problems(attributes)]


def opt_out_problems(
    mappings: Mapping[str, OptOutMapping], table: Table, resource: Resource, *, written: bool = False
) -> tuple[list[str], list[str]]:
    """Return the problems of the columns and those of the attributes.

    Each has the form `where: what is wrong; what to write instead`. `written`: the columns are also written to.
    """
    attributes: list[str] = []
    for name, mapping in mappings.items():
        if problem := attribute_problem(resource, mapping.to, f"`{name}`"):
            attributes.append(problem)
        elif (type_ := resource.attributes[mapping.to].type) != "boolean":
            wrong = f"`{name}`: `{mapping.to}` of {resource.name} is of type {type_} and not a boolean"
            attributes.append(f"{wrong}; map another attribute")
    return _column_problems(mappings, table, written), attributes


def _column_problems(mappings: Mapping[str, OptOutMapping], table: Table, written: bool) -> list[str]:
    problems: list[str] = []
    for name, mapping in mappings.items():
        column = table.columns.get(name)
        if column is None:
            closest = did_you_mean(name, list(table.columns))
            instead = f"did you mean `{closest}`?" if closest else "name a column of the table"
            problems.append(f"`{name}`: {table.name} has no such column; {instead}")
            continue
        if not column.readable:
            problems.append(f"`{name}`: the column cannot be read in Dynamics 365; leave it out")
            continue
        # A whole number passes: only its rows show which values it has.
        two_valued = column.type == "picklist" and column.labels.keys() == {0, 1}
        if not two_valued and column.type not in ("boolean", "integer"):
            problems.append(
                f"`{name}`: {_shown(column)} cannot become true or false without loss; name a column with two options, "
                "or a whole number or choice of 0 and 1"
            )
        elif problem := _polarity_problem(column, mapping):
            problems.append(problem)
        if written and not column.updatable:
            problems.append(f"`{name}`: the column is read-only in Dynamics 365; name another one")
    return problems


def _shown(column: Column) -> str:
    if column.type != "picklist":
        return f"a column of type {column.type}"
    codes = ", ".join(map(str, sorted(column.labels)[:12]))
    return f"a choice of {codes}" if codes else "a choice without options"


def _polarity_problem(column: Column, mapping: OptOutMapping) -> str | None:
    label = column.labels.get(1, "") if column.type in _LABELLED else ""
    label_text = " ".join(label.casefold().replace("-", " ").split())
    true = "true" if column.type == "boolean" else "1"
    if label_text in ALLOW_LABELS and not mapping.inverted:
        return (
            f"`{column.name}`: {true} is labelled `{label}`, so it means allow, and true in `{mapping.to}` means do "
            f"not; write `{column.name}: {{to: {mapping.to}, inverted: true}}`"
        )
    if label_text in REFUSE_LABELS and mapping.inverted:
        return (
            f"`{column.name}`: {true} is labelled `{label}`, so it means do not, as true does in `{mapping.to}`; "
            "remove `inverted: true`"
        )
    return None
