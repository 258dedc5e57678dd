"""The ledger's part in files of attributes that Campaign refuses in updates: which records, and what is stored."""

from collections.abc import Sequence

import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import HELD_NOT_KNOWN, Load, LoadState
from sync_assets.ledger.records.loads import LoadMoved
from sync_assets_tests.support.ledgers import Clock, guid, push
from sync_assets_tests.unit.ledger.records.test_refusable import AWAY, HOME, NAMES, read, send

pytestmark = pytest.mark.postgresql


def in_step_but_for(ledger: Ledger) -> Load:
    """Let all records but `home` differ, put one of them on hold, and begin a load."""
    read(ledger, dict.fromkeys(NAMES.values(), HOME), "a")
    push(ledger)
    read(ledger, {name: HOME if name == "home" else AWAY for name in NAMES.values()}, "b")
    send(ledger, {})
    ledger.holds.hold(guid("none"))
    return ledger.loads.begin("contact", "WKF30", "d365_loads/imports", "update")


def named(found: Sequence[tuple[int, str]]) -> list[str]:
    return sorted(NAMES[id_] for _, id_ in found)


def hashes(ledger: Ledger) -> dict[int, bytes]:
    states = ledger.audits.states("contact", list(NAMES)).values()
    return {state.seq: state.hash for state in states if state.hash}


def test_a_file_takes_records_that_differ_and_are_of_no_person_under_a_hold(ledger: Ledger) -> None:
    in_step_but_for(ledger)
    found = ledger.loads.in_step_but_for("contact", limit=9)
    assert (named(found), ledger.loads.count_but_for("contact")) == (["away", "lost"], 2)
    assert ledger.loads.in_step_but_for("contact", found[0][0], 9) == found[1:]


def test_a_record_counts_as_not_known_before_it_is_written_unless_it_has_changed(ledger: Ledger) -> None:
    load = in_step_but_for(ledger)
    changed = next(seq for seq, id_ in ledger.loads.in_step_but_for("contact", limit=9) if id_ != guid("away"))
    sent = ledger.loads.mark_sent(load, hashes(ledger) | {changed: b"another"})
    assert len(sent) == 1
    assert named(ledger.loads.in_step_but_for("contact", limit=9, sent=True)) == ["away"]
    held = ledger.audits.states("contact", [guid("away")])[guid("away")].held_refusable
    assert held == HELD_NOT_KNOWN


def test_a_hold_since_its_file_began_lets_a_load_write_the_file_anew_once(ledger: Ledger, clock: Clock) -> None:
    load = ledger.loads.write_anew(in_step_but_for(ledger), "contactId\tcity")
    ready = ledger.loads.move(load, LoadState.READY)
    ledger.holds.hold(guid("lost"))
    again = ledger.loads.start(ready)
    assert (again.state, again.commanded_at) == (LoadState.WRITING, None)
    with pytest.raises(LoadMoved):
        ledger.loads.mark_sent(ready, {})
    clock.advance(1)
    anew = ledger.loads.write_anew(again, again.columns)
    assert ledger.loads.start(ledger.loads.move(anew, LoadState.READY)).state == LoadState.STARTED


def test_two_loads_of_a_table_in_a_second_have_names_in_their_order(ledger: Ledger) -> None:
    names: list[str] = []
    for _ in range(3):
        load = ledger.loads.begin("contact", "WKF30", "d365_loads/imports", "update")
        ledger.loads.finish(load)
        names.append(load.name)
    assert names == sorted(set(names))
    assert ledger.loads.last("contact") is None
    last = ledger.loads.last("contact", "update")
    assert last
    assert last.name == names[-1]
