"""The file of `plan --out`: which records `sync --plan` may send, and as what. It holds no values.

    {"sync_assets_plan": 1, "ledger": …, "records": {"contact": {"insert": 2, …}}, …}      PlanHeader
    ["contact", "<id>", "insert", "<keyed hash>"]                                          a line for each record
    {"seal": "<keyed hash of all lines before>"}

It is written and read as a stream, since a first load has millions of records. The hashes are keyed with a secret of
the ledger (ledger/records/planned.py): a plain hash of a value can be guessed, and anyone can make one.
"""

import hmac
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import msgspec

from sync_assets.checks.preflight import set_up
from sync_assets.config.files import write_whole
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import LedgerError, SessionExpired
from sync_assets.ledger.model import Claimed
from sync_assets.ledger.records.planned import Planned, PlannedLeft
from sync_assets.runtime import interruptible
from sync_assets.runtime.context import Runtime
from sync_assets.runtime.systems import NAMES, VARIABLES, same_address
from sync_assets.task_group import run_together

VERSION = 1
_LONGEST = 1_000_000
"""Bytes of the longest line: the header, with all tables."""
_AT_ONCE = 100_000
"""Records that are stored in one transaction. They come in no order, so fewer write each page of the table often."""
_SEAL = b'{"seal":"'
_RECORD = msgspec.json.Decoder(tuple[str, str, str, str])


class PlanHeader(msgspec.Struct, frozen=True):
    """The first line of a plan file.

    ledger: its id. d365, campaign: URLs. mappings: the fingerprint of each table's mapping. records: by table and
    operation; `read`: looked up alone; `reject`: without a request.
    """

    sync_assets_plan: int
    made_at: datetime
    ledger: str
    d365: str | None
    campaign: str | None
    mappings: dict[str, str]
    records: dict[str, dict[str, int]]


class PlanWriter:
    """Writes a plan file: first the records, to an unnamed file in the same folder, then the whole. Close it."""

    def __init__(self, path: Path, ledger: Ledger, systems: tuple[str | None, str | None]) -> None:
        """Begin a plan of a ledger. systems: the addresses of Dynamics 365 and Campaign.

        Raises SyncAssetsError if there is such a file, or if it cannot be written.
        """
        if path.exists():
            raise SyncAssetsError(f"{path} exists, and may have been approved.", "Name another file, or delete it.")
        self._path, self._planned, self._of_ledger = path, ledger.planned, (ledger.systems.identity(), *systems)
        self._counts = defaultdict[str, Counter[str]](Counter)
        try:
            self._lines: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - see `close`
        except OSError as error:
            cause = f"No file can be written in {path.absolute().parent}: {error.strerror}."
            raise SyncAssetsError(cause, "Name a file in another folder.") from None
        self.close = self._lines.close

    def add(self, table: str, record: Claimed, operation: str) -> None:
        """Add a record, with the operation that the plan shows."""
        self._counts[table][operation] += 1
        line = (table, record.id, operation, self._planned.hash(table, record).hex())
        self._lines.write(msgspec.json.encode(line) + b"\n")

    def write(self, mappings: Mapping[str, str]) -> None:
        """Write the file, readable by its owner only. mappings: the fingerprint of each planned table."""
        records = {table: dict(counts) for table, counts in self._counts.items()}
        header = PlanHeader(VERSION, datetime.now(UTC), *self._of_ledger, dict(mappings), records)
        write_whole(self._path, self._pieces(msgspec.json.encode(header) + b"\n"))

    def _pieces(self, header: bytes) -> Iterator[bytes]:
        seal = self._planned.seal()
        self._lines.seek(0)
        for piece in chain([header], iter(partial(self._lines.read, _LONGEST), b"")):
            seal.update(piece)
            yield piece
        yield _last_line(seal)


def _last_line(seal: Any) -> bytes:
    return _SEAL + seal.hexdigest().encode() + b'"}\n'


