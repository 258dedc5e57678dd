"""Write the files of a load to the Campaign SFTP, and remove them.

Each file is uploaded as its records are read, under a name that no pattern of a workflow takes, and renamed when it is
complete. Nothing of a record is kept on this machine. Names: `<table>_<load>_<number>.tsv`, with `.gz` if compressed.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sync_assets.bulk_load.file_rows import FileColumns, lines_of
from sync_assets.config.bulk_load import MEGABYTE, BulkLoad
from sync_assets.ledger import Ledger
from sync_assets.ledger.model import Load, LoadFile, LoadRow
from sync_assets.sftp.errors import FileGone, NoSuchFolder, SftpError

if TYPE_CHECKING:
    from sync_assets.config.environment import SftpSettings
    from sync_assets.sftp.client import Sftp

BATCH = 20_000
"""Records that are claimed and written at once: about 30 MB."""
SHARE = 3
"""A load takes at most a third of the room that is left."""
COMPRESSED = 4
"""How much smaller a compressed file is: assumed until the first one is written."""


def connected(server: SftpSettings) -> AbstractContextManager[Sftp]:
    """Return the context of a connection, see `sftp.client.connect`: most processes load nothing by file."""
    from sync_assets.sftp.client import connect  # paramiko  # noqa: PLC0415

    return connect(server)


@dataclass(slots=True)
class LoadFiles:
    """The files of one table's loads.

    licensed_mb: the size of the SFTP as licensed; None if its server says it.
    """

    ledger: Ledger
    sftp: Sftp
    settings: BulkLoad
    columns: FileColumns
    licensed_mb: int | None = None

    def write(self, load: Load, until: float, progress: Callable[[int], None]) -> tuple[bool, bool]:
        """Write further files of a load until nothing is left, no room is left, or the time is up.

        Args:
            load: in the state WRITING.
            until: by the monotonic clock.
            progress: called with the number of records in files.

        Returns:
            True if the files are complete, and True if they leave records to another load.

        Raises:
            LoadMoved, SftpError.
        """
        self.sftp.make_folders(self.settings.directory)
        files = self.ledger.loads.files(load.table)
        room = room_for(self.ledger, self.sftp, self.settings, self.licensed_mb, sum(file.size for file in files))
        after = files[-1].last_seq if files else 0
        while True:
            if room is not None and sum(file.size for file in files) + self._next_size(files) > room:
                if not files:
                    raise SftpError(
                        f"The Campaign SFTP has no room for a file of {load.table}: a third of what is left is "
                        f"{room / MEGABYTE:,.0f} MB.",
                        "Delete old files there, or lower bulk_load.file_mb.",
                    )
                return True, self.ledger.loads.first_inserts(load.table) > 0
            rows = self._rows(load, after)
            if not rows:
                return True, False
            file = self._write(load, len(files) + 1, rows, progress, sum(file.rows for file in files))
            after = file.last_seq
            if file.rows:
                self.ledger.loads.add_file(load, file)
                files.append(file)
            else:  # no line can hold its records
                self.sftp.remove(self.settings.directory, file.name)
            if time.monotonic() > until:
                return False, False

    def _write(
        self, load: Load, number: int, rows: list[LoadRow], progress: Callable[[int], None], before: int
    ) -> LoadFile:
        """Write one file. rows: its first records. before: records in the files before."""
        written, last = 0, rows[-1].seq

        def lines() -> Iterator[bytes]:
            nonlocal rows, written, last
            size = len(self.columns.header)
            yield self.columns.header
            while rows and size < self.settings.file_mb * MEGABYTE:
                text, left_out = lines_of(rows, self.columns)
                if left_out:
                    self.ledger.loads.leave_out(load, left_out)
                size, last = size + len(text), rows[-1].seq
                written += len(rows) - len(left_out)
                yield text
                progress(before + written)
                rows = self._rows(load, last) if size < self.settings.file_mb * MEGABYTE else []

        name, size = put_lines(self.sftp, self.settings, f"{load.table}_{load.name}_{number}", lines())
        return LoadFile(number, name, written, size, last)

    def _rows(self, load: Load, after: int) -> list[LoadRow]:
        return self.ledger.loads.next_rows(load, after, BATCH, self.columns.opt_outs)

    def _next_size(self, files: list[LoadFile]) -> float:
        """Return the size that the next file may have."""
        packed = COMPRESSED if self.settings.compress == "gz" else 1
        return max((file.size for file in files), default=self.settings.file_mb * MEGABYTE / packed)


def room_for(ledger: Ledger, sftp: Sftp, settings: BulkLoad, licensed_mb: int | None, own: int = 0) -> float | None:
    """Return the bytes that the files of a load may take, of which `own` are taken; None: not known."""
    storage = sftp.room(settings.directory, licensed_mb)
    if storage:
        ledger.events.note("sftp", {"room": asdict(storage) | {"at": datetime.now(UTC).isoformat()}})
    return None if storage is None else (storage.size - storage.used + own) / SHARE


def put_lines(sftp: Sftp, settings: BulkLoad, name: str, lines: Iterator[bytes]) -> tuple[str, int]:
    """Upload a file, compressed as configured, and rename it when it is complete. Return its name and size in bytes."""
    full, pieces = f"{name}.tsv", lines
    if settings.compress == "gz":
        full, pieces = f"{full}.gz", _compressed(lines)
    return full, sftp.put_stream(settings.directory, full, f".{name}.part", pieces)


def remove_files(
    sftp: Sftp, settings: BulkLoad, table: str, load: str | None = None, *, but: Collection[str] = ()
) -> list[str]:
    """Remove the files of a load but these, complete ones and others; return their names. load: None for all loads."""
    removed = list[str]()
    for name in files_of(sftp, settings, table):
        if (load is None or load in name) and name not in but:
            with suppress(FileGone):  # the workflow may delete it itself
                sftp.remove(settings.directory, name)
            removed.append(name)
    return removed


def files_of(sftp: Sftp, settings: BulkLoad, table: str) -> list[str]:
    """Return the names of all files of a table's loads, also of those that are not complete."""
    of_load = re.compile(rf"\.?{re.escape(table)}_\d{{8}}T\d{{6}}Z_\d+\.(tsv|tsv\.gz|part)")
    try:
        found = sftp.listing(settings.directory, f"*{table}_*").files
    except NoSuchFolder:
        return []
    return [file.name for file in found if of_load.fullmatch(file.name)]


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    packing = zlib.compressobj(6, wbits=31)
    for piece in pieces:
        if packed := packing.compress(piece):
            yield packed
    yield packing.flush()
