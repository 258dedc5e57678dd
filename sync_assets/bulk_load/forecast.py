"""Forecast first inserts by file beside those by REST, for `plan` and `estimate`. Pure.

Known: records, loads, and the reads of Campaign's list. Estimated: sizes. Assumed: the paces below. Not known: how long
the workflow takes, of which no source names a figure.
"""

import math
import zlib
from collections.abc import Sequence

import msgspec

from sync_assets.audit.record_list import PAGE, pages_for
from sync_assets.bulk_load.file_rows import FileColumns, lines_of
from sync_assets.bulk_load.files import COMPRESSED
from sync_assets.capture.backlog_limit import MOST_PENDING
from sync_assets.config.bulk_load import MEGABYTE, BulkLoad
from sync_assets.config.models import TableConfig
from sync_assets.ledger.model import LoadRow

WRITTEN_A_SECOND = 10_000
"""Records that are written to files: half of what was measured with the sandbox on two cores."""
READ_SECONDS = 1.0
"""Of one page of 500 records of Campaign's list, one after the other: assumed."""
VALUE_BYTES, ID_BYTES, FLAG_BYTES = 12, 37, 2
"""Of a mapped column, an id and an opt-out in a line, with the tab: assumed for `estimate`, which reads no row."""


class ByFile(msgspec.Struct, frozen=True, kw_only=True):
    """First inserts of a table that go by file, and what they would take by REST.

    Attributes:
        loads: One after the other, each with the records that may be pending; more if the SFTP has less room.
        bytes: Of all files on the SFTP, estimated; a load's own files are removed at its end.
        engine_calls: Reads of Campaign's list after each load.
        hours: To write the files, and for these reads, by assumed paces. The workflow's time is not known.
    """

    records: int
    loads: int
    files: int
    bytes: int
    engine_calls: int
    hours: float
    rest_engine_calls: int
    rest_hours: float


class FileSize(msgspec.Struct, frozen=True):
    """The size of a record in a file, in bytes. packed: as uploaded."""

    line: float
    packed: float


def size_of_columns(table: TableConfig, opt_outs: int, settings: BulkLoad) -> FileSize:
    """Return the size by the number of columns alone."""
    links = sum(link.style != "join" for link in table.links)
    values = len(table.fields) + len(table.links) - links
    line = ID_BYTES * (1 + links) + VALUE_BYTES * values + FLAG_BYTES * opt_outs
    return FileSize(line, line / COMPRESSED if settings.compress == "gz" else line)


def size_of_sample(rows: Sequence[LoadRow], columns: FileColumns, settings: BulkLoad) -> FileSize:
    """Return the average size of some records."""
    text, _ = lines_of(rows, columns)
    packed = zlib.compress(text) if settings.compress == "gz" else text
    return FileSize(len(text) / max(1, len(rows)), len(packed) / max(1, len(rows)))


def reads_of_loads(before: int, records: int, *, newest: bool = True, unique: bool = True) -> int:
    """Return the reads of the lists after the loads of so many records.

    before: records of the resource before the first load. newest: Campaign sorts by `created`, so that a list ends with
    a page of records made before its load; else each has all that Campaign holds then. unique: keys are known to be.
    """
    reads = 0
    for start in range(0, records, MOST_PENDING):
        size, others = min(MOST_PENDING, records - start), before + start
        ends_early = newest and others > PAGE
        reads += pages_for(size) + 1 if ends_early else pages_for(others + size)
        reads += ends_early and not unique
        unique |= ends_early  # the first one has found that out
    return reads


def forecast(
    records: int, size: FileSize, settings: BulkLoad, reads: tuple[int, float], rest: tuple[int, float]
) -> ByFile:
    """Return the two ways. reads: by file, and the hours that the guardrails allow them in. rest: the same by REST."""
    seconds = records / WRITTEN_A_SECOND + max(reads[0] * READ_SECONDS, 3600 * reads[1])
    of_a_load = min(records, MOST_PENDING) * size.line / (settings.file_mb * MEGABYTE)
    loads = math.ceil(records / MOST_PENDING)
    return ByFile(
        records=records,
        loads=loads,
        files=loads * max(1, math.ceil(of_a_load)),
        bytes=round(records * size.packed),
        engine_calls=reads[0],
        hours=round(seconds / 3600, 2),
        rest_engine_calls=rest[0],
        rest_hours=round(rest[1], 2),
    )


def both_ways(table: str, both: ByFile) -> str:
    """Return the sentence on a table whose first inserts go by file."""
    plural = "s" if both.loads > 1 else ""
    return (
        f"{table}: {both.records:,} first inserts go by file, in {both.loads:,} load{plural}. By file: "
        f"{both.engine_calls:,} engine calls, {both.files:,} files with some {both.bytes / MEGABYTE:,.1f} MB on the "
        f"SFTP, {both.hours:,.2f} hours and the workflow's own time, which is not known. By REST: "
        f"{both.rest_engine_calls:,} engine calls, {both.rest_hours:,.2f} hours. Assumed: {WRITTEN_A_SECOND:,} records "
        f"a second into files, {READ_SECONDS:g} s for a page of the list, which Campaign sorts by the time of creation."
    )
