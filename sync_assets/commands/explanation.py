"""Arrange the document of `explain` as sections of lines and tables, for the terminal and Dagster's page. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_assets.commands.history import decision_line
from sync_assets.commands.values import value_text
from sync_assets.foreign_text import markdown
from sync_assets.words import counted

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """A title, lines of text, and a table without or with rows."""

    title: str
    lines: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())


CONCLUSIONS = {True: "in step", False: "not in step", None: "not known"}


def sections(document: Document) -> Iterator[Section]:
    """Yield the sections of a document: for each table its conclusion first, then the way of the record."""
    for name, table in document["tables"].items():
        title = f"{name} {document['id']} -> {table['resource']}: {CONCLUSIONS[table['in_step']]}"
        yield Section(title, table["reasons"])
        row = table["d365"]
        modified = f"last modified {row['modified_at']}" if row["found"] else "no such row"
        modified = "not read" if row["found"] is None else modified
        yield Section("Dynamics 365", [text for text in (modified, row["form"]) if text])
        if table["filter"]:
            yield _filter(table["filter"])
        yield Section("Ledger", list(_ledger(table["ledger"])))
        yield Section("Campaign", [_campaign(table)])
        if table["attributes"]:
            yield _attributes(table, masked=document["values"] == "masked")
        if table["links"]:
            yield Section("Parents", list(map(_link, table["links"])))
        if (children := table["children"])["states"]:
            numbers = ", ".join(f"{number:,} {state}" for state, number in children["states"].items())
            rows = [[child["table"], child["id"], child["state"], child["reason"] or ""] for child in children["first"]]
            yield Section("Children", [numbers], ("table", "id", "state", "reason"), rows)
        yield from _opt_outs(table, masked=document["values"] == "masked")
        if table["runs"]:
            yield Section(
                "Runs",
                [
                    f"{run['run_id']} (job {run['job']}, {run['status']}): the record changed at "
                    + ", ".join(run["changed_at"])
                    for run in table["runs"]
                ],
            )


def page(document: Document) -> str:
    """Return an explanation as Markdown."""
    parts = enumerate(sections(document))
    forms = {table["d365"]["form"] for table in document["tables"].values()}
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


def _filter(row_filter: Document) -> Section:
    passes = {True: "passes", False: "filtered out", None: "no row"}[row_filter["passes"]]
    words = {True: "met", False: "not met", None: ""}
    rows = [
        [str(number), rule["field"], rule["operator"], ", ".join(map(value_text, rule["values"])), words[rule["met"]]]
        for number, rule in enumerate(row_filter["rules"], 1)
    ]
    return Section("Filter", [f"{passes}; match: {row_filter['match']}"], ("rule", "column", "is", "value", ""), rows)


def _ledger(ledger: Document | None) -> Iterator[str]:
    if ledger is None:
        yield "no record"
        return
    state = ledger["state"] + (", out of scope" if ledger["out_of_scope"] else "")
    yield f"{state}; changed {ledger['changed_at']}, acknowledged {ledger['acknowledged_at'] or 'never'}"
    attempts = f", {counted(ledger['attempts'], 'attempt')} since the last change" if ledger["attempts"] else ""
    yield f"last request: {ledger['last_outcome']}{attempts}"
    for label, key in (
        ("next request", "next_request"),
        ("not before", "not_before"),
        ("a worker has it until", "leased_until"),
        ("held since", "held_since"),
        ("rejected or orphaned since", "since"),
        ("reason", "reason"),
    ):
        if ledger[key]:
            yield f"{label}: {ledger[key]}"


def _campaign(table: Document) -> str:
    campaign = table["campaign"]
    text = {
        "found": "found",
        "missing": "no such record",
        "several": "several records carry this id",
        "unanswered": f"not known: {campaign['reason']}",
        "not asked": "not read",
    }[campaign["presence"]]
    return text + (f", last modified {campaign['last_modified']}" if campaign["last_modified"] else "")


def _attributes(table: Document, *, masked: bool) -> Section:
    rows: list[list[str]] = []
    for attribute in table["attributes"]:
        way = [attribute["column"], "replaced" if attribute["replaced"] else attribute["conversion"]]
        if attribute["kept"]:
            way.append("empty: Campaign's value stays (keep_if_empty)")
        if attribute["cut_from"] is not None:
            way.append(f"truncated from {attribute['cut_from']} characters")
        if not attribute["apply_updates"]:
            way.append("sent on first load and replay only")
        values = [value_text(attribute["d365"]), value_text(attribute["mapped"])]
        campaign = _compared(attribute["campaign"], attribute["equal"], masked=masked)
        rows.append([attribute["attribute"], *values, campaign, ", ".join(way)])
    error = [f"validation error: {table['validation_error']}"] if table["validation_error"] else []
    return Section("Attributes", error, ("attribute", "Dynamics 365", "mapped", "Campaign", "way"), rows)


def _compared(value: Any, equal: bool | None, *, masked: bool) -> str:
    """Return Campaign's value with the result of its comparison. The shape of an equal value adds nothing."""
    if equal and masked:
        return "equal"
    return f"differs: {value_text(value)}" if equal is False else value_text(value)


def _link(link: Document) -> str:
    text = f"{link['attribute']}: {link['table']} {link['id'] or '(the lookup is empty)'}"
    if link["state"]:
        text += f" is {link['state']}" + (f" ({link['reason']})" if link["reason"] else "")
    if link["equal"] is None:
        return text
    return (
        f"{text}; Campaign's link {'is equal' if link['equal'] else 'differs: ' + (link['campaign'] or 'none of ours')}"
    )


def _opt_outs(table: Document, *, masked: bool) -> Iterator[Section]:
    if table["opt_outs"]:
        rows = [
            [
                opt_out["attribute"],
                opt_out["state"],
                f"{opt_out['column']}: {value_text(opt_out['d365'])}",
                _compared(opt_out["campaign"], opt_out["equal"], masked=masked),
                opt_out["reason"] or "",
            ]
            for opt_out in table["opt_outs"]
        ]
        yield Section("Opt-outs", (), ("attribute", "state", "Dynamics 365", "Campaign", "reason"), rows)
    if table["decisions"]:
        yield Section("Decisions", list(map(decision_line, table["decisions"])))
