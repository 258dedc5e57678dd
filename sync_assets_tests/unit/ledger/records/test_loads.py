"""Loads by file in the ledger: which records they claim, what frees them, and who may change them."""

from collections.abc import Callable
from typing import Any

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import END_OF_TIME, Load, LoadFile, LoadState, State
from sync_assets.ledger.records.loads import MOST_REWRITES, LoadMoved
from sync_assets.ledger.storage.session import HORIZON_SECONDS
from sync_assets_tests.support.ledgers import Clock, capture, claim, guid, push, record, row, stored
from sync_assets_tests.unit.ledger.linking import NEEDED, order

NAMES = ("anna", "bea", "cleo")


def begin(ledger: Ledger, *names: str) -> Load:
    capture(ledger, *(row(name) for name in names or NAMES), complete=True)
    return ledger.loads.begin("contact", "WKF20", "imports")


def taken(ledger: Ledger, load: Load, after: int = 0) -> list[str]:
    return [one.id for one in ledger.loads.next_rows(load, after, 10, ())]


@pytest.mark.postgresql
def test_a_load_claims_first_inserts_alone_and_no_other_worker_gets_them(ledger: Ledger) -> None:
    capture(ledger, row("dora"), complete=True)
    push(ledger)
    load = begin(ledger)
    assert ledger.loads.first_inserts("contact") == 3
    assert sorted(taken(ledger, load)) == sorted(map(guid, NAMES))
    assert sorted(taken(ledger, load)) == sorted(map(guid, NAMES))  # once more, as after a kill
    assert claim(ledger) == []
    assert ledger.loads.first_inserts("contact") == 0
    assert ledger.reports.next_due("contact") is None
    assert ledger.reports.counts()["contact"].leased == 0
    [stored] = ledger.loads.all()
    assert (stored.records, stored.more, stored.state) == (3, False, LoadState.WRITING)


@pytest.mark.postgresql
def test_a_row_that_changes_in_a_load_is_due_after_it(ledger: Ledger) -> None:
    load = begin(ledger)
    taken(ledger, load)
    capture(ledger, row("anna", "b"))
    assert claim(ledger) == []
    assert ledger.reports.next_due("contact") is None
    assert ledger.loads.finish(load) == 3
    assert len(claim(ledger)) == 3
    [ended] = ledger.loads.all()
    assert (ended.state, ended.missing) == (LoadState.DONE, 3)
    assert ledger.loads.unfinished("contact") is None


def test_records_that_no_file_could_hold_are_first_inserts_no_more_once_they_were_sent(
    ledger: Ledger, clock: Clock
) -> None:
    load = begin(ledger, "anna")
    ledger.loads.leave_out(load, [one.seq for one in ledger.loads.next_rows(load, 0, 10, ())])
    ledger.loads.finish(load)
    assert ledger.loads.first_inserts("contact") == 0
    push(ledger)
    clock.advance(1)
    capture(ledger, row("dora"), row("eve"))
    assert ledger.loads.first_inserts("contact") == 2


@pytest.mark.postgresql
def test_who_read_an_older_version_changes_nothing(ledger: Ledger) -> None:
    load = begin(ledger)
    moved = ledger.loads.move(load, more=True)
    assert ledger.loads.unfinished("contact") == moved
    for change in (
        lambda: ledger.loads.move(load),
        lambda: ledger.loads.next_rows(load, 0, 10, ()),
        lambda: ledger.loads.add_file(load, LoadFile(1, "contact_1.tsv", 1, 10, 1)),
        lambda: ledger.loads.leave_out(load, []),
        lambda: ledger.loads.free_not_insertable(load),
    ):
        with pytest.raises(LoadMoved):
            change()


@pytest.mark.postgresql
def test_a_hold_has_the_files_of_a_load_written_anew_until_its_workflow_is_started(ledger: Ledger) -> None:
    load = begin(ledger)
    taken(ledger, load)
    ledger.loads.add_file(load, LoadFile(1, "contact_1.tsv", 3, 10, 3))
    load = ledger.loads.move(load, LoadState.READY)
    hold = ledger.holds.hold(guid("anna"))
    assert (hold.loading, hold.in_flight, hold.certain_at) == (1, 0, None)
    assert ledger.loads.rewrite([("contact", guid("other"))]) == []
    [load] = ledger.loads.rewrite([("contact", guid("anna"))])
    assert (load.state, ledger.loads.files("contact")) == (LoadState.WRITING, [])
    ledger.loads.free_not_insertable(load)
    assert record(ledger, "anna").state == State.HELD
    assert all(not one.loading for one in ledger.holds.related(guid("anna")))
    assert sorted(taken(ledger, load)) == sorted(map(guid, ("bea", "cleo")))
    started = ledger.loads.move(load, LoadState.STARTED, commanded_at=load.began_at)
    assert started.records == 2
    ledger.holds.hold(guid("bea"))
    assert ledger.loads.rewrite([("contact", guid("bea"))]) == []