@contextmanager
def approved(runtime: Runtime, path: Path) -> Iterator[tuple[Runtime, list[str], Callable[[], PlannedLeft]]]:
    """Check a plan file, and yield a runtime whose claims take its records only, its tables, and what is left of it.

    Raises SyncAssetsError, before any engine call, if the file is damaged, or of another ledger, system or mapping.
    """
    with closing(runtime.using()) as owner:  # the plan lives as long as its session
        owner.access.check_not_older()
        planned, session = owner.ledger.planned, owner.session.epoch
        try:
            with path.open("rb") as file:
                first = file.readline(_LONGEST)
                header = _header(path, first)
                _check(owner, path, header)
                _load(path, first, file, planned, session)
        except OSError as error:
            raise SyncAssetsError(f"{path} cannot be read: {error.strerror}.") from None
        tables = list(header.mappings)

        def left() -> PlannedLeft:
            if owner.session.epoch != session:
                raise SessionExpired
            return planned.left(session, tables)

        try:
            with closing(runtime.using(plan=session)) as limited:
                yield limited, tables, left
        finally:
            with suppress(LedgerError):  # else the next session does
                planned.forget(session)


def _header(path: Path, line: bytes) -> PlanHeader:
    with suppress(msgspec.DecodeError):
        header = msgspec.json.decode(line, type=PlanHeader)
        if header.sync_assets_plan == VERSION:
            return header
    raise _unusable(f"{path} is not a plan file of this version.")


def _unusable(cause: str) -> SyncAssetsError:
    return SyncAssetsError(cause, "Nothing was sent. Approve a new plan: `sync-assets plan --out FILE`.")


def _check(runtime: Runtime, path: Path, header: PlanHeader) -> None:
    """Raise SyncAssetsError if ledger, systems or mapping are others than those of the plan."""
    ledger, config = runtime.ledger, runtime.config
    if (identity := ledger.systems.identity()) != header.ledger:
        raise _unusable(f"{path} is a plan for the ledger {header.ledger}, and {ledger.where} is {identity}.")
    for side, now, then in zip(NAMES, runtime.settings.links(), (header.d365, header.campaign), strict=True):
        if not same_address(now or "", then or ""):
            raise _unusable(f"{path} is a plan for {NAMES[side]} at {then}, and {VARIABLES[side]} names {now}.")
    mapped = {one.table: one for one in config.tables}
    if missing := header.mappings.keys() - mapped.keys():
        raise _unusable(f"{path} is a plan for {', '.join(sorted(missing))}, which the configuration does not map.")

    async def fingerprints() -> tuple[str, ...]:
        ready = await run_together(*(set_up(runtime, mapped[table]) for table in header.mappings))
        return tuple(one.mapping.fingerprint for one in ready)

    now = zip(header.mappings.items(), interruptible.run(fingerprints()), strict=True)
    if others := [table for (table, then), fingerprint in now if then != fingerprint]:
        raise _unusable(f"{path} was made with another mapping of {', '.join(others)}.")


def _load(path: Path, first: bytes, file: IO[bytes], planned: Planned, session: int) -> None:
    """Read the records after the header into the ledger, as the plan of a session. Raises SyncAssetsError."""
    seal, rows = planned.seal(), list[tuple[str, str, bytes]]()
    seal.update(first)
    for line in iter(partial(file.readline, _LONGEST), b""):
        if line.startswith(_SEAL):
            if not hmac.compare_digest(line, _last_line(seal)) or file.read(1):
                break
            planned.add(session, rows)
            return
        seal.update(line)
        try:
            table, id_, _, hashed = _RECORD.decode(line)
            rows.append((table, id_, bytes.fromhex(hashed)))
        except ValueError:  # msgspec's are ValueErrors, too
            break
        if len(rows) == _AT_ONCE:
            planned.add(session, rows)
            rows.clear()
    raise _unusable(f"{path} was changed, or is not complete.")
