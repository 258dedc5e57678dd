"""Loads by file in tests: configuration, short waits, what import workflows did, nothing inserted twice."""

import csv
import gzip
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from sync_assets.bulk_load import load_run
from sync_assets_tests.support.program import Program

WORKFLOWS = {"contact": "WKF20", "new_order": "WKF21", "new_orderline": "WKF22"}
SHORT = {"FIRST_LOOK": 0.02, "QUEUED_SECONDS": 0.3, "WAITS_SECONDS": 0.3, "LIST_SECONDS": 0.3}
"""Seconds of load_run by name."""
MOMENT = 1 / 3600
"""Hours: one second."""


def shorten(setattr_: Any) -> None:
    """Shorten the waits for a workflow. setattr_: that of a monkeypatch."""
    for name, seconds in SHORT.items():
        setattr_(load_run, name, seconds)


def by_file(program: Program, above: int = 10, **settings: Any) -> Program:
    """Let tables go by file beyond `above` first inserts."""
    tables = [program.table["table"], *(table["table"] for table in program.further)]
    program.bulk_load = {"above": above, "workflows": {table: WORKFLOWS[table] for table in tables}} | settings
    return program


def inserted(program: Program, workflow: str = "WKF20") -> list[int]:
    """Return the number of records that each run of a workflow inserted."""
    return [run["inserted"] for run in program.sandbox.admin.import_runs(workflow)]


def loads(program: Program) -> list[dict[str, Any]]:
    return program.json("loads")[1]["loads"]


def folder(program: Program) -> Path:
    """Return the folder of imports on the disk of the SFTP server."""
    return Path(program.sandbox.env["CAMPAIGN_SFTP_PRIVATE_KEY"]).parent / "sftp" / "d365_loads" / "imports"


def on_sftp(program: Program) -> list[str]:
    """Return the names of the files in the folder of imports, also of hidden ones."""
    return sorted(path.name for path in folder(program).glob("*"))


def assert_each_inserted_once(program: Program) -> None:
    """Both systems are equal, the ledger agrees with itself, and nothing was inserted twice: by a workflow or REST."""
    program.assert_in_step()
    posts = Counter(
        entry["key"]
        for entry in program.sandbox.admin.journal("campaign")
        if entry["method"] == "POST" and entry["status"] == 201 and entry.get("key")
    )
    assert max(posts.values(), default=1) == 1
    assert posts.total() + sum(inserted(program)) == len(program.profiles())
    with closing(program.runtime()) as runtime:
        assert runtime.ledger.check() == []


Moment = Literal["before its import", "after its import"]
"""Where a load stops: its files are written, and the workflow has imported none of them, or all."""
_TROUBLES: dict[Moment, dict[str, Any]] = {
    "before its import": {"trouble": "never_starts"},
    "after its import": {"trouble": "pauses", "at": 1, "rows_per_second": 500},
}


def stop_load(program: Program, moment: Moment, workflow: str = "WKF20", **settings: Any) -> None:
    """Begin a load of all tables beyond 10 first inserts, of which this workflow's stops at a moment."""
    program.sandbox.admin.configure_import(workflow, **_TROUBLES[moment], **settings)
    assert by_file(program).sync().status == 2
    assert sum(inserted(program, workflow)) == (0 if moment == "before its import" else loads(program)[-1]["records"])


def let_load_go_on(program: Program, workflow: str = "WKF20") -> None:
    """Let the workflow of a stopped load end."""
    admin = program.sandbox.admin
    admin.configure_import(workflow, trouble=None, rows_per_second=500)
    if admin.get("/campaign/imports")[workflow]["status"] == "warning":
        admin.post("/campaign/workflows", {"id": workflow, "status": "started"})


def empty_columns(program: Program, *names: str) -> None:
    """Empty columns of the files of a stopped load, as a workflow does that has no line for them."""
    for path in folder(program).glob("*.tsv.gz"):
        columns = csv.reader(gzip.decompress(path.read_bytes()).decode().splitlines(), "excel-tab")
        header, *lines = columns
        emptied = [["" if name in names else cell for name, cell in zip(header, line, strict=True)] for line in lines]
        text = "".join("\t".join(line) + "\n" for line in [header, *emptied])
        path.write_bytes(gzip.compress(text.encode()))
