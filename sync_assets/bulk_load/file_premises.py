"""Try the way by file when a tenant is certified: a file of synthetic records, which the table's workflow imports.

The workflow for updates gets a file that changes a text of the table's synthetic record, with a line of an id that
Campaign does not have: a workflow that inserts it would insert again a person who was deleted. All records are removed
with the others of the certification. Where a link is required, a file has one record: if the import does not set the
link, Campaign hides the record, and nothing can remove it.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from sync_assets.audit.certification.synthetic_record import NOTICE, ROWS, Subject, synthetic_id
from sync_assets.audit.value_comparison import differing, leaves
from sync_assets.bulk_load.file_rows import SAMPLES, FileColumns, lines_of
from sync_assets.bulk_load.files import connected, files_of, put_lines, remove_files
from sync_assets.campaign.client import CampaignClient
from sync_assets.campaign.workflows import IMPORT, start, stop, workflow_status
from sync_assets.config.bulk_load import BulkLoad
from sync_assets.config.environment import SftpSettings
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.model import LinkTo, LoadRow
from sync_assets.mapping.refusable import updated_paths
from sync_assets.push.record_links import linked_pkey
from sync_assets.push.target import Target
from sync_assets.runtime.context import Runtime
from sync_assets.sftp.errors import SftpError
from sync_assets.words import counted

RUN_SECONDS, LOOK_SECONDS, QUEUED_SECONDS = 120.0, 0.2, 30.0
"""How long a run may take, and between two looks; after the last one a final status counts that no run came before."""
FILE, HIDDEN = "a file of synthetic records", "a record that a file hides"
UPDATE, VALUES = "an update by file", "values and links of a file"
_CORRECT = "Correct the workflow as docs/bulk-load.md describes, or leave the table out of `bulk_load.workflows`."


async def try_file(runtime: Runtime, subject: Subject) -> None:
    """Let the table's workflows import files, if the configuration names any, and report what Campaign holds then.

    Raises CampaignRefused, OutcomeUnknown.
    """
    settings, table = runtime.config.bulk_load or BulkLoad(), subject.config.table
    if workflow := settings.workflows.get(table):
        target = Target.of(runtime.config, subject.config, subject.resource)
        probe = _Probe(subject, FileColumns.of(subject.config, subject.resource, target.opt_outs))
        subject.rows = ROWS
        ended = await _imported(runtime, subject, workflow, FILE, probe.lines())
        if ended is not None:
            await probe.report(ended)
            for pkey in subject.made - {subject.pkey}:
                await subject.delete(pkey)
        if ended in ("finished", "error"):  # else its records may come later
            subject.rows = 0
    paths = settings.updated(table, updated_paths(subject.config))
    if paths and (workflow := settings.update_workflows.get(table)):
        await _try_update(runtime, subject, workflow, paths)


async def _try_update(runtime: Runtime, subject: Subject, workflow: str, paths: Sequence[str]) -> None:
    """Let the workflow for updates change a text of the synthetic record."""
    types = {path: attribute.type for path in paths if (attribute := subject.writable(path))}
    texts = sorted(path for path, type_ in types.items() if type_ == "string")
    text = next((path for path in texts if path.endswith(".city")), texts[0] if texts else None)
    if text is None:
        subject.report(UPDATE, "no text is mapped", "They are verified by list after each file.", "not tried")
        return
    value = NOTICE[: subject.resource.attributes[text].length]
    form, former = msgspec.json.encode({text: value}).decode(), subject.rows
    unknown = None if _may_hide(subject) else synthetic_id(subject.config.table, former + 1)
    rows = [LoadRow(0, id_, form, (), ()) for id_ in (subject.id, unknown) if id_]
    columns = FileColumns(subject.config.key, tuple(paths), (), (), types)
    lines = columns.header + lines_of(rows, columns)[0]
    subject.rows += 1  # so that it is removed whatever happens
    ended = await _imported(runtime, subject, workflow, UPDATE, lines)
    inserted = unknown is not None and ended is not None and await _inserted(subject, unknown)
    if ended in (None, "finished", "error"):  # else the record may come later
        subject.rows = former
    if ended is None:
        return
    record = await subject.read()
    stored = isinstance(record, dict) and not differing({text: value}, record, subject.resource)
    found = f"{text} {'is' if stored else 'is not'} stored as written; the workflow: {ended}"
    found += "; it inserts records that do not exist" if inserted else ""
    if stored and ended == "finished" and not inserted:
        subject.report(UPDATE, found, f"One file a day brings {', '.join(paths)}.")
    else:
        subject.report(UPDATE, found, _CORRECT.replace("workflows", "update_workflows"), "not workable")


async def _inserted(subject: Subject, id_: str) -> bool:
    """Return True if Campaign has a record of this id, or may have one; remove it."""
    found = await subject.records(subject.addressing).find(id_)
    if not isinstance(found, dict):
        return found.kind != "missing"
    subject.made.add(pkey := str(found.get("PKey") or ""))
    await subject.delete(pkey)
    return True


def _may_hide(subject: Subject) -> bool:
    """Return True if Campaign hides a record whose link is empty."""
    return any(link.required is not False for link in subject.links)


async def _imported(runtime: Runtime, subject: Subject, workflow: str, premise: str, lines: bytes) -> str | None:
    """Return how the import of a file ended, and remove it; None if it was not tried, which is reported."""
    settings, table = runtime.config.bulk_load or BulkLoad(), subject.config.table
    try:
        server, in_use = runtime.settings.sftp(), ""
        if await workflow_status(subject.client, workflow, IMPORT) in ("started", "warning"):
            in_use = f"the workflow {workflow} is at work, or paused"
        elif runtime.ledger.loads.unfinished(table) or await asyncio.to_thread(_has_files, server, settings, table):
            in_use = f"{settings.directory} holds files of a load"
        if in_use:
            subject.report(premise, in_use, "Nothing was written. Certify again when it has ended.", "not tried")
            return None
        try:
            await asyncio.to_thread(_replace, server, settings, table, lines)
            return await _run(subject.client, workflow)
        finally:
            await asyncio.to_thread(_replace, server, settings, table)
    except SftpError as error:
        subject.report(premise, str(error), _CORRECT, "not workable")
        return None


def _has_files(server: SftpSettings, settings: BulkLoad, table: str) -> bool:
    with connected(server) as sftp:
        return bool(files_of(sftp, settings, table))


def _replace(server: SftpSettings, settings: BulkLoad, table: str, lines: bytes = b"") -> None:
    """Remove the table's files, and write one with these lines if there are any."""
    with connected(server) as sftp:
        remove_files(sftp, settings, table)
        if lines:
            sftp.make_folders(settings.directory)
            put_lines(sftp, settings, f"{table}_{datetime.now(UTC):%Y%m%dT%H%M%SZ}_1", iter([lines]))


