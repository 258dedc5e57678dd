"""What may stand in an opt-out file, by whole runs: every way to write it, what is refused as a whole, and bad rows."""

import gzip
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import dagster as dg
import pytest

from sync_assets.commands.retry import retry
from sync_assets.commands.status import status
from sync_assets.ledger.repositories.opt_out_files import FileState
from sync_assets_tests.support.opt_outs import (
    EARLIER,
    HEADER,
    checks,
    exports,
    known_files,
    opted_out,
    rejected_rows,
    says,
    write_file,
)
from sync_assets_tests.support.program import Program

DIRECTION, CONTACTS = "campaign_to_d365", 80


@pytest.fixture
def program(installed: Program) -> Program:
    return installed


ROW = says("11111111-2222-4333-8444-555555555555")
GOOD = (HEADER + ROW * 400).encode()
OF_NO_USE: dict[str, tuple[bytes, str]] = {
    "optout_cut_off.csv.gz": (gzip.compress(GOOD)[:-20], "The zipped file is cut off."),
    "optout_no_header.csv": (ROW.encode() * 3, "are missing in the header"),
}
"""Every reason: unit/opt_out/export/test_rows.py."""


def test_a_rejected_file_is_reported_delays_no_other_and_is_read_once_corrected(
    program: Program, ids: Iterator[str]
) -> None:
    id_, other = next(ids), next(ids)
    for name, (content, _) in OF_NO_USE.items():
        write_file(program, content, name)
    last = write_file(program, HEADER + says(id_), "optout_zz_last.csv")
    done = program.sync()
    assert (done.status, done.problems) == (2, [])
    counts = done.document["opt_out"]
    assert (counts["files_processed"], counts["files_rejected"], counts["files_waiting"]) == (1, len(OF_NO_USE), 0)
    assert opted_out(program, id_) == [True]
    assert known_files(program)[last].state is FileState.DONE
    for name, (_, says_) in OF_NO_USE.items():
        reason = str(known_files(program)[name].reason)
        assert says_ in reason, name
        assert any(name in line and reason in line for line in done.stopped), name

    since = program.sandbox.admin.last()
    again = program.sync()  # is told again, and not read again
    assert again.status == 2
    assert all(any(name in line for line in again.stopped) for name in OF_NO_USE)
    assert "read" not in [entry["method"] for entry in program.sandbox.admin.journal("sftp", since)]
    with closing(program.runtime()) as runtime:
        assert retry(runtime, "contact", None)["retried"] == len(OF_NO_USE)
        assert status(runtime).opt_out.files_waiting == len(OF_NO_USE)
    assert program.sync().document["opt_out"]["files_rejected"] == len(OF_NO_USE)
    assert [entry["method"] for entry in program.sandbox.admin.journal("sftp", since)].count("read") == len(OF_NO_USE)

    put_right, removed = OF_NO_USE
    write_file(program, gzip.compress((HEADER + says(other)).encode()), put_right)
    (exports(program) / removed).unlink()
    right = program.sync()
    assert (right.status, right.stopped, right.document["opt_out"]["files_processed"]) == (0, [], 1)
    assert opted_out(program, other) == [True]


CANARIES = ["kanarienvogel", "canary.bird@cage.example", "Quillfirst", "gestern-kanari"]


def test_bad_rows_are_kept_with_line_and_reason_and_the_others_go_on(program: Program, ids: Iterator[str]) -> None:
    first, second, third, last = (next(ids) for _ in range(4))
    rows = [
        says(first),
        says(CANARIES[1]),
        says(second, CANARIES[0]),
        says(third, 1, CANARIES[3]),
        says(third, 1, "2031-01-01T00:00:00.000Z"),
        f"{third},1,{EARLIER},,,{CANARIES[2]}\n",
        f'{third},1,{EARLIER},,"{CANARIES[2]}\n',
        says(""),  # a profile that does not come from Dynamics 365
        says(last),
    ]
    name = write_file(program, HEADER + "".join(rows), "optout_bad_rows.csv")
    done = program.sync()
    assert (done.status, done.problems) == (2, [])
    assert (done.document["opt_out"]["files_processed"], done.document["opt_out"]["rejected_rows"]) == (1, 6)
    assert opted_out(program, first, second, third, last) == [True, False, False, True]
    kept = rejected_rows(program, name)
    assert [(row["line"], row["id"]) for row in kept] == [
        (3, None), (4, second), (5, third), (6, third), (7, third), (8, third)
    ]  # fmt: skip
    reasons = [str(row["reason"]) for row in kept]
    for reason, says_ in zip(
        reasons,
        ("is no GUID", "`blackListEmail` is none of", "is no time", "lies in the future", "6 fields", "quote"),
        strict=True,
    ):
        assert says_ in reason
    result = checks()
    assert result["the_file_can_be_read"].passed
    every_row = result["every_row_is_valid"]
    assert (every_row.passed, every_row.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (every_row.description or "").startswith("6 of 9 rows were rejected; the others are processed.")
    shown: Any = every_row.metadata["first_rows"].value
    assert [record.data["line"] for record in shown.records] == ["3", "4", "5", "6", "7", "8"]
    assert program.sync().status == 0  # they are told once


def test_doctor_shows_the_opt_outs_of_a_sample_and_stores_none(program: Program, ids: Iterator[str]) -> None:
    mine, unknown, since = next(ids), "11111111-2222-4333-8444-555555555555", program.sandbox.admin.last()
    path = program.home / "optout_sample.csv"
    path.write_text(f"{HEADER}{says(mine)}{says(unknown, 0)}somebody@example.org,1,,,\n", encoding="utf-8")
    status, output, errors = program.run("doctor", "--file", str(path))
    assert (status, errors) == (0, "")
    assert output.splitlines() == [
        f"line 2  {mine[:8]}…  taken: blackListEmail true (2026-11-01T10:00:00Z)",
        "line 3  11111111…  taken: blackListEmail false (2026-11-01T10:00:00Z)",
        "line 4  -  rejected: `externalId` is no GUID",
        "3 rows: 2 taken (of 2 different ids), 0 without an id, 1 rejected; times in the layout xml",
        "rejected, 1 row: `externalId` is no GUID",
        "blackListEmail: 1 true, 1 false, 0 empty",
        "blackListPhone: 0 true, 0 false, 2 empty",
        "unknown: 1 of 2 ids are no contact in Dynamics 365",
        "columns not used: none",
    ]
    document = program.json("doctor", "--file", str(path))[1]
    assert (document["rows"], document["unknown_ids"], document["warnings"]) == (3, 1, [])
    assert "somebody" not in json.dumps(document)
    assert not [entry for entry in program.sandbox.admin.journal(since=since) if entry["system"] == "campaign"]
    assert opted_out(program, mine) == [False]
