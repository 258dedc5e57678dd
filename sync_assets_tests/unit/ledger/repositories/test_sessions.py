"""Sessions of workers: while one is live its claims are its own; once it has ended or expired it can do nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from sync_assets.ledger import Ledger
from sync_assets.ledger.errors import SESSION_SECONDS, SessionExpired
from sync_assets.ledger.model import Outcome
from sync_assets_tests.support.ledgers import Clock, capture, claim, guid, many, run_out, save_page, session_of, stored


def ended(ledger: Ledger) -> None:
    ledger.sessions.end(session_of(ledger, "first"))


def expired(ledger: Ledger) -> None:
    run_out(ledger, "first")


def killed(ledger: Ledger) -> None:
    assert ledger.sessions.expire(lambda worker: worker == "first") == 1


def renewed(ledger: Ledger) -> None:
    assert ledger.sessions.renew(session_of(ledger, "first"))


def untouched(ledger: Ledger) -> None:
    """Others looked, and found it in time."""
    assert ledger.sessions.expire(lambda worker: worker == "another") == 0


def may(work: Callable[[], Any]) -> bool:
    try:
        done = work()
    except SessionExpired:
        return False
    return bool(done)


@pytest.mark.parametrize(
    ("fate", "lives"),
    [(untouched, True), (renewed, True), (ended, False), (expired, False), (killed, False)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_rights_of_a_session_by_its_state(ledger: Ledger, fate: Callable[[Ledger], None], lives: bool) -> None:
    capture(ledger, page=many(4))
    capture(ledger, page=many(1), table="account")
    first = session_of(ledger, "first")
    one, other = claim(ledger, "first", limit=2)
    assert ledger.feeds.lease_feed("contact", first)
    assert ledger.limits.lease_slots("client", first, wanted=4, slots=4, total=8) == 4
    assert ledger.runs.begin("run", first)
    fate(ledger)
    before, feed = stored(ledger), ledger.feeds.feed("contact")
    assert feed
    allowed = {
        "renew": may(lambda: ledger.sessions.renew(first)),
        "claim": may(lambda: ledger.claims.claim("account", first, limit=1)),
        "claim a listed record": may(lambda: ledger.rebuilds.claim_found("contact", [guid("row3")], first)[0]),
        "acknowledge": ledger.claims.acknowledge(first, [Outcome(one.seq, "done", one.hash)]) == 1,
        "save a page": may(lambda: save_page(ledger, "contact", many(1, "b"), [], None, feed.version, session=first)),
        "capture": may(lambda: ledger.feeds.lease_feed("contact", first)),
        "send": may(lambda: ledger.limits.lease_slots("client", first, wanted=4, slots=4, total=8)),
        "begin a run": may(lambda: ledger.runs.begin("another run", first)),
    }
    assert set(allowed.values()) == {lives}, allowed
    if not lives:
        assert stored(ledger) == before
    # What it held is free for others, as uncertain, exactly if it does not live.
    second = session_of(ledger, "second")
    assert (other.seq in {record.seq for record in claim(ledger, "second")}) is not lives
    assert ledger.feeds.lease_feed("contact", second) is not lives
    assert ledger.limits.lease_slots("other client", second, wanted=8, slots=8, total=8) == (4 if lives else 8)
    assert (ledger.runs.heartbeats()["run"].worker == "first") is lives


def test_a_session_is_overdue_by_the_clock_of_the_database(ledger: Ledger, clock: Clock) -> None:
    session_of(ledger, "first")
    clock.advance(SESSION_SECONDS + 1)
    assert ledger.sessions.expire() == (1 if ledger.database.sqlite else 0)


@pytest.mark.postgresql
def test_a_session_that_is_storing_does_not_expire(ledger: Ledger) -> None:
    """On SQLite nobody can write meanwhile."""
    if ledger.database.sqlite:
        return
    first = session_of(ledger, "first")
    with ledger.database.read() as connection:
        live = sa.text("SELECT epoch FROM sync_session WHERE epoch = :epoch FOR KEY SHARE")
        connection.execute(live, {"epoch": first})
        assert ledger.sessions.expire(lambda worker: True) == 0
        assert ledger.sessions.renew(first)
    assert ledger.sessions.expire(lambda worker: True) == 1


def test_a_later_session_has_a_higher_epoch_and_none_is_used_twice(ledger: Ledger, clock: Clock) -> None:
    epochs: list[int] = []
    for n in range(5):
        epochs.append(ledger.sessions.open(f"worker {n}"))
        ledger.sessions.end(epochs[-1])
        clock.advance(2 * 86_400)
    assert epochs == sorted(set(epochs))


@pytest.mark.postgresql
def test_the_number_of_the_ledger_rises_with_sessions_renewals_and_claims(ledger: Ledger) -> None:
    seen: list[int] = []
    ledger.remember_numbers(seen.append)
    before = ledger.sessions.number()
    session = session_of(ledger)
    capture(ledger, page=many(1))
    assert claim(ledger)
    assert claim(ledger) == []
    ledger.sessions.renew(session)
    assert seen == [before + 1, before + 2, before + 3]
    assert ledger.sessions.number() == before + 3
    ledger.sessions.raise_number(before + 2)
    assert ledger.sessions.number() == before + 3
    ledger.sessions.raise_number(before + 100)
    assert ledger.sessions.number() == before + 100
