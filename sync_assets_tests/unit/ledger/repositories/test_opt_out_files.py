"""Files of opt-outs: what the looks at the folder found, and which files are done."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.opt_out_files import FileState, OptOutFile
from sync_assets_tests.support.ledgers import Clock

THEN = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
MONDAY = ("optout_20261123.csv", THEN - timedelta(days=1), 1_000)
TUESDAY = ("optout_20261124.csv", THEN, 2_000)

Listed = tuple[str, datetime, int]


def look(ledger: Ledger, *listed: Listed) -> dict[str, OptOutFile]:
    result = ledger.opt_out_files.note_files(listed)
    assert len({file.name for file in result}) == len(result) == len(listed)
    return {file.name: file for file in result}


def look_at(ledger: Ledger, listed: Listed) -> OptOutFile:
    return look(ledger, listed)[listed[0]]


def test_a_partition_key_is_one_that_dagster_takes() -> None:
    moment = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)
    file = OptOutFile("optout_a...b.csv", moment, 10, moment, moment)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("files", [file.partition])
        assert instance.get_dynamic_partitions("files") == ["optout_a…b.csv@261124T040000Z"]


def test_a_file_is_first_seen_and_then_looked_at_again(ledger: Ledger, clock: Clock) -> None:
    first = look_at(ledger, TUESDAY)
    assert first == OptOutFile(*TUESDAY, seen_at=clock.now, looked_at=clock.now)
    since = clock.now
    clock.advance(60)
    assert look_at(ledger, TUESDAY) == OptOutFile(*TUESDAY, seen_at=since, looked_at=clock.now)


def test_files_come_the_oldest_first(ledger: Ledger) -> None:
    twin = ("a_twin.csv", THEN, 9_000)
    assert [file.name for file in ledger.opt_out_files.note_files([TUESDAY, twin, MONDAY])] == [
        MONDAY[0],
        twin[0],
        TUESDAY[0],
    ]
    assert [file.name for file in ledger.opt_out_files.files()] == [MONDAY[0], twin[0], TUESDAY[0]]


@pytest.mark.postgresql
@pytest.mark.parametrize("grown", [(TUESDAY[0], THEN, 2_001), (TUESDAY[0], THEN + timedelta(seconds=1), 2_000)])
def test_a_file_that_is_still_written_is_another_one_at_each_look(ledger: Ledger, clock: Clock, grown: Listed) -> None:
    look(ledger, TUESDAY)
    clock.advance(60)
    assert look_at(ledger, grown) == OptOutFile(*grown, seen_at=clock.now, looked_at=clock.now)
    assert ledger.opt_out_files.files() == [look_at(ledger, grown)]


def test_a_file_that_went_before_it_was_taken_is_forgotten(ledger: Ledger, clock: Clock) -> None:
    look(ledger, MONDAY, TUESDAY)
    look(ledger, TUESDAY)
    clock.advance(60)
    assert look(ledger, MONDAY, TUESDAY)[MONDAY[0]].seen_at == clock.now


@pytest.mark.postgresql
def test_a_file_that_is_done_stays_done(ledger: Ledger, clock: Clock) -> None:
    file = look_at(ledger, TUESDAY)
    clock.advance(5)
    ledger.opt_out_files.end_file(file, {"files_processed": 1, "rejected_rows": 3})
    done_at = clock.now
    clock.advance(60)
    for result in (look_at(ledger, TUESDAY), ledger.opt_out_files.files()[0]):
        assert (result.state, result.done_at, result.reason) == (FileState.DONE, done_at, None)
    assert ledger.counts.numbers("opt_outs", clock.now.date()) == {"files_processed": 1, "rejected_rows": 3}


def test_a_file_that_is_done_is_remembered_when_it_went(ledger: Ledger) -> None:
    ledger.opt_out_files.end_file(look_at(ledger, MONDAY), {})
    assert list(look(ledger, TUESDAY)) == [TUESDAY[0]]
    assert [file.name for file in ledger.opt_out_files.files()] == [MONDAY[0], TUESDAY[0]]
    assert look(ledger, MONDAY, TUESDAY)[MONDAY[0]].state == FileState.DONE


def test_the_same_name_written_again_is_another_file(ledger: Ledger) -> None:
    first = look_at(ledger, TUESDAY)
    ledger.opt_out_files.end_file(first, {})
    again = look_at(ledger, (TUESDAY[0], THEN + timedelta(days=1), TUESDAY[2]))
    assert again.state == FileState.SEEN
    assert again.partition != first.partition
    assert [file.state for file in ledger.opt_out_files.files()] == [FileState.DONE, FileState.SEEN]


def test_a_file_that_went_while_it_was_taken_is_done_all_the_same(ledger: Ledger) -> None:
    file = look_at(ledger, TUESDAY)
    look(ledger)
    ledger.opt_out_files.end_file(file, {})
    assert [one.state for one in ledger.opt_out_files.files()] == [FileState.DONE]


def test_a_file_of_no_use_stands_with_the_reason_until_it_is_retried(ledger: Ledger, clock: Clock) -> None:
    ledger.opt_out_files.end_file(look(ledger, MONDAY, TUESDAY)[MONDAY[0]], {})
    ledger.opt_out_files.end_file(look(ledger, MONDAY, TUESDAY)[TUESDAY[0]], {}, "no column `externalId`")
    refused = look(ledger, MONDAY, TUESDAY)[TUESDAY[0]]
    assert (refused.state, refused.reason) == (FileState.REJECTED, "no column `externalId`")
    assert ledger.opt_out_files.retry_files() == 1
    waiting = look(ledger, MONDAY, TUESDAY)[TUESDAY[0]]
    assert (waiting.state, waiting.reason, waiting.done_at) == (FileState.SEEN, None, None)
    assert ledger.opt_out_files.retry_files() == 0
    assert ledger.counts.numbers("opt_outs", clock.now.date()) == {}