async def _run(client: CampaignClient, workflow: str) -> str:
    """Start the workflow, and return how it ended; it is stopped if it does not end."""
    began, seen = time.monotonic(), False
    await start(client, workflow, IMPORT)
    while (elapsed := time.monotonic() - began) < RUN_SECONDS:
        status = await workflow_status(client, workflow, IMPORT)
        seen |= status == "started"
        if status == "warning" or (status in ("finished", "error") and (seen or elapsed > QUEUED_SECONDS)):
            break
        await asyncio.sleep(LOOK_SECONDS)
    else:
        status = "not ended"
    if status in ("warning", "not ended"):
        with suppress(SyncAssetsError):
            await stop(client, workflow, IMPORT)
    return {"warning": "paused", "not ended": f"not ended after {RUN_SECONDS:.0f} s"}.get(status, status)


@dataclass(slots=True)
class _Probe:
    """The records of one file."""

    subject: Subject
    columns: FileColumns

    @property
    def ids(self) -> list[str]:
        """The ids of the records: all in turn with values and with empty cells, one where a link is required."""
        rows = 1 if _may_hide(self.subject) else ROWS
        return [synthetic_id(self.subject.config.table, number) for number in range(1, rows + 1)]

    def lines(self) -> bytes:
        """Return the file, uncompressed."""
        links = tuple(LinkTo(name, self.subject.parents[name].id, keyed=True) for name in self.columns.links)
        rows = [
            LoadRow(at, id_, msgspec.json.encode(self._values(at)).decode(), links, self._opt_outs(at))
            for at, id_ in enumerate(self.ids)
        ]
        return self.columns.header + lines_of(rows, self.columns)[0]

    def _values(self, at: int) -> dict[str, Any]:
        own, types = dict(leaves(self.subject.body())), self.columns.types
        # A text may reach people, so only the names and what is mandatory has one.
        samples = {path: SAMPLES.get(types.get(path, "")) for path in self.columns.fields} if at % 2 == 0 else {}
        return {path: own.get(path) or samples.get(path) for path in self.columns.fields}

    def _opt_outs(self, at: int) -> tuple[tuple[str, bool], ...]:
        return tuple((name, at % 2 == 0) for name in self.columns.opt_outs)

    async def report(self, ended: str) -> None:
        """Read the records, and report what Campaign holds of them."""
        subject, shown, wrong = self.subject, set[int](), set[str]()
        records = subject.records(subject.addressing)
        for at, id_ in enumerate(self.ids):
            if isinstance(found := await records.find(id_), dict):
                shown.add(at)
                subject.made.add(str(found.get("PKey") or ""))
                wrong.update(self._wrong(at, found))
        found = f"{len(shown)} of {counted(len(self.ids), 'record')} imported; the workflow: {ended}"
        works = len(shown) == len(self.ids) and ended == "finished"
        way = "First inserts beyond `bulk_load.above` go by file." if works else _CORRECT
        subject.report(FILE, found, way, "workable" if works else "not workable")
        if wrong:
            text = f"not stored as written: {', '.join(sorted(wrong))}"
            subject.report(VALUES, text, f"These records go by REST after the load. {_CORRECT}", "not workable")
        elif shown:
            subject.report(VALUES, "stored as written", "They are verified by list after each load.")
        hidden = await self._hidden([id_ for at, id_ in enumerate(self.ids) if at not in shown])
        subject.hidden |= hidden > 0
        way = "Nothing is hidden." if not hidden else f"Nothing can remove them. {_CORRECT}"
        subject.report(HIDDEN, f"{hidden or 'none'} hidden", way, "not workable" if hidden else "workable")

    def _wrong(self, at: int, record: Mapping[str, Any]) -> Iterator[str]:
        """Yield what Campaign does not hold as written."""
        values = self._values(at)
        for name in differing(values, record, self.subject.resource):
            yield f"{name} if empty" if values[name] in (None, "") else name
        for name in self.columns.links:
            if linked_pkey(record, name) != self.subject.parents[name].pkey:
                yield name
        for name, wanted in self._opt_outs(at):
            if bool(record.get(name)) != wanted:
                yield name

    async def _hidden(self, ids: list[str]) -> int:
        """Count the records that Campaign has and does not show: it refuses to insert them again."""
        hidden, subject = 0, self.subject
        for id_ in ids if subject.addressing.is_unique else ():
            answer = await subject.addressed.insert(msgspec.json.encode(subject.body() | {subject.config.key: id_}))
            hidden += answer.kind != "done"
            if answer.pkey:
                subject.made.add(answer.pkey)
        return hidden
