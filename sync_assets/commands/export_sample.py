"""`doctor --file`: what would be taken from a sample of the opt-out export, line by line for the first ten, and in sum.

The file is read as a run reads it. Writes nothing. Neither keys that are no GUIDs nor other cells are shown: they may
be personal data.
"""

import fnmatch
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from sync_assets.commands.terminal import Parts
from sync_assets.config.values import CHANGED_SUFFIX
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.times import iso
from sync_assets.opt_out.export.file import BadExport, Batch, Reader
from sync_assets.opt_out.export.guess import guess_layout
from sync_assets.opt_out.export.staging import layout
from sync_assets.runtime.configuration import Configuration
from sync_assets.words import counted

LINES = 10
IDS = 10_000
"""Most different ids that are counted."""
_ID_SHOWN = 8


class StatedOptOut(msgspec.Struct, frozen=True):
    """An opt-out that a row of an export states, with the time of its change if the row has one."""

    attribute: str
    opted_out: bool
    changed_at: datetime | None


class SampleLine(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the sample: taken, rejected for this reason, or neither, as it has no id. id: its first characters."""

    line: int
    id: str | None = None
    taken: list[StatedOptOut] | None = None
    rejected: str | None = None


class SampleDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The document of `doctor --file --json`.

    Attributes:
        problem: Why the whole file would be rejected; null if it would not.
        write: Lines for `opt_out.export` by which it would be read.
        questions: What the sample leaves open of them.
        nothing_taken: Why no row would be taken, and what to do; null if one would.
        lines: The first ten rows.
        reasons: The number of rejected rows, by reason.
        values: By attribute, the number of each value.
        ids: Different ids of the rows taken; at most 10,000 are counted.
    """

    problem: str | None
    write: list[str]
    questions: list[str]
    nothing_taken: str | None
    warnings: list[str]
    bytes: int
    zipped: bool
    date_layout: str | None
    lines: list[SampleLine]
    rows: int
    taken: int
    without_id: int
    rejected: int
    reasons: dict[str, int]
    values: dict[str, dict[str, int]]
    ids: int
    unused_columns: list[str]


def examine_sample(configuration: Configuration, path: Path) -> SampleDocument:
    """Read a file as configured. Raises SyncAssetsError: it cannot be opened, or no opt-out is mapped."""
    opt_out = configuration.config.opt_out
    if not opt_out.attributes:
        raise SyncAssetsError(
            "`opt_out.mappings` pairs no column with an opt-out attribute, so nothing is taken from any file.",
            "Write e.g. `mappings: {donotemail: blackListEmail}` below `opt_out`.",
        )
    sample, problem = _Sample(opt_out.attributes), None
    try:
        guess = guess_layout(path, layout(configuration.config))
        with path.open("rb") as stream:
            reader = Reader(stream, layout(configuration.config))
            try:
                for batch in reader:
                    sample.add(batch)
            except BadExport as error:
                # None of its rows would have an effect.
                sample, problem = _Sample(opt_out.attributes), error.cause if guess.write else str(error)
    except OSError as error:
        raise SyncAssetsError(f"{path} can't be read ({error.strerror}).", "Name another file with `--file`.") from None
    mismatches: list[str] = []
    if not opt_out.active:
        mismatches.append(
            f"`opt_out.direction` is {opt_out.direction}, so no file is read at all. Write `bidirectional` or "
            "`campaign_to_d365`."
        )
    if not fnmatch.fnmatchcase(path.name, opt_out.export.pattern):
        mismatches.append(
            f"The name of the file does not match `export.pattern` ({opt_out.export.pattern}), so it is not read from "
            "the SFTP. Change *Output file* in the Extract file activity, or the pattern."
        )
    return SampleDocument(
        problem=problem,
        write=guess.write,
        questions=guess.questions,
        nothing_taken=None if problem else sample.nothing_taken(opt_out.export.key_column),
        warnings=[*mismatches, *reader.warnings],
        bytes=reader.bytes_read,
        zipped=reader.zipped,
        date_layout=reader.date_layout,
        lines=sample.lines,
        **{kind: sample.rows[kind] for kind in ("rows", "taken", "without_id", "rejected")},
        reasons=dict(sample.reasons.most_common()),
        values=sample.values,
        ids=len(sample.ids),
        unused_columns=list(reader.unused_columns),
    )


class _Sample:
    """The sums of the rows read so far."""

    def __init__(self, attributes: list[str]) -> None:
        self.lines: list[SampleLine] = []
        self.rows, self.reasons = Counter[str](), Counter[str]()
        self.values = {name: {"true": 0, "false": 0, "empty": 0} for name in attributes}
        self.ids: dict[str, None] = {}

    def add(self, batch: Batch) -> None:
        taken, rejected = batch.valid, batch.rejected
        self.rows.update(rows=batch.rows, taken=taken.height, without_id=batch.foreign, rejected=rejected.height)
        self.reasons.update(rejected["reason"].to_list())
        for name, counts in self.values.items():
            for value, number in taken[name].value_counts().iter_rows():
                counts["empty" if value is None else str(value).lower()] += number
        if len(self.ids) < IDS:
            self.ids |= dict.fromkeys(taken["id"].unique(maintain_order=True).head(IDS - len(self.ids)))
        if len(self.lines) < LINES:
            self.lines += sorted(self._shown(batch), key=lambda row: row.line)[: LINES - len(self.lines)]

    def nothing_taken(self, key: str) -> str | None:
        """Return why no row would be taken, and what to do; None if one would. key: the name of the key's column."""
        if self.rows["taken"]:
            return None
        if not self.rows["rows"]:
            return (
                "The file has a header and no row. Change an opt-out of a profile in Campaign, let the workflow run, "
                "and name the file that it writes then."
            )
        if not self.rows["rejected"]:
            return (
                f"No row has an id in `{key}`. Name the column with the ids of contacts in `export.key_column`, or "
                "export profiles that come from Dynamics 365."
            )
        return "Each row is rejected or has no id. Mend what the reasons name, in the workflow or in `opt_out.export`."

    def _shown(self, batch: Batch) -> Iterator[SampleLine]:
        """Yield rows as shown. Neither taken nor rejected: without an id, so the profile is not from Dynamics 365."""
        for row in batch.valid.head(LINES).iter_rows(named=True):
            stated = [
                StatedOptOut(name, row[name], row[name + CHANGED_SUFFIX])
                for name in self.values
                if row[name] is not None
            ]
            yield SampleLine(line=row["line"], id=_masked(row["id"]), taken=stated)
        for line, id_, reason in batch.rejected.head(LINES).iter_rows():
            yield SampleLine(line=line, id=_masked(id_), rejected=reason)
        if batch.foreign:
            read = {*batch.valid["line"].to_list(), *batch.rejected["line"].to_list()}
            for line in [line for line in batch.lines if line not in read][:LINES]:
                yield SampleLine(line=line)


def _masked(id_: str | None) -> str | None:
    return id_ and f"{id_[:_ID_SHOWN]}…"


def show_sample(document: SampleDocument) -> Parts:
    """Show the first rows, a line each, then the sums and the warnings."""
    if document.problem:
        yield f"fail The whole file would be rejected. {document.problem}"
    if document.nothing_taken:
        yield f"fail No row would be taken. {document.nothing_taken}"
    yield from show_guess(document.write, document.questions)
    yield from (f"line {line.line}  {line.id or '-'}  {_effect(line)}" for line in document.lines)
    if not document.problem:
        yield from _sums(document)
    yield from (f"warn {warning}" for warning in document.warnings)


def show_guess(lines: list[str], questions: list[str]) -> Parts:
    """Show the lines to write for the layout of a file, and what the file leaves open."""
    if lines:
        yield "Write below `opt_out.export`:"
    yield from (f"    {line}" for line in lines)
    yield from (f"open {question}" for question in questions)


def _effect(line: SampleLine) -> str:
    if line.rejected:
        return f"rejected: {line.rejected}"
    if line.taken is None:
        return "passed over: it has no id, so the profile is not from Dynamics 365"
    stated = [
        f"{one.attribute} {str(one.opted_out).lower()} ({iso(one.changed_at) if one.changed_at else 'time unknown'})"
        for one in line.taken
    ]
    return f"taken: {', '.join(stated)}" if stated else "taken, but it states nothing: all its values are empty"


def _sums(document: SampleDocument) -> Parts:
    at_least = "at least " if document.ids == IDS else ""
    ids = f" (of {at_least}{counted(document.ids, 'different id')})" if document.ids else ""
    yield (
        f"{counted(document.rows, 'row')}: {document.taken:,} taken{ids}, "
        f"{document.without_id:,} without an id, {document.rejected:,} rejected; "
        f"times in the layout {document.date_layout or '- (there are none)'}"
    )
    for reason, number in document.reasons.items():
        yield f"rejected, {counted(number, 'row')}: {reason}"
    for name, values in document.values.items():
        yield f"{name}: {values['true']:,} true, {values['false']:,} false, {values['empty']:,} empty"
    yield f"columns not used: {', '.join(document.unused_columns) or 'none'}"
