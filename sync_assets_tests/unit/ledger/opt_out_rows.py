"""Make statements of both systems about opt-outs, and read the stored rows."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import polars as pl

from sync_assets.ledger import Ledger
from sync_assets.ledger.repositories.opt_out_decisions import OptOutDecision
from sync_assets.ledger.rules import opt_outs as rules
from sync_assets.ledger.rules.opt_outs import OptOutRow, OptOutState, Stated
from sync_assets_tests.support.ledgers import capture, guid, push, row

EMAIL, PUSH = "blackListEmail", "blackListPushnotification"
ATTRIBUTES = [EMAIL, PUSH]
THEN = datetime(2026, 11, 20, 8, 30, 15, 123_000, tzinfo=UTC)
SAID = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
SETTLED, DECIDE, TO_D365, TO_CAMPAIGN, REJECTED = OptOutState

Statement = tuple[str, bool | None, datetime | None]
"""Name of the contact, the opt-out from email and its time."""


def statements(*values: Statement, push: bool | None = None) -> pl.DataFrame:
    time = pl.Datetime("us", "UTC")
    schema = {"id": pl.String, EMAIL: pl.Boolean, f"{EMAIL}LastModified": time}
    rows = pl.DataFrame([(guid(name), value, at) for name, value, at in values], schema=schema, orient="row")
    return rows.with_columns(pl.lit(push, pl.Boolean).alias(PUSH), pl.lit(None, time).alias(f"{PUSH}LastModified"))


def state(ledger: Ledger, *values: Statement, said: datetime = SAID, push: bool | None = None) -> Counter[Stated]:
    return +ledger.opt_outs.store_stated(statements(*values, push=push), ATTRIBUTES, "file", said)


def opt_outs_page(**values: bool | None) -> pl.DataFrame:
    """What rows of Dynamics 365 say of email, by name; of push they say nothing."""
    said = [{"id": guid(name), EMAIL: value, PUSH: None} for name, value in values.items()]
    return pl.DataFrame(said, schema={"id": pl.String, EMAIL: pl.Boolean, PUSH: pl.Boolean})


def contacts(ledger: Ledger, **values: bool | None) -> None:
    capture(ledger, *[row(name) for name in values], opt_outs=opt_outs_page(**values))


def in_campaign(ledger: Ledger, *names: str) -> None:
    capture(ledger, *[row(name) for name in names])
    push(ledger)


def stored(ledger: Ledger, name: str, attribute: str = EMAIL) -> OptOutRow | None:
    return next((one for one in ledger.opt_outs.of([guid(name)]) if one.attribute == attribute), None)


def there(ledger: Ledger, name: str, attribute: str = EMAIL) -> OptOutRow:
    stored_row = stored(ledger, name, attribute)
    assert stored_row is not None
    return stored_row


def due(ledger: Ledger, state: OptOutState = DECIDE, **how: Any) -> list[OptOutRow]:
    return [one for rows in ledger.opt_outs.due(state, ATTRIBUTES, **how).values() for one in rows]


def decided(one: OptOutRow, state: OptOutState, value: int = 1) -> OptOutRow:
    """Dynamics 365 holds the opposite of what is to be written there, and so does Campaign."""
    held = {TO_D365: (value, 1 - value), TO_CAMPAIGN: (1 - value, value), SETTLED: (value, value)}[state]
    return rules.after_decision(one, value=value, state=state, campaign=(held[0], None), d365=(held[1], 1), now=2)


def decide(ledger: Ledger, state: OptOutState, value: int = 1) -> list[OptOutRow]:
    """All that is due is decided alike; as it stands then."""
    return ledger.opt_outs.put([decided(one, state, value) for one in due(ledger)])


def decision(name: str, reason: str = "an opt-out wins") -> OptOutDecision:
    return OptOutDecision(
        guid(name), "donotemail", EMAIL, True, THEN, None, None, True, "campaign", reason, "file", THEN
    )
