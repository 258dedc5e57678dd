"""Words for the tests of opt-outs: a program with opt-outs on, what each side says of a contact, files, what was written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sync_assets_tests.program import Program

MAPPINGS: dict[str, Any] = {"donotemail": "blackListEmail", "donotphone": "blackListPhone"}
EXPORT: dict[str, Any] = {"settle_seconds": 0}


def switch_on(program: Program, direction: str, **export: Any) -> Program:
    program.opt_out = {"direction": direction, "mappings": dict(MAPPINGS), "export": EXPORT | export}
    return program


def exports(program: Program) -> Path:
    """The folder of opt-out files, as it stands on the SFTP's disk."""
    return Path(program.sandbox.env["CAMPAIGN_SFTP_PRIVATE_KEY"]).parent / "sftp" / "d365_loads" / "exports"


def write_file(program: Program, text: str | bytes, name: str | None = None) -> str:
    """A file as an upload leaves it."""
    name = name or f"optout_{datetime.now(UTC):%Y%m%d_%H%M%S}.csv"
    (exports(program) / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


def set_d365(program: Program, id_: str, **values: bool | None) -> None:
    program.sandbox.admin.change("contact", [id_], **values)


def set_campaign(program: Program, id_: str, changed: datetime | None = None, **values: bool) -> None:
    """Somebody sets opt-outs in Campaign, now or at the time given."""
    told: dict[str, Any] = {"resource": "profile", "pkeys": [program.profiles()[id_]["PKey"]]}
    if changed is None:
        program.sandbox.admin.post("/campaign/change", told | {"set": values})
    else:
        times = {f"{name}LastModified": _time(changed) for name in values}
        program.sandbox.admin.post("/campaign/change", told | {"raw": {**values, **times}})


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}Z"


def in_d365(program: Program, id_: str) -> dict[str, Any]:
    [row] = [row for row in program.sandbox.admin.dump_d365() if row["contactid"] == id_]
    return row


def modified(program: Program, id_: str) -> datetime:
    return datetime.fromisoformat(in_d365(program, id_)["modifiedon"])


def sides(program: Program, id_: str, column: str = "donotemail") -> tuple[bool, bool]:
    """(D365, Campaign): is the contact opted out?"""
    return bool(in_d365(program, id_)[column]), program.profiles()[id_][MAPPINGS[column]]


def writes(program: Program, since: int = 0) -> dict[str, int]:
    """Requests that may have written something, by system: batches of D365, POST, PATCH and DELETE of Campaign."""
    counts = {"d365": 0, "campaign": 0}
    for entry in program.sandbox.admin.journal(since=since):
        if entry["system"] == "d365" and (entry["method"] in ("PATCH", "DELETE") or "$batch" in entry["path"]):
            counts["d365"] += 1
        if entry["system"] == "campaign" and entry["method"] in ("POST", "PATCH", "DELETE"):
            counts["campaign"] += 1
    return counts


def assert_quiet(program: Program, syncs: int = 2) -> None:
    """Further syncs write nothing on either side."""
    since = program.sandbox.admin.last()
    for _ in range(syncs):
        assert program.sync().status == 0
    assert writes(program, since) == {"d365": 0, "campaign": 0}


HOUR = timedelta(hours=1)
