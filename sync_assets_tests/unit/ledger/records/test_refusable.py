"""Records that are in step but for attributes that Campaign refuses in updates."""

from collections.abc import Mapping

import polars as pl
import pytest

from sync_assets.ledger import Ledger
from sync_assets.ledger.model import HELD_NOT_KNOWN, Outcome
from sync_assets.ledger.report_values import ButFor
from sync_assets_tests.support.ledgers import capture, claim, frame, guid, push, row, session_of

NAMES = {guid(name): name for name in ("away", "home", "lost", "none")}
HOME, AWAY, OTHER_MARK = 0x1101, -0x21FF, 0x1102
"""Hashes of the same attributes, and one of others."""


def read(ledger: Ledger, hashes: Mapping[str, int | None], value: str) -> None:
    rows = frame([row(id_, value) for id_ in hashes])
    capture(ledger, page=rows.with_columns(pl.Series("refusable", [*hashes.values()], pl.Int64)), complete=True)


def send(ledger: Ledger, held: Mapping[str, int]) -> None:
    """Acknowledge what is pending; `held` as the push found out."""
    claimed = claim(ledger)
    done = [Outcome(one.seq, "done", one.hash, held_refusable=held.get(NAMES[one.id])) for one in claimed]
    assert ledger.claims.acknowledge(session_of(ledger), done) == len(claimed)


@pytest.mark.postgresql
def test_they_are_counted_and_listed_until_campaign_holds_the_values_of_their_rows(ledger: Ledger) -> None:
    read(ledger, {"away": HOME, "home": HOME, "lost": HOME, "none": None}, "a")
    assert ledger.reports.but_for("contact") == ButFor()  # nothing is acknowledged
    push(ledger)
    assert ledger.reports.but_for("contact") == ButFor()
    read(ledger, {"away": AWAY, "home": HOME, "lost": OTHER_MARK, "none": None}, "b")
    assert {NAMES[one.id]: (one.refusable, one.held_refusable) for one in claim(ledger)} == {
        "away": (AWAY, HOME),
        "home": (HOME, HOME),
        "lost": (OTHER_MARK, HOME),
        "none": (None, None),
    }
    ledger.claims.release("contact", session_of(ledger))
    send(ledger, {"home": HELD_NOT_KNOWN})
    assert ledger.reports.but_for("contact") == ButFor(1, 2)
    listed = ledger.reports.records_but_for("contact", 9)
    assert {NAMES[id_]: known for id_, known in listed} == {"away": True, "home": False, "lost": False}
    assert ledger.reports.records_but_for("contact", 1) == listed[:1]
    read(ledger, {"away": HOME, "home": HOME, "lost": OTHER_MARK}, "c")
    assert ledger.reports.but_for("contact") == ButFor()  # pending
    send(ledger, {"home": HOME, "lost": OTHER_MARK})
    assert ledger.reports.but_for("contact") == ButFor()