@pytest.mark.postgresql
def test_a_record_of_a_load_is_shown_as_loading(ledger: Ledger) -> None:
    load = begin(ledger)
    taken(ledger, load)
    stored = ledger.stored.stored_record("contact", guid("anna"))
    assert stored is not None
    assert (stored.loading, stored.not_before, stored.leased_until) == (True, None, None)
    assert END_OF_TIME.year == 9999


# What happens to an order while a load has claimed it, its state then, and its state after each end of the load:
# nothing was sent; all was imported that was to be; the workflow may still import it. None: it has no record.
CHANGED: dict[str, tuple[Callable[[Ledger], Any], list[State | None]]] = {
    "unchanged": (lambda ledger: None, [State.PENDING] * 4),
    "another row": (lambda ledger: order(ledger, "anna", "b"), [State.PENDING] * 4),
    "a validation error": (  # after it was sent, its link is sent alone
        lambda ledger: order(ledger, "anna", validation_error="no"),
        [State.PENDING, State.REJECTED, State.PENDING, State.PENDING],
    ),
    "a validation error, and a parent that is not sent": (
        lambda ledger: order(ledger, "bea", validation_error="no"),
        [State.REJECTED] * 4,
    ),
    "a validation error that is corrected": (
        lambda ledger: order(ledger, "bea", validation_error="no") or order(ledger, "anna", "b"),
        [State.PENDING] * 4,
    ),
    "a hold": (lambda ledger: ledger.holds.hold(guid("anna")), [State.HELD] * 4),
    "a person who was deleted": (
        lambda ledger: ledger.holds.hold(guid("anna")) and ledger.holds.end_hold(guid("anna"), deleted=True),
        [State.EXCLUDED] * 4,
    ),
    "a parent that is not sent": (lambda ledger: order(ledger, "bea"), [State.WAITING] * 4),
    "no parent": (lambda ledger: order(ledger, None), [State.PENDING, State.ORPHANED, State.PENDING, State.PENDING]),
    "deleted": (
        lambda ledger: capture(ledger, table="order", links=[NEEDED], deleted=["order"]),
        [State.PENDING, None, State.PENDING, State.PENDING],
    ),
    "out of scope": (
        lambda ledger: capture(ledger, table="order", links=[NEEDED], out_of_scope=[guid("order")]),
        [State.PENDING, None, State.PENDING, State.PENDING],
    ),
}
ENDS: dict[str, tuple[int, Callable[[Ledger, Load], Any]]] = {
    "left out": (0, lambda ledger, load: ledger.loads.leave_out(load, [record(ledger, "order").seq])),
    "never started": (0, lambda ledger, load: ledger.loads.finish(load)),
    "imported": (1, lambda ledger, load: ledger.loads.finish(ended(ledger, load, "finished"))),
    "abandoned": (2, lambda ledger, load: ledger.loads.finish(ended(ledger, load, "abandoned"))),
    "abandoned before its start": (2, lambda ledger, load: ledger.loads.finish(ledger.loads.end(load, "abandoned"))),
}


def ended(ledger: Ledger, load: Load, how: Any) -> Load:
    return ledger.loads.end(ledger.loads.start(load._replace(rewrites=MOST_REWRITES)), how)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("change", CHANGED)
def test_a_load_frees_its_records_in_any_state(ledger: Ledger, clock: Clock, change: str, end: str) -> None:
    capture(ledger, row("anna"), complete=True)
    push(ledger)
    capture(ledger, row("bea"), complete=True)
    order(ledger, "anna", complete=True)
    load = ledger.loads.begin("order", "WKF20", "imports")
    assert taken(ledger, load) == [guid("order")]
    (changes, (during, *after)), (which, ends) = CHANGED[change], ENDS[end]
    changes(ledger)
    before = record(ledger, "order")
    assert before.state == during
    ends(ledger, load)
    assert ledger.check() == []
    if (state := after[which]) is None:
        assert guid("order") not in stored(ledger)
        return
    one = record(ledger, "order")
    sendable = state == State.PENDING
    assert (one.state, one.session, one.outcome_unknown) == (state, None, int(which > 0))
    assert (one.not_before is not None, one.unknown_until is not None) == (sendable and which == 2, which == 2)
    assert (one.reason != before.reason) == (sendable and which == 2)
    assert len(claim(ledger, table="order")) == (sendable and which < 2)
    clock.advance(HORIZON_SECONDS + 1)
    assert len(claim(ledger, "other", table="order")) == (sendable and which == 2)
