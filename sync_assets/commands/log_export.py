"""Export what the program did as JSON lines, one file a day, to the Campaign SFTP. No personal data.

The file is built from the ledger, so it is the same whichever machine writes it; a later file of the same day replaces
it, and covers the whole day so far. Each line is an object with `kind`:

    log         day, at (when the file was written), version of the program
    table       its counts, the change feed's position, the day's engine calls
    reason      a reason for which records of a table are rejected, ids taken out, and how many
    rejected    one rejected record: table, id, reason, since, attempts; at most MOST_REJECTED of them
    opt_out     what was done with opt-outs that day, and what is left
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from itertools import islice
from typing import Any

from sync_assets.checks.rules import Finding, fail, ok
from sync_assets.commands.rejects import rejects
from sync_assets.commands.status import CALL_KINDS, status
from sync_assets.commands.values import builtins
from sync_assets.errors import SyncAssetsError
from sync_assets.ledger.times import iso
from sync_assets.runtime.configuration import Configuration
from sync_assets.runtime.context import Runtime
from sync_assets.words import counted

MOST_REJECTED = 10_000
NAME = re.compile(r"sync_assets_(\d{4}-\d{2}-\d{2})\.jsonl")


def export_log(runtime: Runtime) -> str:
    """Write today's file and remove files that are too old; return its name. Raises SyncAssetsError."""
    from sync_assets.sftp.client import connect  # paramiko is slow to import  # noqa: PLC0415

    now, logs = datetime.now(UTC), runtime.config.logs
    name = f"sync_assets_{now.date()}.jsonl"
    content = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in entries(runtime, now)).encode()
    with connect(runtime.settings.sftp()) as sftp:
        sftp.put(logs.folder, name, content)
        for file in sftp.listing(logs.folder, "sync_assets_*.jsonl").files:
            if too_old(file.name, now.date() - timedelta(days=logs.keep_days)):
                sftp.remove(logs.folder, file.name, file)
    return name


def too_old(name: str, oldest: date) -> bool:
    """Return True if a file, by its name, is one of ours and of a day before `oldest`."""
    match = NAME.fullmatch(name)
    try:
        return bool(match) and date.fromisoformat(match[1]) < oldest
    except ValueError:
        return False


def entries(runtime: Runtime, now: datetime) -> Iterator[dict[str, Any]]:
    """Yield the lines of today's file."""
    day, document = now.astimezone(UTC).date(), builtins(status(runtime))
    yield {"kind": "log", "day": day.isoformat(), "at": iso(now), "version": version("sync_assets")}
    for table, counts in document["tables"].items():
        calls = runtime.ledger.counts.numbers("engine_calls", day, table=table)
        counted = {kind: calls[kind] for kind in CALL_KINDS}
        yield {"kind": "table", "table": table, **counts, "engine_calls": counted}
    for table in document["tables"]:
        for reason, records in runtime.ledger.reports.reject_reasons(table):
            yield {"kind": "reason", "table": table, "reason": reason, "records": records}
    for reject in islice(rejects(runtime.ledger, None), MOST_REJECTED):
        yield {"kind": "rejected", **builtins(reject)}
    yield {"kind": "opt_out", **document["opt_out"]}


def examine_log_folder(configuration: Configuration) -> list[Finding]:
    """Return the finding of `doctor` whether the SFTP accepts our sign-in. Writes nothing."""
    from sync_assets.sftp.client import connect  # paramiko  # noqa: PLC0415
    from sync_assets.sftp.errors import NoSuchFolder  # paramiko  # noqa: PLC0415

    logs, title = configuration.config.logs, "logs: Campaign SFTP"
    try:
        with connect(configuration.settings.sftp()) as server:
            try:
                files = sum(bool(NAME.fullmatch(file.name)) for file in server.listing(logs.folder, "*").files)
            except NoSuchFolder:
                return [ok(title, f"signed in; {logs.folder} is made with the first file")]
    except SyncAssetsError as error:
        return fail(title, error)
    return [ok(title, f"signed in, {counted(files, 'file')} in {logs.folder}")]
