"""Opt-out files on the SFTP, by whole runs: growing, late, odd, written again; what is in one; what becomes of it."""

import gzip
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sync_assets.cli import sync_runs as operations
from sync_assets.commands.retry import retry
from sync_assets.commands.status import status
from sync_assets.ledger.repositories.opt_out_files import FileState
from sync_assets.opt_out.export import folder as files
from sync_assets_tests.support.opt_outs import (
    EARLIER,
    HEADER,
    checks,
    exports,
    known_files,
    opted_out,
    rejected_rows,
    says,
    switch_on,
    while_slow,
    write_file,
)
from sync_assets_tests.support.program import Program

DIRECTION, CONTACTS = "campaign_to_d365", 80


@pytest.fixture
def program(installed: Program) -> Program:
    return installed


def taken(program: Program) -> int:
    """A sync that has nothing to complain of; how many files it took."""
    done = program.sync()
    assert (done.status, done.problems, done.stopped) == (0, [], [])
    return done.document["opt_out"]["files_processed"]


def test_a_file_that_goes_on_growing_is_left_for_the_next_sync_and_all_else_is_done(
    program: Program, ids: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert operations.SETTLING_SECONDS == 60.0
    monkeypatch.setattr(operations, "SETTLING_SECONDS", 2.0)
    switch_on(program, "campaign_to_d365", settle_seconds=2)
    mine, growing = next(ids), next(ids)
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    write_file(program, HEADER + says(mine), "optout_20261101_000000.csv", modified=an_hour_ago)
    path = exports(program) / "optout_20261102_000000.csv"
    ended = threading.Event()

    def upload() -> None:
        with path.open("w", buffering=1) as file:
            file.write(HEADER)
            while not ended.wait(0.3):
                file.write(says(growing))

    writer = threading.Thread(target=upload)
    writer.start()
    started = time.monotonic()
    try:
        done = program.sync()
    finally:
        ended.set()
        writer.join()
    assert time.monotonic() - started < 120
    assert done.status == 2
    assert done.stopped == [f"{path.name}: still being written after 4 s; left for the next sync."]
    assert done.document["opt_out"]["files_waiting"] == 1
    assert opted_out(program, mine, growing) == [True, False]
    assert taken(program) == 1
    assert opted_out(program, mine, growing) == [True, True]


def test_sync_says_which_file_it_waits_for_and_for_how_long_before_it_waits(
    program: Program, ids: Iterator[str]
) -> None:
    switch_on(program, "campaign_to_d365", settle_seconds=3)
    mine, old = next(ids), next(ids)
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    write_file(program, HEADER + says(old), "optout_old.csv", modified=an_hour_ago)
    write_file(program, HEADER + says(mine), "optout_new.csv")
    result: list[tuple[str, list[bool]]] = []
    runtime = program.runtime(announce=lambda text: result.append((text, opted_out(program, mine))))
    assert program.sync(runtime).document["opt_out"]["files_processed"] == 2
    [(text, before)] = result
    assert re.fullmatch(r"Waiting [1-4] s for optout_new\.csv to settle; longer if it is still being written\.", text)
    assert before == [False]
    assert opted_out(program, mine) == [True]


ODD_NAMES = [
    "optout_with blanks in it.csv",
    "optout_'single' and \"double\" quotes.csv",
    "optout_Übergröße_日本語.csv",
    "optout_-rf *;$(id)`id`.csv",
    "optout_..%2f..%2fetc.csv",
    "optout_a...b.csv",
    "optout_a@2026-11-24T10:00:00Z.csv",
    "optout_\\..\\c.csv",
    f"optout_{'long' * 60}.csv.gz",
]


def test_odd_names_are_names_like_any_other(program: Program, ids: Iterator[str]) -> None:
    mine = [next(ids) for _ in ODD_NAMES]
    for name, id_ in zip(ODD_NAMES, mine, strict=True):
        text = (HEADER + says(id_) + says("not-an-id")).encode()
        write_file(program, gzip.compress(text) if name.endswith(".gz") else text, name)
    done = program.sync()
    counts = done.document["opt_out"]
    assert (counts["files_processed"], counts["rejected_rows"], done.stopped) == (len(ODD_NAMES), len(ODD_NAMES), [])
    assert opted_out(program, *mine) == [True] * len(mine)
    for name in ODD_NAMES:
        assert [row["line"] for row in rejected_rows(program, name)] == [3]
    assert taken(program) == 0


def test_an_entry_that_is_no_plain_file_is_skipped_and_reported(
    program: Program, ids: Iterator[str], tmp_path: Path
) -> None:
    id_, outside = next(ids), tmp_path / "outside.csv"
    outside.write_text(HEADER + says(id_))
    folder = exports(program)
    (folder / "optout_link.csv").symlink_to(outside)
    (folder / "optout_within.csv").symlink_to(folder / "elsewhere.csv")
    (folder / "elsewhere.csv").write_text(HEADER + says(id_))
    (folder / "optout_folder.csv").mkdir()
    (folder / "optout_\n2.csv").write_text(HEADER + says(id_))
    since = program.sandbox.admin.last()
    done = program.sync()
    assert (done.status, done.problems, done.document["opt_out"]["files_processed"]) == (0, [], 0)
    result = "\n".join(done.stopped)
    assert result.count("passed over") == 4
    for what in ("a symbolic link", "a folder", "control characters"):
        assert what in result
    assert "\n2.csv" not in result
    assert [entry for entry in program.sandbox.admin.journal("sftp", since) if entry["method"] == "read"] == []
    assert opted_out(program, id_) == [False]


def listed(program: Program) -> list[str]:
    return sorted(str(path.relative_to(exports(program))) for path in exports(program).rglob("*") if path.is_file())


def test_done_files_are_kept_until_they_are_too_old_and_no_other_is_removed(
    program: Program, ids: Iterator[str]
) -> None:
    switch_on(program, "campaign_to_d365", keep_days=2)
    days = timedelta(days=1)
    now = datetime.now(UTC)
    write_file(program, HEADER + says(next(ids)), "optout_young.csv", modified=now - 1 * days)
    write_file(program, HEADER + says(next(ids)), "optout_old.csv", modified=now - 3 * days)
    write_file(program, "of no use", "optout_broken.csv", modified=now - 3 * days)
    write_file(program, "somebody else's", "other.csv", modified=now - 3 * days)
    assert program.sync().document["opt_out"]["files_processed"] == 2
    assert listed(program) == ["optout_broken.csv", "optout_young.csv", "other.csv"]


def test_done_files_are_archived_and_the_archive_is_pruned(program: Program, ids: Iterator[str]) -> None:
    switch_on(program, "campaign_to_d365", after="archive", keep_days=2)
    first, second = next(ids), next(ids)
    name = write_file(
        program, HEADER + says(first), "optout_daily.csv", modified=datetime.now(UTC) - timedelta(minutes=1)
    )
    write_file(program, "of no use", "optout_broken.csv")
    assert program.sync().document["opt_out"]["files_processed"] == 1
    assert listed(program) == ["archive/optout_daily.csv", "optout_broken.csv"]
    write_file(program, HEADER + says(second), name)
    assert program.sync().document["opt_out"]["files_processed"] == 1
    kept = listed(program)
    assert len(kept) == 3
    assert all(path.startswith("archive/optout_daily.csv") for path in kept[:2])
    old = time.time() - 3 * 86_400
    os.utime(exports(program) / kept[0], (old, old))
    program.sync()
    assert listed(program) == kept[1:]


def test_a_file_that_changes_while_it_is_read_is_taken_when_it_has_settled(
    program: Program, ids: Iterator[str]
) -> None:
    first, second = next(ids), next(ids)
    path = exports(program) / write_file(program, HEADER + says(first), "optout_late_change.csv")
    whole = HEADER + says(first) + says(second)
    meanwhile = while_slow(program, lambda: path.write_text(whole), system="sftp", path=path.name, skip=1)  # to open it
    assert taken(program) == 1
    meanwhile.join()
    assert opted_out(program, first, second) == [True, True]


@pytest.mark.parametrize("after", ["delete", "archive"])
def test_a_file_that_was_written_again_is_not_removed_with_the_processed_one(
    program: Program, ids: Iterator[str], after: str
) -> None:
    first, second = next(ids), next(ids)
    path = exports(program) / write_file(program, HEADER + says(first), f"optout_race_{after}.csv")
    assert taken(program) == 1
    switch_on(program, "campaign_to_d365", after=after)
    whole = HEADER + says(first) + says(second)
    meanwhile = while_slow(program, lambda: path.write_text(whole), system="sftp", path=path.name)
    with closing(program.runtime()) as runtime:
        assert files.poll_folder(runtime, runtime.ledger).troubles == []
    meanwhile.join()
    assert path.exists()
    assert taken(program) == 1
    assert opted_out(program, first, second) == [True, True]
    assert known_files(program)[path.name].state is FileState.DONE
    assert checks()["every_row_is_valid"].passed


DIRECTION, CONTACTS = "campaign_to_d365", 80


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
    again = program.sync()  # is reported again, and not read again
    assert again.status == 2
    assert all(any(name in line for line in again.stopped) for name in OF_NO_USE)
    assert "read" not in [entry["method"] for entry in program.sandbox.admin.journal("sftp", since)]
    with closing(program.runtime()) as runtime:
        assert retry(runtime.config, runtime.ledger, "contact", None)["retried"] == len(OF_NO_USE)
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


def test_an_opt_out_with_a_time_years_ahead_is_carried(program: Program, ids: Iterator[str]) -> None:
    contact = next(ids)
    write_file(program, HEADER + says(contact, 1, "2031-01-01T00:00:00.000Z"), "optout_ahead.csv")
    assert program.sync().status == 0
    assert opted_out(program, contact) == [True]


def test_bad_rows_are_kept_with_line_and_reason_and_the_others_go_on(program: Program, ids: Iterator[str]) -> None:
    first, second, third, last = (next(ids) for _ in range(4))
    rows = [
        says(first),
        says(CANARIES[1]),
        says(second, CANARIES[0]),
        says(third, 1, CANARIES[3]),
        says(third, 1, "1999-01-01T00:00:00.000Z"),
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
        ("is no GUID", "`blackListEmail` is none of", "is no time", "lies before 2000", "6 fields", "quote"),
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
    assert program.sync().status == 0  # they are reported once


def test_doctor_shows_the_opt_outs_of_a_sample_and_stores_none(program: Program, ids: Iterator[str]) -> None:
    mine, other, since = next(ids), "11111111-2222-4333-8444-555555555555", program.sandbox.admin.last()
    path = program.home / "optout_sample.csv"
    path.write_text(f"{HEADER}{says(mine)}{says(other, 0)}somebody@example.org,1,,,\n", encoding="utf-8")
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
        "columns not used: none",
    ]
    document = program.json("doctor", "--file", str(path))[1]
    assert (document["rows"], document["warnings"]) == (3, [])
    assert "somebody" not in json.dumps(document)
    assert not program.sandbox.admin.journal(since=since), "neither system is asked"
    assert opted_out(program, mine) == [False]
