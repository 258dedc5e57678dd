"""Helpers for tests of opt-outs: configuration, values on both sides, export files, writes."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from sync_assets.ledger.repositories.opt_out_decisions import OptOutDecision
from sync_assets.ledger.repositories.opt_out_files import OptOutFile
from sync_assets_tests.support import plain_runs
from sync_assets_tests.support.program import Program

MAPPINGS: dict[str, Any] = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}
EXPORT: dict[str, Any] = {"settle_seconds": 0}


def switch_on(program: Program, direction: str, **export: Any) -> Program:
    """Configure opt-outs. export: options of the export file."""
    program.opt_out = {"direction": direction, "mappings": dict(MAPPINGS), "export": EXPORT | export}
    return program


def exports(program: Program) -> Path:
    """Return the folder of export files on the disk of the SFTP server."""
    return Path(program.sandbox.env["CAMPAIGN_SFTP_PRIVATE_KEY"]).parent / "sftp" / "d365_loads" / "exports"


def write_file(
    program: Program, text: str | bytes, name: str | None = None, *, modified: datetime | None = None
) -> str:
    """Write an export file as an upload does, and return its name. modified: its time, default now."""
    name = name or f"optout_{datetime.now(UTC):%Y%m%d_%H%M%S}.csv"
    path = exports(program) / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    if modified is not None:
        os.utime(path, (modified.timestamp(), modified.timestamp()))
    return name


HEADER = "externalId,blackListEmail,blackListEmailLastModified,blackListPhone,blackListPhoneLastModified\n"
EARLIER, LATER = "2026-11-01T10:00:00.000Z", "2026-11-02T10:00:00.000Z"


def says(id_: str, email: object = 1, at: str = EARLIER) -> str:
    """Return a row of a file that states blackListEmail, and leaves blackListPhone empty."""
    return f"{id_},{email},{at},,\n"


def clear(program: Program) -> None:
    """Remove all files of the folder, including archived ones."""
    for path in sorted(exports(program).rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()


def while_slow(program: Program, action: Callable[[], object], **fault: Any) -> threading.Thread:
    """Call `action` in a thread while a request is delayed: the first one that matches a fault. Join the thread.

    fault: members of the rule, such as `system`, `path`, `skip`.
    """
    admin = program.sandbox.admin
    rule = admin.fault(kind="slow", times=1, delay_ms=800, **fault)

    def wait() -> None:
        for _ in range(1000):
            if any(known["id"] == rule and known["fired"] for known in admin.fault_rules()):
                action()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def known_files(program: Program) -> dict[str, OptOutFile]:
    """Return the files in the ledger by name; if several have the same name, the last one."""
    with closing(program.runtime()) as runtime:
        return {file.name: file for file in runtime.ledger.opt_out_files.files()}


def rejected_rows(program: Program, name: str) -> list[dict[str, Any]]:
    """Return the rejected rows of a file from the ledger."""
    with closing(program.runtime()) as runtime:
        [partition] = [file.partition for file in runtime.ledger.opt_out_files.files() if file.name == name]
        return [row._asdict() for row in runtime.ledger.opt_out_decisions.rejected_rows(partition)]


def checks(asset: str = "campaign/opt_out_export") -> dict[str, dg.AssetCheckResult]:
    """Return the check results of the last run of an asset in this process, by name."""
    return plain_runs.CHECKS[dg.AssetKey(asset.split("/"))]


def audit(program: Program) -> list[OptOutDecision]:
    """Return all decisions so far, oldest first."""
    with closing(program.runtime()) as runtime:
        return runtime.ledger.opt_out_decisions.decisions()[::-1]


def opted_in(program: Program) -> Iterator[str]:
    """Yield contacts without any mapped opt-out, so that each test can take its own."""
    for row in sorted(program.sandbox.admin.dump_d365(), key=lambda row: row["contactid"]):
        if not any(row[column] for column in MAPPINGS):
            yield row["contactid"]


def set_d365(program: Program, id_: str, **values: bool | None) -> None:
    program.sandbox.admin.change("contact", [id_], **values)


def set_campaign(program: Program, id_: str, changed: datetime | None = None, **values: bool) -> None:
    """Set opt-outs in Campaign as a marketer does. changed: time of the change, default now."""
    document: dict[str, Any] = {"resource": "profile", "pkeys": [program.profiles()[id_]["PKey"]]}
    if changed is None:
        program.sandbox.admin.post("/campaign/change", document | {"set": values})
    else:
        times = {f"{name}LastModified": _time(changed) for name in values}
        program.sandbox.admin.post("/campaign/change", document | {"raw": {**values, **times}})


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}Z"


def in_d365(program: Program, id_: str) -> dict[str, Any]:
    [row] = [row for row in program.sandbox.admin.dump_d365() if row["contactid"] == id_]
    return row


def opted_out(program: Program, *ids: str) -> list[bool]:
    """Return donotemail of these contacts in Dynamics 365."""
    return [in_d365(program, id_)["donotemail"] for id_ in ids]


def modified(program: Program, id_: str) -> datetime:
    return datetime.fromisoformat(in_d365(program, id_)["modifiedon"])


def sides(program: Program, id_: str, column: str = "donotemail") -> tuple[bool, bool]:
    """Return (D365, Campaign): True for the side on which the contact is opted out."""
    return bool(in_d365(program, id_)[column]), program.profiles()[id_][MAPPINGS[column]]


def writes(program: Program, since: int = 0, began: int = 0) -> dict[str, int]:
    """Return the number of writing requests by system.

    These are PATCH, DELETE and batches of D365; POST, PATCH and DELETE of Campaign. Only requests with a serial number
    in the journal after `since` that arrived after `began`.
    """
    counts = {"d365": 0, "campaign": 0}
    for entry in program.sandbox.admin.journal(since=since):
        if entry["began"] <= began:
            continue
        if entry["system"] == "d365" and (entry["method"] in ("PATCH", "DELETE") or "$batch" in entry["path"]):
            counts["d365"] += 1
        if entry["system"] == "campaign" and entry["method"] in ("POST", "PATCH", "DELETE"):
            counts["campaign"] += 1
    return counts


def assert_quiet(program: Program) -> None:
    """Assert that a further sync writes nothing on either side. Requests of a killed sync in progress are ignored."""
    admin = program.sandbox.admin
    since, began = admin.last(), max((entry["began"] for entry in admin.journal()), default=0)
    assert program.sync().status == 0
    assert writes(program, since, began) == {"d365": 0, "campaign": 0}


HOUR = timedelta(hours=1)
