"""What may become of opt-out files on the SFTP, by whole runs: growing, late, odd, written again, and what is done with
those that are done."""

import gzip
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_assets.cli import sync_runs as operations
from sync_assets.ledger.repositories.opt_out_files import FileState
from sync_assets.opt_out.export import folder as files
from sync_assets_tests.support.opt_outs import (
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


# --- files that are still being written -----------------------------------------------------------------------------


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


# --- names and kinds ------------------------------------------------------------------------------------------------

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


# --- what becomes of files that are done ----------------------------------------------------------------------------


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
